//! Looking tracked objects up on their slabs' lists of free objects.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use aya::{Ebpf, programs::RawTracePoint};
use memtrace_common::{EVICTED_AT_ONCE, EXAMINED_AT_ONCE, Examination, Examined, PHANTOMS_AT_ONCE, Phantom};
use rustc_hash::FxHashMap;

use super::{
    layout::Layout,
    live::{LiveObject, Presence},
    possible::Possible,
};
use crate::bpf::shared::{error::Error, mapped::Mapped, object::map_fd, object::program, syscall};

/// Runs the programs that examine slabs.
pub(super) struct Examiner {
    slabs: OwnedFd,
    evict: OwnedFd,
    /// The program for what CPUs have at hand. Without it up to a slab per CPU and cache goes unseen.
    cpu: Option<OwnedFd>,
    /// The program for what nodes have at hand.
    node: Option<OwnedFd>,
    state: Mapped<Examination>,
    requests: Mapped<u64>,
    examined: Mapped<Examined>,
    phantoms: Mapped<Phantom>,
}

/// What was found.
#[derive(Default)]
struct Findings {
    /// Slabs, by address.
    slabs: Vec<Examined>,
    /// Free objects that are tracked, by key.
    phantoms: Vec<Phantom>,
}

impl Examiner {
    /// Loads the programs; `None` where this kernel's lists are of another kind, or it takes no such programs.
    pub(super) fn new(ebpf: &mut Ebpf, layout: &Layout) -> Result<Option<Self>, Error> {
        let Some(freelists) = layout.freelists else { return Ok(None) };
        let mut loaded = |name: &'static str| {
            let refused = |source| Error::Program { program: name, source };
            let program: &mut RawTracePoint = program(ebpf, name)?;
            program.load().map_err(refused)?;
            let fd = program.fd().map_err(refused)?;
            fd.as_fd().try_clone_to_owned().map_err(Error::io("duplicating a program's descriptor"))
        };
        let (slabs, evict) = (loaded("examine_slabs")?, loaded("evict")?);
        let mut optional = |name: &'static str, is_wanted: bool| {
            let program = is_wanted.then(|| loaded(name))?;
            program.inspect_err(|error| tracing::debug!("not all free objects are seen: {error}")).ok()
        };
        let cpu = optional("examine_cpu", freelists.sees_cpus());
        let node = optional("examine_node", freelists.sees_nodes());
        let fd = |name: &'static str| ebpf.map(name).and_then(map_fd).ok_or(Error::Missing(name));
        let mapping = || Error::io("mapping what is examined in kernel mode");
        Ok(Some(Self {
            slabs,
            evict,
            cpu,
            node,
            state: Mapped::writable(fd("EXAMINATION")?.as_fd(), 1).map_err(mapping())?,
            requests: Mapped::writable(fd("REQUESTS")?.as_fd(), EXAMINED_AT_ONCE).map_err(mapping())?,
            examined: Mapped::new(fd("EXAMINED")?.as_fd(), 0, EXAMINED_AT_ONCE).map_err(mapping())?,
            phantoms: Mapped::writable(fd("PHANTOMS")?.as_fd(), PHANTOMS_AT_ONCE as usize)
                .map_err(mapping())?,
        }))
    }

    /// Finds out which objects are there, and takes those out of the table that are not. `caches` says which `struct
    /// kmem_cache` the objects of a slot lie in; objects of other slots are left as they are. Those not older than
    /// `since` count as there: one handed out at the same address after it was freed would look the same. Sorts the
    /// objects by key.
    ///
    /// # Errors
    /// The kernel refuses to run a program.
    pub(super) fn examine(
        &self,
        objects: &mut [LiveObject],
        caches: &FxHashMap<u32, u64>,
        since: Duration,
    ) -> io::Result<()> {
        objects.sort_unstable_by_key(|object| object.key);
        let is_examined = |object: &&LiveObject| caches.contains_key(&object.slot());
        let mut pages: Vec<u64> =
            objects.iter().filter(is_examined).map(|object| object.key & !0xfff).collect();
        pages.dedup();
        let mut wanted: Vec<u64> = caches.values().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = Findings::default();
        write(&self.state, 0, Examination::default());
        self.run(&self.slabs, &pages, 0, &mut found)?;
        for (program, places) in [(&self.cpu, Possible::cpus().end), (&self.node, Possible::nodes().end)] {
            let Some(program) = program else { continue };
            for place in 0..places {
                self.run(program, &wanted, place, &mut found)?;
            }
        }
        found.phantoms.sort_unstable_by_key(|phantom| phantom.key);
        found.judge(objects, caches, since);
        self.evict(objects)
    }

    /// Takes objects that are gone out of the table. Whose address was handed out meanwhile stays: it is another object.
    fn evict(&self, objects: &[LiveObject]) -> io::Result<()> {
        let gone: Vec<&LiveObject> =
            objects.iter().filter(|object| object.presence == Presence::Gone).collect();
        for part in gone.chunks(EVICTED_AT_ONCE) {
            for (index, object) in part.iter().enumerate() {
                write(&self.phantoms, index, Phantom { key: object.key, value: object.value });
            }
            write(&self.state, 0, Examination { requests: part.len() as u64, ..Examination::default() });
            syscall::run(self.evict.as_fd())?;
        }
        Ok(())
    }

    /// Has a program work through requests.
    fn run(&self, program: &OwnedFd, requests: &[u64], place: u32, found: &mut Findings) -> io::Result<()> {
        let mut at = 0;
        while let Some(rest) = requests.get(at..).filter(|rest| !rest.is_empty()) {
            let part = rest.get(..EXAMINED_AT_ONCE).unwrap_or(rest);
            for (index, request) in part.iter().enumerate() {
                write(&self.requests, index, *request);
            }
            // The slab examined last is kept: the next page may lie in it.
            let last = self.state.get(0).unwrap_or_default();
            let Examination { start, end, .. } = last;
            let asked = Examination {
                requests: part.len() as u64,
                place: place.into(),
                start,
                end,
                ..Examination::default()
            };
            write(&self.state, 0, asked);
            syscall::run(program.as_fd())?;
            let state = self.state.get(0).unwrap_or_default();
            found.slabs.extend((0..state.examined as usize).filter_map(|index| self.examined.get(index)));
            found.phantoms.extend((0..state.phantoms as usize).filter_map(|index| self.phantoms.get(index)));
            if state.done == 0 {
                break;
            }
            at += state.done as usize;
        }
        Ok(())
    }
}

