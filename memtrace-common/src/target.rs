//! A traced process, as the programs know it.

/// Processes that one session traces at most: a target's index has 8 bits in keys and cookies.
pub const MAX_TARGETS: u32 = 256;

/// One traced process, by index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its pid in the initial namespace.
    pub tgid: u32,
    /// How often it called `execve` since tracing began.
    pub generation: u32,
}
const _: () = assert!(size_of::<Target>() == 8);

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
