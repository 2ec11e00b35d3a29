//! Drops everything that the child does not need.
//!
//! It keeps its memory, up to a limit, one socket, and the files that it receives.

use std::collections::BTreeMap;

use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// The user without rights, as the kernel itself calls it (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65534;

/// The limit of allocated memory: inflated debug information, and tables for it.
const MEMORY: u64 = 2 << 30;

/// Memory and mapped files together. A file has 4 GiB at most.
const ADDRESSES: u64 = 32 << 30;

/// Seconds of processor time: the agent's deadlines come first, unless it is stopped.
const SECONDS: u64 = 600;

/// Drops everything. Returns what failed, in words.
///
/// # Errors
/// The agent has exited.
pub(super) fn enter(agent: Pid) -> Result<Vec<String>, nix::Error> {
    let mut kept = Vec::new();
    let mut check = |what: &str, done: Result<(), String>| {
        if let Err(error) = done {
            kept.push(format!("{what} ({error})"));
        }
    };
    // SAFETY: this process uses no descriptor but the three standard ones.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, 64),
        (Resource::RLIMIT_CPU, SECONDS),
        (Resource::RLIMIT_DATA, MEMORY),
        (Resource::RLIMIT_AS, ADDRESSES),
    ] {
        check("resource limits", setrlimit(resource, limit, limit).map_err(|error| error.to_string()));
    }
    check("change of user", become_nobody().map_err(|error| error.to_string()));
    check("dropping capabilities", drop_capabilities());
    check("no_new_privs", prctl::set_no_new_privs().map_err(|error| error.to_string()));
    let _ = prctl::set_dumpable(false);
    // In `ps` it would be called `exe`, which it was started by.
    let _ = prctl::set_name(c"memtrace-names");
    // A change of user takes this back, so it comes after.
    check("parent-death signal", prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string()));
    if getppid() != agent {
        return Err(nix::Error::ESRCH);
    }
    check("seccomp filter", filter());
    Ok(kept)
}

fn become_nobody() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

/// The user nobody has none left; if the process was not started by root, some may be left.
fn drop_capabilities() -> Result<(), String> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the kernel reads a header of two words and, for this version, six words of sets.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
}

/// Allows only the system calls needed to read a socket and mapped files. Others fail.
fn filter() -> Result<(), String> {
    let plain = [
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_close,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_rt_sigprocmask,
        // The handler of SIGSEGV and SIGBUS removes itself, so that the process dies of them.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        plain.into_iter().map(|call| (call, Vec::new())).collect();
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        // No executable memory.
        let executable = libc::PROT_EXEC.unsigned_abs().into();
        let none = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0);
        let rule = none.and_then(|none| SeccompRule::new(vec![none])).map_err(|error| error.to_string())?;
        rules.insert(call, vec![rule]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let machine = std::env::consts::ARCH.try_into().map_err(|error| format!("{error:?}"))?;
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, machine)
        .map_err(|error| error.to_string())?;
    let program: BpfProgram =
        filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}
