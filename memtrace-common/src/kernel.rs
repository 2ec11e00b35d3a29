//! What kernel mode's programs and the agent share. Kernel mode has an object and maps of its own.

use crate::stack::mix;

/// The most return addresses of a kernel stack that are taken: what `bpf_get_stack` gives by default.
pub const KERNEL_FRAMES: usize = 127;

/// The most caches that are distinguished; a kernel has 100 to 300.
pub const MAX_CACHES: u32 = 1024;

/// The index for an object in no cache, or in an unknown one.
pub const NO_CACHE: u32 = 0;

/// Longest name of a cache that is kept, with its end.
pub const CACHE_NAME: usize = 32;

/// Slots behind the table of stacks: for objects whose stack found no slot of its own, one for each kind, cache and size.
/// A power of two; some hundreds are needed.
pub const NAMELESS: u32 = 2048;

/// Which of the kernel's allocators an object is from.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelKind {
    /// `kmalloc` and the caches of `kmem_cache_create`.
    Slab = 0,
    /// The page allocator.
    Page = 1,
    /// Per-CPU memory.
    Percpu = 2,
    /// Areas of virtually contiguous memory.
    Vmalloc = 3,
}

impl KernelKind {
    /// Every kind, in order of its number.
    pub const ALL: [Self; 4] = [Self::Slab, Self::Page, Self::Percpu, Self::Vmalloc];

    /// The name scripts see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slab => "slab",
            Self::Page => "page",
            Self::Percpu => "percpu",
            Self::Vmalloc => "vmalloc",
        }
    }
}

/// One stack (or whatever found no slot of its own) with objects of one size from one cache: a cache line of the array
/// `STACKS`.
///
/// All objects of a slot are of `size` bytes, so a live object needs no size of its own and an event adds to one word.
/// Outstanding is allocated minus freed minus missed minus evicted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSlot {
    /// Hash of kind, cache or size, and frames; 0 when the slot is free.
    pub hash: u64,
    /// Objects allocated.
    pub allocated: u64,
    /// Objects whose free was seen.
    pub freed: u64,
    /// Objects whose free was not seen: their address was allocated again.
    pub missed: u64,
    /// Bytes of each object as the allocator gives it out; 0 until the slot's first user has filled it in.
    pub size: u64,
    /// Index of the cache in `CACHES`, or [`NO_CACHE`].
    pub cache: u32,
    /// A [`KernelKind`].
    pub kind: u32,
    /// Whether the frames were sent to the agent.
    pub sent: u32,
    /// Zero.
    pub reserved: u32,
    /// Objects whose free was not seen: they were found among their slab's free ones.
    pub evicted: u64,
}
const _: () = assert!(size_of::<KernelSlot>() == 64);

/// A slab cache, by index.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelCache {
    /// Address of its `struct kmem_cache`.
    pub pointer: u64,
    /// Objects freed that were not tracked: from before tracing, filtered out, or allocated without a tracepoint.
    pub untracked_freed: u64,
    /// Objects allocated that a filter by task left out.
    pub untracked_allocated: u64,
    /// Whether a filter by name or size leaves it out.
    pub excluded: u64,
    /// Its name, ended by a zero byte.
    pub name: [u8; CACHE_NAME],
}
const _: () = assert!(size_of::<KernelCache>() == 64);

/// Live objects a bucket holds before the next one goes to the overflow map.
pub const OBJECTS_PER_BUCKET: usize = 7;

/// Seven live objects. Keys share a cache line, as do values.
///
/// A key is 0 (free), [`object_key`] (even: an object), or that plus 1 (an object that is being written). A value is
/// [`object_value`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ObjectBucket {
    /// Objects of this bucket that live in the overflow map.
    pub overflowed: u64,
    /// Keys.
    pub keys: [u64; OBJECTS_PER_BUCKET],
    /// Values; the eighth only fills the cache line.
    pub values: [u64; OBJECTS_PER_BUCKET + 1],
}
const _: () = assert!(size_of::<ObjectBucket>() == 128);

/// Per-CPU pointers are offsets, and may look like addresses of another kind: this bit distinguishes them.
const PERCPU_MARK: u64 = 1 << 62;

