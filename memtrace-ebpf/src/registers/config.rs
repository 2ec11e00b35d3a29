//! Load-time constants: offsets in bytes of members in the running kernel.

use crate::base::globals;

globals! {
    /// Offset of `task_struct.on_cpu`.
    TASK_ON_CPU: u64 = 0;
    /// Offset of `task_struct.nvcsw`.
    TASK_NVCSW: u64 = 0;
    /// Offset of `task_struct.nivcsw`.
    TASK_NIVCSW: u64 = 0;
    /// Offset of `task_struct.flags`.
    TASK_FLAGS: u64 = 0;
    /// Offset of `task_struct.thread_pid`.
    TASK_THREAD_PID: u64 = 0;
    /// Offset of `task_struct.group_leader`.
    TASK_GROUP_LEADER: u64 = 0;
    /// Offset of `pid.level`.
    PID_LEVEL: u64 = 0;
    /// Offset of `pid.numbers`.
    PID_NUMBERS: u64 = 0;
    /// Offset in a task of the base of its thread-local memory.
    TASK_TLS: u64 = 0;
    /// Offset in a task of a second such base; 0: the architecture has none.
    TASK_SECOND_BASE: u64 = 0;
    /// Offset of `task_struct.sas_ss_sp`.
    TASK_SIGNAL_STACK: u64 = 0;
    /// x86_64: offset in a task of `fpu.fpstate`, a pointer; 0: unknown, vector registers are not read.
    TASK_FPSTATE: u64 = 0;
    /// x86_64: offset of `fpstate.regs`.
    FPSTATE_REGS: u64 = 0;
}
