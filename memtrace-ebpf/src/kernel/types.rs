//! The values that walks and the memo work on: plain data, so that `maps` can hold them without importing either.

use memtrace_common::KernelStackEvent;

/// The most places that are compared.
pub(crate) const PLACES: usize = 64;

/// Places on a stack in words from the program's arguments, in ascending order.
pub(crate) type Places = [u16; PLACES];

/// The frame whose return address each of the [`Places`] holds, by its number.
pub(crate) type Holds = [u8; PLACES];

/// What a slot is for, besides a stack.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// Where the allocating function returns to; 0 if the tracepoint does not give it.
    pub(crate) call_site: u64,
    /// The object's address.
    pub(crate) address: u64,
    /// Its bytes; 0: as its cache says.
    pub(crate) size: u64,
    /// Its `struct kmem_cache`; 0: determined by the address, if it is slab memory.
    pub(crate) cache: u64,
    /// Initial value of the hash.
    pub(crate) seed: u64,
    /// A [`memtrace_common::KernelKind`].
    pub(crate) kind: u32,
    /// Zero.
    pub(crate) reserved: u32,
}

/// A walk in progress.
#[repr(C)]
pub(crate) struct Scratch {
    /// 1 while a program uses it.
    pub(crate) busy: u64,
    /// Address of the first word in `window`: where the program's arguments are on the traced stack.
    pub(crate) base: u64,
    /// Words read into `window`.
    pub(crate) length: u64,
    /// The frame to find next in the window.
    pub(crate) next: u64,
    /// Places in the window that hold a frame's return address, so far.
    pub(crate) found: u64,
    /// The last of them.
    pub(crate) last: u64,
    /// Hash of what they hold.
    pub(crate) check: u64,
    /// A set of the frames' addresses, see `memo::bit`.
    pub(crate) maybe: u64,
    /// What is being allocated.
    pub(crate) origin: Origin,
    /// Frames, as the agent will get them.
    pub(crate) event: KernelStackEvent,
    /// Stack memory.
    pub(crate) window: [u64; Scratch::WINDOW_WORDS],
    /// The places found.
    pub(crate) places: Places,
    /// Which frame each of them holds.
    pub(crate) holds: Holds,
}

impl Scratch {
    /// How many there are per CPU: task, soft interrupt, interrupt, and one to spare.
    pub(crate) const PER_CPU: u32 = 4;
    /// Words in the window: 4 KiB.
    pub(crate) const WINDOW_WORDS: usize = 512;
}

/// A remembered stack. If an interrupt reads it while it is written, its hash does not match what is
/// found.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// Hash of what was allocated and of the call site.
    pub(crate) key: u64,
    /// Hash of what the places hold.
    pub(crate) check: u64,
    /// Hash of the stack, as its slot has it.
    pub(crate) hash: u64,
    /// The slot.
    pub(crate) slot: u32,
    /// Number of places.
    pub(crate) length: u16,
    /// Words up to the last of them.
    pub(crate) reach: u16,
    /// The places.
    pub(crate) places: Places,
    /// Which of the stack's frames each of them holds.
    pub(crate) holds: Holds,
}

/// Stacks of the same keys.
#[repr(C)]
pub(crate) struct Set {
    /// Words to read for the one that reaches furthest.
    pub(crate) reach: u64,
    /// The entry that is replaced next.
    pub(crate) next: u64,
    /// Walks of stacks that were not found here.
    pub(crate) misses: u64,
    /// How often stacks were remembered since one was recognised.
    pub(crate) efforts: u64,
    /// The stacks.
    pub(crate) entries: [Entry; Set::WAYS],
}

impl Set {
    /// How many sets there are: 240 KiB per CPU.
    pub(crate) const COUNT: u32 = 256;
    /// Stacks in a set.
    pub(crate) const WAYS: usize = 4;
    /// While there are at most so many `efforts`, every walk is remembered.
    pub(crate) const EFFORTS: u64 = 32;
    /// Then fewer and fewer, down to one in 64: the binary logarithm.
    pub(crate) const RAREST: u64 = 6;
}
