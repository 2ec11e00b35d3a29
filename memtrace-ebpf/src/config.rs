//! Load-time constants. The agent sets them before loading; the map is then frozen, the verifier knows the
//! values and removes what they switch off.

use memtrace_common::Part;

use crate::base::globals;

globals! {
    /// Smallest size in bytes that is tracked.
    MIN_SIZE: u64 = 0;
    /// Largest size in bytes that is tracked.
    MAX_SIZE: u64 = u64::MAX;
    /// ktime in ns from which block times count.
    EPOCH: u64 = 0;
    /// Number of buckets of `LIVE`, a power of two, minus 1.
    BUCKET_MASK: u32 = 0;
    /// Number of slots of `STACKS`, a power of two, minus 1.
    STACK_MASK: u32 = 0;
    /// Number of slots of `THREADS`, a power of two, minus 1.
    THREAD_MASK: u32 = 0;
    /// How stacks are taken, a [`memtrace_common::WalkMethod`].
    METHOD: u32 = 0;
    /// Offset of `task_struct.utask`; 0 when unknown, and then return probes' trampolines are not seen through.
    TASK_UTASK: u32 = 0;
    /// Offset of `uprobe_task.return_instances`.
    UTASK_INSTANCES: u32 = 0;
    /// Offset of `return_instance.stack`.
    INSTANCE_STACK: u32 = 0;
    /// Offset of `return_instance.orig_ret_vaddr`.
    INSTANCE_RETURN: u32 = 0;
    /// Offset of `return_instance.next`.
    INSTANCE_NEXT: u32 = 0;
    /// Offset of `task_struct.tgid`; 0 when unknown, and then the pids of new processes are not sent.
    TASK_TGID: u32 = 0;
    /// Offset of `task_struct.exit_code`; 0 when unknown.
    TASK_EXIT_CODE: u32 = 0;
    /// Whether processes that descend from targets will be traced too.
    FOLLOW: u32 = 0;
    /// Whether each walk is sent with the memory it was made in, for tests.
    ORACLE: u32 = 0;
    /// Whether each event is sent to the agent.
    TRACE: u32 = 0;
    /// Never set: see `probes::stack`.
    TAIL_CALL: u32 = 0;
    /// What is left out, to measure what it costs: the constants below.
    WITHOUT: u32 = 0;
}

/// Everything: a program does nothing.
pub(crate) const EVERYTHING: u32 = Part::Everything as u32;
/// Counting and timing of the programs' own runs.
pub(crate) const COUNT: u32 = Part::Count as u32;
/// Calls in flight.
pub(crate) const CALLS: u32 = Part::Calls as u32;
/// The table of live blocks.
pub(crate) const LIVE: u32 = Part::Live as u32;
/// Totals of stacks.
pub(crate) const TOTALS: u32 = Part::Totals as u32;
/// Lifetimes of freed blocks.
pub(crate) const LIFETIMES: u32 = Part::Lifetimes as u32;

/// Whether a part is left out.
#[inline(always)]
pub(crate) fn without(part: u32) -> bool {
    WITHOUT.load() & part != 0
}
