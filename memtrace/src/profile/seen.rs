//! Who allocates blocks of which sizes, as a time of tracing has shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What was seen while processes were traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How long.
    pub traced: Duration,
    /// The stacks that hold blocks from that time, those that lose blocks first.
    pub stacks: Vec<SeenStack>,
}

/// A stack, by the function that it is blamed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenStack {
    /// The process.
    pub pid: u32,
    /// The function, demangled. It is the target's, and unescaped.
    pub function: String,
    /// Its source file and the line there, where they are known.
    pub place: Option<(String, u32)>,
    /// Sizes requested, and how many blocks of each were not freed.
    pub sizes: Vec<(u64, u64)>,
    /// Blocks of whatever size that are lost.
    pub lost: u64,
}

impl Seen {
    /// What was seen of one process.
    #[must_use]
    pub fn by(&self, pid: u32) -> Self {
        let stacks = self.stacks.iter().filter(|stack| stack.pid == pid);
        Self { traced: self.traced, stacks: stacks.cloned().collect() }
    }

    /// Who allocated blocks in a process that its allocator (`glibc`, `jemalloc`) rounds to `size`, and how many were not
    /// freed: those that lose blocks first, then the most blocks. Stacks that are blamed on one place are one.
    #[must_use]
    pub fn of(&self, pid: u32, size: u64, allocator: &str) -> Vec<(&SeenStack, u64)> {
        let mut found: Vec<(&SeenStack, u64)> = Vec::new();
        for stack in self.stacks.iter().filter(|stack| stack.pid == pid) {
            let sizes =
                stack.sizes.iter().filter(|(requested, _)| is_rounded_to(*requested, size, Some(allocator)));
            let blocks: u64 = sizes.map(|(_, blocks)| blocks).sum();
            let is_same = |(known, _): &&mut (&SeenStack, u64)| {
                (&known.function, &known.place) == (&stack.function, &stack.place)
            };
            match found.iter_mut().find(is_same) {
                Some((_, sum)) => *sum += blocks,
                None if blocks > 0 => found.push((stack, blocks)),
                None => {}
            }
        }
        found.sort_by_key(|(stack, blocks)| (stack.lost == 0, std::cmp::Reverse(*blocks)));
        found
    }
}

/// Whether an allocator makes a block of `size` usable bytes for a request; `None`: whether glibc or jemalloc does.
#[must_use]
pub fn is_rounded_to(requested: u64, size: u64, allocator: Option<&str>) -> bool {
    let is = |name| allocator.is_none_or(|allocator| allocator == name);
    (is("glibc") && usable(requested) == size) || (is("jemalloc") && class(requested) == size)
}

/// How much of its chunk a program can use, if glibc has made it for a block of that size.
fn usable(size: u64) -> u64 {
    size.saturating_add(8).checked_next_multiple_of(16).unwrap_or(u64::MAX).max(32) - 8
}

/// The size class of jemalloc that a size is rounded up to: four between two powers of two (sc.h).
fn class(size: u64) -> u64 {
    match size {
        0..=8 => 8,
        9..=128 => size.next_multiple_of(16),
        _ => {
            let step = size.saturating_sub(1).checked_ilog2().map_or(1, |log| 1 << log.saturating_sub(2));
            size.saturating_add(step - 1) / step * step
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, SeenStack, class, usable};

    #[test]
    fn sizes_are_rounded_as_allocators_do() {
        let sizes = [1, 24, 25, 129, 257, 1000, 4097];
        assert_eq!(sizes.map(usable), [24, 24, 40, 136, 264, 1000, 4104]);
        assert_eq!(sizes.map(class), [8, 32, 32, 160, 320, 1024, 5120]);
    }

    #[test]
    fn who_loses_blocks_of_a_size_comes_first() {
        let stack = |pid, function: &str, sizes: &[(u64, u64)], lost| SeenStack {
            pid,
            function: function.to_owned(),
            sizes: sizes.to_vec(),
            lost,
            ..SeenStack::default()
        };
        let stacks = vec![
            stack(1, "keep", &[(70, 50), (200, 9)], 0),
            stack(1, "forget", &[(72, 3)], 3),
            stack(1, "forget", &[(66, 2)], 1),
            stack(2, "other", &[(72, 5)], 5),
            stack(1, "large", &[(900, 7)], 7),
        ];
        let seen = Seen { stacks, ..Seen::default() };
        let of = |pid, size| -> Vec<(&str, u64)> {
            seen.of(pid, size, "glibc")
                .iter()
                .map(|(stack, blocks)| (stack.function.as_str(), *blocks))
                .collect()
        };
        assert_eq!(of(1, 72), [("forget", 5), ("keep", 50)]);
        assert_eq!(of(2, 72), [("other", 5)]);
        assert_eq!(of(1, 72 + 16), []);
    }
}
