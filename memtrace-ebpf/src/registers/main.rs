//! memtrace's task iterator: the registers of a process's threads, without stopping them.
//!
//! An object of its own, which is loaded when registers are wanted: tracing neither loads nor needs it. It has no maps
//! besides its constants, and is attached to nothing; it runs on the thread of the agent that reads the iterator's file.
//!
//! - `config`: load-time constants, the offsets of this kernel's structures.
//! - `arch`: what differs between architectures.
#![no_std]
#![no_main]

mod arch;
#[path = "../base.rs"]
mod base;
mod config;

use core::{
    ffi::c_void,
    mem::{offset_of, size_of},
};

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_seq_write, bpf_task_pt_regs,
};
use memtrace_common::{ThreadState, VECTOR_WORDS};

/// `PF_EXITING` (include/linux/sched.h).
const EXITING: u32 = 4;

/// Words written at a time: the vector registers do not fit on the program's stack of 512 bytes with the rest.
const PIECE: usize = 8;

/// `struct bpf_iter_meta` (include/linux/bpf.h), its first member: a `struct seq_file`. It has no type here, nor has a task:
/// the place of a type that is only declared in the object's BTF depends on the path of the checkout.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c).
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *mut c_void,
}

/// Called for each task, and at the end without one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn thread_registers(context: *const Context) -> i32 {
    // SAFETY: the context is the program's; the verifier checks what is read of it.
    let (file, task) = unsafe { ((*(*context).meta).seq, (*context).task) };
    if !task.is_null() {
        write(file, task);
    }
    0
}

/// Writes a thread's record. A record that does not fit into the file's buffer is taken back by the kernel, which calls
/// the program for this task again.
#[inline(always)]
fn write(file: *mut c_void, task: *mut c_void) {
    let mut state = ThreadState::UNKNOWN;
    let switches_before = switches(task);
    if read::<u32>(field(task, config::TASK_ON_CPU.load())) != 0 {
        state.flags |= ThreadState::RUNNING;
    }
    state.tls = read(field(task, config::TASK_TLS.load()));
    if config::TASK_SECOND_BASE.load() != 0 {
        state.second_base = read(field(task, config::TASK_SECOND_BASE.load()));
    }
    state.signal_stack = read(field(task, config::TASK_SIGNAL_STACK.load()));
    // SAFETY: reads into a local variable, at most its size; the helpers check the address.
    let failed = unsafe {
        let registers = bpf_task_pt_regs(task.cast()) as *const c_void;
        bpf_probe_read_kernel((&raw mut state.general).cast(), arch::GENERAL_BYTES, registers)
    };
    if failed != 0 {
        state.flags |= ThreadState::UNREADABLE;
    }
    let vector = arch::vector_registers(task);
    if vector != 0 {
        state.flags |= ThreadState::VECTOR;
    }
    let mut words = [0u64; PIECE];
    for piece in 0..VECTOR_WORDS / PIECE {
        if vector != 0 {
            read_into(&mut words, vector.wrapping_add((piece * PIECE * 8) as u64));
        }
        put(file, &words);
    }
    // Whoever ran in the meantime is on a CPU still, or was counted when it was taken off.
    if read::<u32>(field(task, config::TASK_ON_CPU.load())) != 0 {
        state.flags |= ThreadState::RUNNING;
    }
    if switches(task) != switches_before {
        state.flags |= ThreadState::TORN;
    }
    if read::<u32>(field(task, config::TASK_FLAGS.load())) & EXITING != 0 {
        state.flags |= ThreadState::ENDING;
    }
    state.tid = number(field(task, config::TASK_THREAD_PID.load()));
    let leader = read::<u64>(field(task, config::TASK_GROUP_LEADER.load()));
    state.tgid = number(leader.wrapping_add(config::TASK_THREAD_PID.load()));
    put(file, &state);
}

/// How often a task was taken off its CPU.
#[inline(always)]
fn switches(task: *mut c_void) -> u64 {
    read::<u64>(field(task, config::TASK_NVCSW.load()))
        .wrapping_add(read::<u64>(field(task, config::TASK_NIVCSW.load())))
}

/// The number of a task in the PID namespace of this program's reader; `address` is that of its `thread_pid`.
#[inline(always)]
fn number(address: u64) -> u32 {
    let level = |pid: u64| u64::from(read::<u32>(pid.wrapping_add(config::PID_LEVEL.load())));
    // SAFETY: a helper without arguments.
    let reader = unsafe { bpf_get_current_task() };
    let reader = level(read(reader.wrapping_add(config::TASK_THREAD_PID.load())));
    let numbers = read::<u64>(address).wrapping_add(config::PID_NUMBERS.load());
    // `struct upid { int nr; struct pid_namespace *ns; }` (include/linux/pid.h)
    read(numbers.wrapping_add(reader.wrapping_mul(16)))
}

/// The address of a member of a task. Constants are known to the verifier, which allows no others here.
#[inline(always)]
fn field(task: *mut c_void, offset: u64) -> u64 {
    (task as u64).wrapping_add(offset)
}

/// Reads kernel memory; zeros if it cannot be read.
#[inline(always)]
fn read<T: Default>(address: u64) -> T {
    let mut value = T::default();
    read_into(&mut value, address);
    value
}

/// The same into a variable.
#[inline(always)]
fn read_into<T>(value: &mut T, address: u64) {
    // SAFETY: reads into a variable of plain integers; the helper checks the address and clears what it cannot read.
    unsafe {
        bpf_probe_read_kernel((&raw mut *value).cast(), size_of::<T>() as u32, address as *const c_void);
    }
}

/// Appends a value to the iterator's file.
#[inline(always)]
fn put<T>(file: *mut c_void, value: &T) {
    // SAFETY: the value is a local variable without padding. The kernel remembers a file that is full.
    unsafe { bpf_seq_write(file.cast(), (&raw const *value).cast(), size_of::<T>() as u32) };
}

const _: () = assert!(offset_of!(Context, task) == 8 && VECTOR_WORDS.is_multiple_of(PIECE));
