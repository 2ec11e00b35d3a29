//! The running kernel, and the namespace that this process is in.

/// The running kernel's version, as (major, minor).
pub(in crate::bpf) fn kernel_version() -> Option<(u32, u32)> {
    let name = nix::sys::utsname::uname().ok()?;
    let mut numbers = name.release().to_str()?.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Whether multi-uprobes filter by process. Before 6.10 the filter compared the thread instead (fixed by
/// kernel commit 46ba0e49b642), so that all threads but one went unseen.
pub(in crate::bpf) fn multi_respects_pid() -> bool {
    kernel_version().is_some_and(|version| version >= (6, 10))
}

/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h): the inode of the initial PID namespace.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether pids here are those that the kernel side sees.
pub(in crate::bpf) fn in_initial_pid_namespace() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == INITIAL_PID_NAMESPACE)
}
