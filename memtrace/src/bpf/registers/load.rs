//! Loading the iterator's program, with the offsets of this kernel's structures.

use std::os::fd::OwnedFd;

use aya::{Btf, EbpfLoader, programs::Iter};

use crate::bpf::shared::{
    btf::{self, SIZE},
    error::Error,
    object::program,
};

/// The eBPF object, as committed and checked by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MEMTRACE_REGISTERS_BPF_OBJECT_PATH"));

/// The program's name.
const PROGRAM: &str = "thread_registers";

/// Offsets that the program needs, under the names of its constants.
#[derive(Debug, PartialEq, Eq)]
struct Layout(Vec<(&'static str, u64)>);

impl Layout {
    /// That of the running kernel; `None` if something is not known.
    fn find() -> Option<Self> {
        let offsets = btf::member_offsets([
            ("task_struct", "on_cpu"),
            ("task_struct", "nvcsw"),
            ("task_struct", "nivcsw"),
            ("task_struct", "flags"),
            ("task_struct", "thread_pid"),
            ("task_struct", "group_leader"),
            ("pid", "level"),
            ("pid", "numbers"),
            ("task_struct", "sas_ss_sp"),
            ("task_struct", "thread"),
            ("task_struct", SIZE),
            ("thread_struct", "fsbase"),
            ("thread_struct", "gsbase"),
            ("thread_struct", "fpu"),
            ("fpu", "fpstate"),
            ("fpstate", "regs"),
            ("thread_struct", "uw"),
        ]);
        let [
            on_cpu,
            nvcsw,
            nivcsw,
            flags,
            thread_pid,
            group_leader,
            level,
            numbers,
            signal_stack,
            thread,
            size,
            fsbase,
            gsbase,
            fpu,
            fpstate,
            regs,
            uw,
        ] = offsets.map(|offset| offset.map(u64::from));
        let mut constants = vec![
            ("TASK_ON_CPU", on_cpu?),
            ("TASK_NVCSW", nvcsw?),
            ("TASK_NIVCSW", nivcsw?),
            ("TASK_FLAGS", flags?),
            ("TASK_THREAD_PID", thread_pid?),
            ("TASK_GROUP_LEADER", group_leader?),
            ("PID_LEVEL", level?),
            ("PID_NUMBERS", numbers?),
            ("TASK_SIGNAL_STACK", signal_stack?),
        ];
        if cfg!(target_arch = "x86_64") {
            constants.extend([("TASK_TLS", thread? + fsbase?), ("TASK_SECOND_BASE", thread? + gsbase?)]);
            // From 6.16 on it is no member, but lies behind the task (arch/x86/include/asm/processor.h,
            // `x86_task_fpu`). Before 5.16 it has no `fpstate`.
            let fpu = fpu.map(|fpu| thread.unwrap_or(0) + fpu).or(size);
            if let (Some(fpu), Some(fpstate), Some(regs)) = (fpu, fpstate, regs) {
                constants.extend([("TASK_FPSTATE", fpu + fpstate), ("FPSTATE_REGS", regs)]);
            }
        } else {
            // `thread_struct.uw.tp_value`, the first of it (arch/arm64/include/asm/processor.h).
            constants.push(("TASK_TLS", thread? + uw?));
        }
        Some(Self(constants))
    }
}

/// Loads the program.
///
/// # Errors
/// Missing privileges, no BTF, or a kernel that rejects the program (before 5.15).
pub(super) fn load() -> Result<OwnedFd, Error> {
    let Layout(constants) = Layout::find().ok_or(Error::NoTasks)?;
    let kernel = Btf::from_sys_fs().map_err(|error| Error::Load(error.into()))?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&kernel));
    for (name, value) in &constants {
        loader.override_global(name, value, true);
    }
    let mut ebpf = loader.load(OBJECT).map_err(Error::Load)?;
    let refused = |source| Error::Program { program: PROGRAM, source };
    let program: &mut Iter = program(&mut ebpf, PROGRAM)?;
    program.load("task", &kernel).map_err(refused)?;
    let fd = program.fd().map_err(refused)?;
    std::os::fd::AsFd::as_fd(fd).try_clone_to_owned().map_err(Error::io("duplicating a program's descriptor"))
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn the_running_kernels_tasks_are_known() {
        if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            let Layout(constants) = Layout::find().unwrap();
            assert!(constants.iter().all(|(name, offset)| *name == "FPSTATE_REGS" || *offset < 1 << 16));
        }
    }
}
