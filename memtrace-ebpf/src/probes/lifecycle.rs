//! What targets do besides allocating: fork, exec, exit of a thread.
//!
//! Raw tracepoints: they need neither BTF nor field offsets for the little that is read here, except for a child's pid.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated::bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use memtrace_common::{Counter, EventKind, ExecEvent, ForkEvent, ThreadEvent};

use crate::{
    calls,
    config::{FOLLOW, TASK_TGID},
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
        let child = tgid_of(context.arg::<u64>(0));
        if FOLLOW.load() != 0 && child != 0 {
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
    let offset = TASK_TGID.load();
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

/// `sched_process_exit`: a thread ends, its slot is free again. The kernel identifies the process of
/// a probe by one thread's memory, which an exited thread no longer has: the agent must know when that thread ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn process_exit(_: RawTracePointContext) -> i32 {
    let _ = try_exit();
    0
}

#[inline(always)]
fn try_exit() -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let main = u32::from(tid == tgid);
    if FOLLOW.load() != 0 && main != 0 {
        let _ = DESCENDANTS.remove(tgid);
    }
    let index = current()?;
    calls::thread_exit();
    if main != 0 || TARGETS.get(index)?.holder == tid {
        // SAFETY: a helper without arguments.
        let time = unsafe { bpf_ktime_get_ns() };
        events::send(&ThreadEvent { kind: EventKind::Thread as u32, target: index, main, reserved: 0, time });
    }
    Some(())
}
