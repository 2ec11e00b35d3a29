//! What kernel mode's programs and the agent share to look tracked objects up on their slabs' lists of free objects.

/// The most pages (or caches) in a request to one run of a program.
pub const EXAMINED_AT_ONCE: usize = 256;

/// Objects found on lists of free objects that one run has room for.
pub const PHANTOMS_AT_ONCE: u32 = 4096;

/// Free objects that one run looks at, and the rest of the list it is in then: some hundred microseconds (0.1 to
/// 0.4 each, depending on the CPU's caches), during which the CPU does nothing else.
pub const STEPS_AT_ONCE: u64 = 1024;

/// Objects that one run takes out of the table of live objects.
pub const EVICTED_AT_ONCE: usize = 512;

/// The most objects on one list. A slab of 8-byte objects has 512.
pub const MOST_FREE: usize = 512;

/// The request, its progress, and the list that is being walked. The one element of the array `EXAMINATION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Examination {
    /// Asked: number of elements of `REQUESTS`.
    pub requests: u64,
    /// Asked: the CPU or the node whose free objects are examined.
    pub place: u64,
    /// Requests done.
    pub done: u64,
    /// Elements of `EXAMINED` written.
    pub examined: u64,
    /// Elements of `PHANTOMS` written.
    pub phantoms: u64,
    /// Free objects looked at.
    pub steps: u64,
    /// What to add to a per-CPU pointer for the CPU.
    pub offset: u64,
    /// The cache.
    pub cache: u64,
    /// First byte of the slab.
    pub start: u64,
    /// First byte behind its last object.
    pub end: u64,
    /// Address of its `struct slab`, or of the CPU's `struct kmem_cache_cpu`.
    pub list: u64,
    /// The next free object.
    pub next: u64,
    /// Free objects so far.
    pub walked: u64,
    /// Offset of the pointer to the next free object, in a free object.
    pub link: u64,
    /// What such a pointer is combined with.
    pub random: u64,
}

/// A slab that was examined.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// First byte.
    pub start: u64,
    /// First byte behind the last object.
    pub end: u64,
    /// Its `struct kmem_cache`; of no known cache if it is no longer a slab.
    pub cache: u64,
    /// See [`Examined::WHOLE`] and [`Examined::STOCKED`].
    pub state: u64,
}

impl Examined {
    /// In `state`: the list was walked to its end, and was the same before and after.
    pub const WHOLE: u64 = 1;
    /// In `state`: free objects of this cache are elsewhere too, and cannot be examined.
    pub const STOCKED: u64 = 2;
}

/// A tracked object that is on a list of free objects.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phantom {
    /// Its key in the table of live objects.
    pub key: u64,
    /// Its value there, after it was found on the list: an object allocated meanwhile has one with a later time.
    pub value: u64,
}