/// The key of an object: its address, or its `struct page`'s. The low bit is left for the writer's claim; no allocator
/// returns odd addresses.
#[inline(always)]
#[must_use]
pub const fn object_key(address: u64, percpu: bool) -> u64 {
    (if percpu { address ^ PERCPU_MARK } else { address }) & !1
}

/// The address in a key.
#[inline(always)]
#[must_use]
pub const fn object_address(key: u64, percpu: bool) -> u64 {
    if percpu { key ^ PERCPU_MARK } else { key }
}

/// Stack's slot and time of allocation (as in [`crate::TIME_SHIFT`]) in one word, which cannot tear.
#[inline(always)]
#[must_use]
pub const fn object_value(slot: u32, time: u32) -> u64 {
    slot as u64 | (time as u64) << 32
}

/// The value of an object that is being taken out of the table because it was found to be free.
pub const EVICTED: u64 = u64::MAX;

/// The bucket of a key. Eight small objects share a cache line, so all bits above the alignment are mixed.
#[inline(always)]
#[must_use]
pub const fn object_bucket(key: u64, mask: u32) -> u32 {
    (mix(key >> 3) >> 32) as u32 & mask
}

/// A kernel stack seen for the first time. Sent with only the first `frames` of `pcs`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelStackEvent {
    /// [`crate::EventKind::KernelStack`].
    pub kind: u32,
    /// Index of the stack's slot.
    pub slot: u32,
    /// The slot's identity.
    pub hash: u64,
    /// Number of frames.
    pub frames: u32,
    /// How many of them, innermost, are the tracing's and the allocator's own.
    pub own: u32,
    /// Return addresses, innermost first.
    pub pcs: [u64; KERNEL_FRAMES + 1],
}
const _: () = assert!(size_of::<KernelStackEvent>() == KernelStackEvent::HEADER + 8 * (KERNEL_FRAMES + 1));

impl KernelStackEvent {
    /// Bytes before `pcs`.
    pub const HEADER: usize = 24;
}

/// What the agent learns about itself before tracing: the kernel's answer to a large `kmalloc` of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Calibration {
    /// The agent's pid as programs see it.
    pub tgid: u64,
    /// The last `struct page` that the page allocator gave to the agent.
    pub page: u64,
    /// Address of the first byte of memory whose `struct page` is `paired`.
    pub address: u64,
    /// See `address`; 0 until known.
    pub paired: u64,
}
const _: () = assert!(size_of::<Calibration>() == 32);

/// Counters of kernel mode, one per CPU each: indices into `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelCounter {
    /// Objects not tracked because bucket and overflow map were full.
    LiveMapFull = 0,
    /// Their bytes.
    LiveMapFullBytes = 1,
    /// Stacks that did not fit into the ring buffer.
    RingFull = 2,
    /// Allocations without a stack because every walk slot of the CPU was taken.
    NoWalkSlot = 3,
    /// Allocations whose stack found no slot.
    StackTableFull = 4,
    /// Objects allocated at an address that was still live.
    MissedFrees = 5,
    /// Pages for user memory and page cache, which are not tracked.
    UserPages = 6,
    /// Allocations the agent caused itself, which are not tracked.
    Own = 7,
    /// Walks of a stack; the other stacks were recognised without one.
    Walks = 8,
}

impl KernelCounter {
    /// Number of counters: the size of the map.
    pub const COUNT: u32 = 9;
}

#[cfg(test)]
mod tests {
    use super::{object_address, object_bucket, object_key};

    #[test]
    fn small_objects_in_a_row_fill_buckets_evenly() {
        let mask = (1 << 12) - 1;
        for size in [8, 64, 192, 4096] {
            let mut load = [0u32; 1 << 12];
            for object in 0..4096 * 4 {
                load[object_bucket(object_key(0xffff_8881_0000_0000 + object * size, false), mask)
                    as usize] += 1;
            }
            let overflowing: u32 = load.iter().map(|&n| n.saturating_sub(7)).sum();
            assert!(overflowing < 4096 * 4 / 20, "{overflowing} of {} of {size} bytes overflow", 4096 * 4);
        }
    }

    #[test]
    fn a_per_cpu_pointer_is_no_address() {
        let pointer = 0x607f_c0c0_1234;
        assert_ne!(object_key(pointer, true), object_key(pointer, false));
        assert_eq!(object_key(pointer, true) & 1, 0);
        assert_eq!(object_address(object_key(pointer, true), true), pointer);
    }
}
