//! What to probe: made by `allocators` and `elf`, consumed by `bpf`.

use std::path::PathBuf;

/// What a probed function does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Hands out a block; probed at entry and at return.
    Allocate(ArgLayout),
    /// Takes back the block in its first argument; probed at entry only.
    Free,
    /// Maps or unmaps memory; probed at entry and at return.
    Map(Mapping),
}

/// A function that maps memory. Arguments and results are what its manual page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// `mmap`.
    Map,
    /// `munmap`.
    Unmap,
    /// `mremap`.
    Remap,
    /// `sbrk`.
    Break,
}

/// Where an allocating function keeps its arguments and its result.
///
/// Argument numbers count from 0 and are at most 5 (the register arguments of the System V ABI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ArgLayout {
    /// The argument that holds the size in bytes (of one element where `count` is set).
    pub size: u8,
    /// The argument that holds the number of elements, as in `calloc`.
    pub count: Option<u8>,
    /// The argument that holds the block that is given up on success, as in `realloc`.
    pub old: Option<u8>,
    /// The argument that points to where the new block's address is stored, as in `posix_memalign`;
    /// the function then returns 0 on success. `None`: the address is the return value.
    pub out: Option<u8>,
    /// Whether, given no block, it is a call of `malloc`, which is probed too: `realloc` of some libraries.
    pub delegates: bool,
}

/// Where in its file the code of a probed function lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCode {
    /// ELF virtual addresses.
    pub range: std::ops::Range<u64>,
    /// Whether a block that is allocated inside it is one that it returns itself, and is drawn for. Not so in `free`, and
    /// where [`ArgLayout::delegates`].
    pub allocates: bool,
}

/// Where in a function a probe sits, for `--verbose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Bytes after the function's first.
    pub delta: u64,
    /// Whether the kernel emulates the instruction there instead of single-stepping a copy of it.
    pub emulated: bool,
}

/// The function that a dynamic loader calls for debuggers whenever it is about to load or unload a library, and
/// when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderHook {
    /// The loader's file, openable by the agent.
    pub file: PathBuf,
    /// The function's offset in it, in bytes.
    pub offset: u64,
    /// Address in the target of `r_debug.r_state`, which says what it is about to do.
    pub state: u64,
}

/// One function to probe in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// The function's name, for messages. The first one where several names share an address.
    pub function: String,
    /// The file to probe, openable by the agent (through the target's mount namespace).
    pub file: PathBuf,
    /// The probe's offset in that file, in bytes, `site.delta` included.
    pub offset: u64,
    /// Where that is in the function.
    pub site: Site,
    /// What the function does.
    pub role: Role,
    /// How its results are seen.
    pub results: Results,
}

impl ProbeSpec {
    /// Offsets in its file of all its probes, in bytes.
    pub fn offsets(&self) -> impl Iterator<Item = u64> {
        let exits = match &self.results {
            Results::AtReturn => &[],
            Results::AtExits(sites) => sites.as_slice(),
        };
        std::iter::once(self.offset).chain(exits.iter().map(|site| site.offset))
    }
}

/// How the result of a probed function is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Results {
    /// Where it returns to, by a return probe: the return address on the target's stack is replaced meanwhile.
    AtReturn,
    /// On its ways out, by plain probes: nothing is replaced.
    AtExits(Vec<ExitSite>),
}

/// A place that a function's ways out pass, with the result known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExitSite {
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Whether the kernel emulates the instruction there.
    pub emulated: bool,
    /// Where the canonical frame address is.
    pub frame: ExitFrame,
    /// What the function will return.
    pub result: ExitResult,
    /// Only where this condition holds, by its number in x86 instructions (0: overflow … 15: greater); else the function
    /// goes on.
    pub condition: Option<u8>,
}

/// Where the canonical frame address is at an exit site, in words of 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExitFrame {
    /// So far above the stack pointer.
    StackPointer(u32),
    /// So far above the frame pointer.
    FramePointer(u32),
}

impl ExitFrame {
    /// The largest distance that a cookie has room for: 32 KiB.
    pub const MAX_WORDS: u32 = memtrace_common::Exit::MAX_WORDS;
}

/// What a function returns by one of its ways out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExitResult {
    /// What the register holds, by its number in instructions (0: rax … 15: r15).
    Register(u8),
    /// 0.
    Zero,
}
