//! The PID namespace in which PIDs were given.

use std::{fs, io, os::unix::fs::MetadataExt as _};

/// Inode of the initial PID namespace (include/linux/proc_ns.h).
const INITIAL: u64 = 0xEFFF_FFFC;

/// Why processes cannot be identified by their PIDs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// /proc cannot be read.
    #[error("cannot determine the PID namespace of process {pid}")]
    Unknown {
        /// The process.
        pid: u32,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The kernel reports a process's PID in its own namespace only.
    #[error(
        "process {0} is in another PID namespace than memtrace, which is not in the initial one either: run memtrace in that \
         namespace (`nsenter --pid --mount --target PID`), or outside of all"
    )]
    Other(u32),
}

/// Device and inode of the PID namespace of this process and of all `pids`, for the programs; `None` in the initial
/// one, whose PIDs every process has.
///
/// # Errors
/// This process is not in the initial namespace, and one of them is in a third.
pub fn pid_namespace(pids: &[u32]) -> Result<Option<(u64, u64)>, Error> {
    let read = |path: String, pid| {
        let metadata = fs::metadata(path).map_err(|source| Error::Unknown { pid, source })?;
        Ok((metadata.dev(), metadata.ino()))
    };
    let (device, own) = read("/proc/self/ns/pid".to_owned(), std::process::id())?;
    if own == INITIAL || pids.is_empty() {
        return Ok(None);
    }
    for &pid in pids {
        if read(format!("/proc/{pid}/ns/pid"), pid)? != (device, own) {
            return Err(Error::Other(pid));
        }
    }
    // The kernel's own form of a device number, as far as one of a file system without a device goes.
    let device = u64::from(libc::major(device)) << 20 | u64::from(libc::minor(device));
    Ok(Some((device, own)))
}

#[cfg(test)]
mod tests {
    use super::pid_namespace;

    #[test]
    fn without_pids_nothing_is_asked() {
        assert!(matches!(pid_namespace(&[]), Ok(None)));
    }
}
