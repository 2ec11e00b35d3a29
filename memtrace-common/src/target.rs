//! A traced process, as the programs know it.

/// Processes that one session traces at most: a target's index has 8 bits in keys and cookies.
pub const MAX_TARGETS: u32 = 256;

/// One traced process, by index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its pid in the initial namespace; 0 while that is unknown: an agent in a PID namespace of its own cannot tell, so
    /// the first probe that fires does.
    pub tgid: u32,
    /// How often it called `execve` since tracing began.
    pub generation: u32,
    /// Its [`crate::ModuleList`]; 0, an empty one, from `execve` until the agent has read the new mappings.
    pub modules: u64,
    /// `ktime` of the last [`crate::MissEvent`].
    pub last_miss: u64,
    /// Address in it of the dynamic loader's `r_debug.r_state`; 0 when unknown.
    pub loader_state: u64,
    /// Whether the loader is unloading libraries just now.
    pub unloading: u64,
    /// Beginnings and ends of unloading libraries, so far.
    pub unloaded: u64,
    /// Value of `unloaded` when the agent last read the mappings.
    pub unloaded_seen: u64,
    /// Whether libraries were loaded over unloaded ones since: what `modules` says may be wrong, and walks stop.
    pub stale: u64,
    /// First address of memory where libraries come and go: an address there may mean other code later.
    pub unstable_begin: u64,
    /// The address after it.
    pub unstable_end: u64,
    /// Which allocations are counted: a [`crate::Shift`].
    pub sampling: u32,
    /// How often probes were attached to it: what was in flight when they were detached is not known to be so any more.
    pub window: u32,
    /// The thread that its probes go by where the main one has ended; 0: the main one.
    pub holder: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Target>() == 96);

impl Target {
    /// Index and generation in one word: index in the low 8 bits, generation above.
    #[inline(always)]
    #[must_use]
    pub const fn id(index: u32, generation: u32) -> u32 {
        (index & 0xff) | generation << 8
    }

    /// The index in an [`id`](Self::id).
    #[inline(always)]
    #[must_use]
    pub const fn index(id: u32) -> u32 {
        id & 0xff
    }
}
