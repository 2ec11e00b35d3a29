//! What targets do besides allocating: fork, exec, exit of a thread; and whom the OOM killer takes.
//!
//! Raw tracepoints: they need neither BTF nor field offsets for the little that is read here, except for pids and exit codes
//! of tasks.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated::bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use memtrace_common::{Counter, EventKind, ExecEvent, ForkEvent, ThreadEvent, VictimEvent};

use crate::{
    calls,
    config::{FOLLOW, TASK_EXIT_CODE, TASK_TGID},
    events,
    maps::{DESCENDANTS, TARGET_BY_TGID, TARGETS, count},
};

/// `clone` flag: the new task is a thread (include/uapi/linux/sched.h).
const CLONE_THREAD: u64 = 0x0001_0000;

/// The current process's index, if it is traced.
#[inline(always)]
fn current() -> Option<u32> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: entries are only changed by the agent, and not while a program reads them.
    unsafe { TARGET_BY_TGID.get(tgid) }.copied()
}

/// `task_newtask(struct task_struct *task, unsigned long clone_flags)`, in the parent's context.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub(crate) fn task_newtask(context: RawTracePointContext) -> i32 {
    let _ = try_newtask(&context);
    0
}

#[inline(always)]
fn try_newtask(context: &RawTracePointContext) -> Option<()> {
    let target = current().or_else(ancestor)?;
    if context.arg::<u64>(1) & CLONE_THREAD == 0 {
        count(Counter::Forks, 1);
        let child = if FOLLOW.load() != 0 { tgid_of(context.arg::<u64>(0)) } else { 0 };
        if child != 0 {
            let _ = DESCENDANTS.insert(child, target, 0);
        }
        events::send(&ForkEvent { kind: EventKind::Fork as u32, target, child, reserved: 0 });
    }
    Some(())
}

/// The target that the current process descends from, if targets are followed.
#[inline(always)]
fn ancestor() -> Option<u32> {
    if FOLLOW.load() == 0 {
        return None;
    }
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: an entry is written once, before its process runs, and deleted when its main thread ends.
    unsafe { DESCENDANTS.get(tgid) }.copied()
}

/// The process of a task; 0 if it cannot be read.
#[inline(always)]
fn tgid_of(task: u64) -> u32 {
    member(task, TASK_TGID.load())
}

/// A number in a task; 0 if it cannot be read.
#[inline(always)]
fn member(task: u64, offset: u32) -> u32 {
    if offset == 0 {
        return 0;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((task + u64::from(offset)) as *const u32) }.unwrap_or(0)
}

/// `sched_process_exec`: the address space is a new one.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn process_exec(context: RawTracePointContext) -> i32 {
    let _ = try_exec(&context);
    0
}

#[inline(always)]
fn try_exec(context: &RawTracePointContext) -> Option<()> {
    let index = current()?;
    let target = TARGETS.get_ptr_mut(index)?;
    // SAFETY: `target` points to a value of TARGETS. `execve` has ended every other thread of the process.
    let generation = unsafe {
        (*target).generation += 1;
        (*target).modules = 0;
        (*target).loader_state = 0;
        (*target).generation
    };
    // `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
    let by_thread = u32::from(context.arg::<u64>(1) as u32 != bpf_get_current_pid_tgid() as u32);
    events::send(&ExecEvent { kind: EventKind::Exec as u32, target: index, generation, by_thread });
    debug!(context, "target {} called exec: generation {}", index, generation);
    Some(())
}

/// Bits of `exit_code` with the signal that ended the thread (include/uapi/asm-generic, `wait`).
const SIGNAL: u32 = 0x7f;

/// `sched_process_exit`: a thread ends, its slot is free again. The kernel identifies the process of
/// a probe by one thread's memory, which an exited thread no longer has: the agent must know when that thread ends. It also
/// learns which signal ended the process: each of its threads has that in its exit code.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn process_exit(context: RawTracePointContext) -> i32 {
    let _ = try_exit(&context);
    0
}

#[inline(always)]
fn try_exit(context: &RawTracePointContext) -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let main = u32::from(tid == tgid);
    if FOLLOW.load() != 0 && main != 0 {
        let _ = DESCENDANTS.remove(tgid);
    }
    let index = current()?;
    calls::thread_exit();
    // `sched_process_exit(struct task_struct *p, …)`
    let status = member(context.arg::<u64>(0), TASK_EXIT_CODE.load());
    let is_holder = TARGETS.get(index)?.holder == tid;
    if main != 0 || is_holder || status & SIGNAL != 0 {
        // SAFETY: a helper without arguments.
        let time = unsafe { bpf_ktime_get_ns() };
        let main = if main == 0 && !is_holder { 2 } else { main };
        events::send(&ThreadEvent { kind: EventKind::Thread as u32, target: index, main, status, time });
    }
    Some(())
}

/// `mark_victim(int pid)`, and from Linux 6.9 on `mark_victim(struct task_struct *task, uid_t uid)`: the OOM killer has chosen
/// a process. It is not held up here.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub(crate) fn mark_victim(context: RawTracePointContext) -> i32 {
    let first = context.arg::<u64>(0);
    // No task is in the lower 4 GiB of the kernel's addresses.
    let pid = if first > u64::from(u32::MAX) { tgid_of(first) } else { first as u32 };
    // SAFETY: entries are only changed by the agent, and not while a program reads them.
    let target = unsafe { TARGET_BY_TGID.get(pid) }.copied().unwrap_or(VictimEvent::OTHER);
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    events::send(&VictimEvent { kind: EventKind::Victim as u32, target, pid, reserved: 0, time });
    0
}
