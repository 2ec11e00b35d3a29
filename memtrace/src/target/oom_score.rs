//! What this process does for the time when memory runs out: the OOM killer takes it last of all, and it stays in memory. What it starts is taken as if it were not there.

use std::{fs, io, os::unix::process::CommandExt as _, process::Command, sync::OnceLock};

/// Of this process.
const PATH: &str = "/proc/self/oom_score_adj";
/// Never (`OOM_SCORE_ADJ_MIN`, include/uapi/linux/oom.h), and as soon as others of its size: without CAP_SYS_RESOURCE, the
/// kernel takes back at most what was added.
const WANTED: [i32; 2] = [-1000, 0];

/// What it was before.
static BEFORE: OnceLock<String> = OnceLock::new();

/// Asks the kernel not to take this process when memory runs out: it has what others will want to know then. What it starts
/// inherits that, also the process that reads names; commands of the user get it back by [`without_protection`].
pub fn protect_from_oom() {
    let Ok(before) = fs::read_to_string(PATH) else { return };
    let Ok(now) = before.trim().parse::<i32>() else { return };
    for score in WANTED.into_iter().filter(|score| *score < now) {
        match fs::write(PATH, score.to_string()) {
            Ok(()) => {
                let _ = BEFORE.set(before.trim().to_owned());
                break;
            }
            Err(error) => tracing::debug!("{PATH}: {score}: {error}: the OOM killer may take memtrace too"),
        }
    }
}

/// Keeps in memory what of this process is there now, code of files too, so that it does not have to wait for a disk when memory
/// runs out. What is only mapped stays out until it is used (`MCL_ONFAULT`), and what is mapped from now on is not locked: a
/// limit on locked memory does not stop it then. Needs CAP_IPC_LOCK, or a limit above the address space.
pub fn stay_in_memory() {
    // SAFETY: changes no memory.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) } != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(
            "mlockall: {error}: parts of memtrace may be read from files again when memory is short"
        );
    }
}

/// Lets the OOM killer take what the command starts as soon as it would have without memtrace.
pub fn without_protection(command: &mut Command) -> &mut Command {
    let Some(before) = BEFORE.get() else { return command };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(move || restore(before)) }
}

/// It may not be so low as it was, without privileges; then it is as low as allowed.
fn restore(before: &str) -> io::Result<()> {
    // SAFETY: a constant string that ends in a zero; the descriptor is closed below.
    let fd = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the bytes are valid for their length, and the descriptor is this function's.
    let written = unsafe {
        let written = libc::write(fd, before.as_ptr().cast(), before.len());
        libc::close(fd);
        written
    };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
