//! What the programs send through the ring buffer `EVENTS`. Each event begins with its [`EventKind`].

use crate::stack::MAX_FRAMES;

/// The first word of every event.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A [`StackEvent`].
    Stack = 1,
    /// A [`TraceEvent`].
    Trace = 2,
    /// An [`ExecEvent`].
    Exec = 3,
    /// A [`ForkEvent`].
    Fork = 4,
    /// A [`MissEvent`].
    Miss = 5,
    /// An [`OracleEvent`].
    Oracle = 64,
    /// A [`MappingEvent`].
    Mapping = 6,
    /// A [`crate::KernelStackEvent`].
    KernelStack = 7,
    /// A [`ThreadEvent`].
    Thread = 8,
    /// A [`VictimEvent`].
    Victim = 9,
}

/// Set in a frame's address where it is that of an instruction interrupted by a signal, not a return address.
pub const EXACT: u64 = 1 << 63;

/// A stack seen for the first time. Sent with only the first `frames` of `pcs`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackEvent {
    /// [`EventKind::Stack`].
    pub kind: u32,
    /// Index of the stack's slot.
    pub slot: u32,
    /// Hash of the frames: the slot's identity.
    pub hash: u64,
    /// Index and generation of the target, see [`crate::Target::id`].
    pub target: u32,
    /// Number of frames.
    pub frames: u32,
    /// Why the walk ended: a [`crate::WalkEnd`].
    pub end: u32,
    /// [`crate::Target::unloaded`] at the walk: which libraries its addresses are of.
    pub unloaded: u32,
    /// Return addresses, innermost first.
    pub pcs: [u64; MAX_FRAMES],
}
const _: () = assert!(size_of::<StackEvent>() == StackEvent::HEADER + 8 * MAX_FRAMES);

impl StackEvent {
    /// Bytes before `pcs`.
    pub const HEADER: usize = 32;
}

/// What a [`TraceEvent`] reports.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A block was allocated.
    Allocate = 0,
    /// A block was freed.
    Free = 1,
}

/// One allocation or free, sent when `TRACE` is set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    /// [`EventKind::Trace`].
    pub kind: u32,
    /// An [`Op`].
    pub op: u32,
    /// `ktime` of the event, ns.
    pub time: u64,
    /// tgid in the upper, tid in the lower half.
    pub pid_tgid: u64,
    /// The block's address.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Slot of the allocating stack.
    pub slot: u32,
    /// Index and generation of the target.
    pub target: u32,
}
const _: () = assert!(size_of::<TraceEvent>() == 48);

/// A target mapped or unmapped memory itself, not through its allocator.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MappingEvent {
    /// [`EventKind::Mapping`].
    pub kind: u32,
    /// Index and generation of the target.
    pub target: u32,
    /// First address of what is mapped now.
    pub address: u64,
    /// Its bytes; 0: nothing.
    pub length: u64,
    /// First address of what was given up.
    pub old_address: u64,
    /// Its bytes; 0: nothing.
    pub old_length: u64,
    /// Slot of the caller's stack.
    pub slot: u32,
    /// Time in block time.
    pub time: u32,
}
const _: () = assert!(size_of::<MappingEvent>() == 48);

/// A target called `execve`: its blocks are gone, counting starts anew.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecEvent {
    /// [`EventKind::Exec`].
    pub kind: u32,
    /// The target's index.
    pub target: u32,
    /// The generation that begins.
    pub generation: u32,
    /// 1 if a thread other than the main one called it, and is the main one now.
    pub by_thread: u32,
}
const _: () = assert!(size_of::<ExecEvent>() == 16);

/// A target runs code in no known module, or has loaded or unloaded a library: its mappings must be read again.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MissEvent {
    /// [`EventKind::Miss`].
    pub kind: u32,
    /// The target's index.
    pub target: u32,
    /// 1 when the loader said so: the request will not be repeated.
    pub loader: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<MissEvent>() == 16);

/// A walk with the memory it was made in, for tests: another unwinder takes the same memory and must come to the same
/// frames. Sent when `ORACLE` is set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OracleEvent {
    /// [`EventKind::Oracle`].
    pub kind: u32,
    /// Index of the stack's slot.
    pub slot: u32,
    /// Number of frames.
    pub frames: u32,
    /// Why the walk ended: a [`crate::WalkEnd`].
    pub end: u32,
    /// Where the return address was.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// Address of the first byte of `stack`.
    pub base: u64,
    /// Bytes of `stack` that were read.
    pub length: u64,
    /// Return addresses, innermost first.
    pub pcs: [u64; MAX_FRAMES],
    /// Whole pages of the stack, from that of `sp` upwards.
    pub stack: [u8; OracleEvent::STACK],
}
const _: () = assert!(size_of::<OracleEvent>() == 48 + 8 * MAX_FRAMES + OracleEvent::STACK);

impl OracleEvent {
    /// Room for the stack in bytes.
    pub const STACK: usize = OracleEvent::PAGES * OracleEvent::PAGE;
    /// The same in pages.
    pub const PAGES: usize = 16;
    /// Bytes of a page.
    pub const PAGE: usize = 4096;
}

/// A target forked a process, or a process that descends from it and is not traced yet did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ForkEvent {
    /// [`EventKind::Fork`].
    pub kind: u32,
    /// The target's index.
    pub target: u32,
    /// The new process's pid in the initial namespace; 0 if it is unknown.
    pub child: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<ForkEvent>() == 16);

/// The thread by which the kernel knows the process of a target's probes ends: the main one, or [`crate::Target::holder`].
/// Or any thread that a signal ends, with the whole process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ThreadEvent {
    /// [`EventKind::Thread`].
    pub kind: u32,
    /// The target's index.
    pub target: u32,
    /// 1: it is the main thread; 2: neither that nor the holder.
    pub main: u32,
    /// `task_struct.exit_code`, in the form of `wait` (2); 0 also where it is unknown.
    pub status: u32,
    /// `ktime` of its end, ns.
    pub time: u64,
}
const _: () = assert!(size_of::<ThreadEvent>() == 24);

/// The OOM killer has chosen a process, which gets SIGKILL or ends anyway.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct VictimEvent {
    /// [`EventKind::Victim`].
    pub kind: u32,
    /// The target's index; [`VictimEvent::OTHER`]: it is not traced.
    pub target: u32,
    /// Its pid in the initial namespace.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
    /// `ktime`, ns.
    pub time: u64,
}
const _: () = assert!(size_of::<VictimEvent>() == 24);

impl VictimEvent {
    /// In place of a target's index.
    pub const OTHER: u32 = u32::MAX;
}