/// Writes an element that programs read when they are run next.
fn write<T: Copy>(map: &Mapped<T>, index: usize, value: T) {
    if let Some(pointer) = map.pointer(index) {
        // SAFETY: an element of a writable mapping; no program that uses it runs.
        unsafe { pointer.cast_mut().write_volatile(value) };
    }
}

impl Findings {
    /// Says of each object whether it is there. Both are in order of address.
    fn judge(&self, objects: &mut [LiveObject], caches: &FxHashMap<u32, u64>, since: Duration) {
        let mut slabs = self.slabs.iter().peekable();
        for object in objects {
            let Some(cache) = caches.get(&object.slot()) else { continue };
            while slabs.next_if(|slab| slab.end <= object.key).is_some() {}
            object.presence = match slabs.peek() {
                _ if object.time(since) >= since => Presence::There,
                Some(slab) if slab.start <= object.key => self.presence(object, slab, *cache),
                _ => Presence::Unknown,
            };
        }
    }

    fn presence(&self, object: &LiveObject, slab: &Examined, cache: u64) -> Presence {
        let is_phantom = self
            .phantoms
            .binary_search_by_key(&object.key, |phantom| phantom.key)
            .is_ok_and(|place| self.phantoms.get(place).is_some_and(|phantom| phantom.value == object.value));
        // The pages of its slab were given back.
        if is_phantom || slab.cache != cache {
            Presence::Gone
        } else if slab.state == Examined::WHOLE {
            Presence::There
        } else {
            Presence::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::{Examined, Phantom};
    use rustc_hash::FxHashMap;

    use super::{Duration, Findings, LiveObject, Presence};

    const CACHE: u64 = 0xffff_8880_0100_0000;

    fn judged(findings: &Findings, keys: &[u64]) -> Vec<Presence> {
        let caches: FxHashMap<u32, u64> = [(1, CACHE)].into_iter().collect();
        let mut objects: Vec<LiveObject> =
            keys.iter().map(|&key| LiveObject { key, value: 1, presence: Presence::Unknown }).collect();
        findings.judge(&mut objects, &caches, Duration::from_secs(1));
        objects.iter().map(|object| object.presence).collect()
    }

    fn slab(start: u64, end: u64, state: u64) -> Examined {
        Examined { start, end, cache: CACHE, state }
    }

    #[test]
    fn objects_on_a_list_of_free_ones_are_gone() {
        let findings = Findings {
            slabs: vec![slab(0x1000, 0x2000, Examined::WHOLE), slab(0x4000, 0x8000, Examined::WHOLE)],
            phantoms: vec![Phantom { key: 0x1100, value: 1 }, Phantom { key: 0x4000, value: 2 }],
        };
        let presences = judged(&findings, &[0x1000, 0x1100, 0x3000, 0x4000, 0x7f00]);
        let expected = [
            Presence::There,
            Presence::Gone,
            Presence::Unknown,
            // Handed out again.
            Presence::There,
            Presence::There,
        ];
        assert_eq!(presences, expected);
    }

    #[test]
    fn what_was_handed_out_during_the_examination_is_there() {
        let findings = Findings {
            slabs: vec![slab(0x1000, 0x2000, Examined::WHOLE)],
            phantoms: vec![Phantom { key: 0x1100, value: 1 }],
        };
        let caches: FxHashMap<u32, u64> = [(1, CACHE)].into_iter().collect();
        let mut object = [LiveObject { key: 0x1100, value: 1, presence: Presence::Unknown }];
        findings.judge(&mut object, &caches, Duration::ZERO);
        assert_eq!(object[0].presence, Presence::There);
    }

    #[test]
    fn of_slabs_that_changed_meanwhile_only_what_was_found_is_known() {
        let findings = Findings {
            slabs: vec![slab(0x1000, 0x2000, 0), slab(0x2000, 0x3000, Examined::WHOLE | Examined::STOCKED)],
            phantoms: vec![Phantom { key: 0x2100, value: 1 }],
        };
        let presences = judged(&findings, &[0x1000, 0x2000, 0x2100]);
        assert_eq!(presences, [Presence::Unknown, Presence::Unknown, Presence::Gone]);
    }

    #[test]
    fn objects_whose_slab_is_another_caches_now_are_gone() {
        let other = Examined { cache: 0, ..slab(0x1000, 0x2000, Examined::WHOLE) };
        let findings = Findings { slabs: vec![other], phantoms: Vec::new() };
        assert_eq!(judged(&findings, &[0x1100]), [Presence::Gone]);
    }
}
