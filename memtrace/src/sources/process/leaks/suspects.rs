//! Blocks of a running process that no scan has reached so far.
//!
//! A scan is no snapshot. While it reads, a program moves pointers from what is read later to what was read already, and
//! takes apart the lists that lead to others. What all scans together have seen is more reliable: a pointer that any of
//! them saw in a block that any of them reached. A block that was lost before the first scan is not the target of one.

use std::collections::VecDeque;

use crate::heap::Marked;

/// The suspects, and how they point to each other.
pub(in crate::sources::process) struct Suspects {
    /// Where each begins, in order.
    starts: Vec<u64>,
    /// From where to where, in order.
    pointers: Vec<(u64, u64)>,
}

impl Suspects {
    /// After the first scan. `starts`: where its lost blocks begin, of those that are decided on, in order.
    pub(in crate::sources::process) fn new(marked: &Marked, starts: Vec<u64>) -> Self {
        let mut suspects = Self { starts, pointers: Vec::new() };
        suspects.take(marked.lost_pointers());
        suspects
    }

    /// Where each begins, in order.
    pub(in crate::sources::process) fn starts(&self) -> &[u64] {
        &self.starts
    }

    pub(in crate::sources::process) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub(in crate::sources::process) fn into_starts(self) -> Vec<u64> {
        self.starts
    }

    /// After a further scan, of just these blocks. `there`: whether each still is. Returns whether any has been cleared.
    pub(in crate::sources::process) fn narrow(&mut self, marked: &Marked, there: &[bool]) -> bool {
        // The pointers of this scan count for what is cleared because of it.
        self.take(marked.lost_pointers());
        let suspects = self.starts.iter().zip(0u32..).zip(there);
        let cleared = suspects.filter(|((_, block), there)| !**there || !marked.is_lost(*block));
        let cleared = cleared.map(|((start, _), _)| *start).collect();
        self.clear(cleared)
    }

    /// Clears those that it says. Returns whether there are any.
    pub(in crate::sources::process) fn clear_those(&mut self, is_cleared: impl FnMut(&u64) -> bool) -> bool {
        let cleared = self.starts.iter().copied().filter(is_cleared).collect();
        self.clear(cleared)
    }

    /// These are reachable, or gone, and so is what they have pointed to in any scan.
    fn clear(&mut self, mut queue: VecDeque<u64>) -> bool {
        let mut cleared: Vec<bool> = vec![false; self.starts.len()];
        let mut any = false;
        while let Some(start) = queue.pop_front() {
            let place = self.starts.binary_search(&start).ok().and_then(|place| cleared.get_mut(place));
            let Some(place) = place.filter(|place| !**place) else { continue };
            *place = true;
            any = true;
            let from = self.pointers.partition_point(|&(source, _)| source < start);
            let pointers = self.pointers.get(from..).unwrap_or_default().iter();
            queue.extend(pointers.take_while(|(source, _)| *source == start).map(|&(_, target)| target));
        }
        let mut cleared = cleared.into_iter();
        self.starts.retain(|_| !cleared.next().unwrap_or(false));
        any
    }

    /// Adds pointers.
    fn take(&mut self, pointers: Vec<(u64, u64)>) {
        self.pointers.extend(pointers);
        let starts = &self.starts;
        let is_known = |start: &u64| starts.binary_search(start).is_ok();
        self.pointers.retain(|(source, target)| is_known(source) && is_known(target));
        self.pointers.sort_unstable();
        self.pointers.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::Suspects;

    #[test]
    fn what_a_cleared_block_has_ever_pointed_to_is_cleared() {
        let mut suspects =
            Suspects { starts: vec![16, 32, 48, 64], pointers: vec![(16, 32), (32, 48), (64, 16)] };
        assert!(!suspects.clear([80].into()));
        assert!(suspects.clear([32].into()));
        assert_eq!(suspects.starts(), [16, 64]);
        suspects.take(vec![(64, 16), (16, 48), (16, 64)]);
        assert_eq!(suspects.pointers, [(16, 64), (64, 16)]);
        assert!(suspects.clear([16].into()));
        assert!(suspects.is_empty());
    }
}
