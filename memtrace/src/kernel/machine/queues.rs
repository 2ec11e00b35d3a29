//! What is unread in pipes and sockets. Descriptors are duplicated for a moment (`pidfd_getfd`), so this is done only if
//! something points there.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use rustc_hash::FxHashSet;

use super::{
    descriptors::{Descriptor, Sums, each},
    file::Roots,
};
use crate::profile::machine::{Holding, Place, ProcessMemory};

/// `SO_MEMINFO` (include/uapi/asm-generic/socket.h), and the places in what it returns (include/uapi/linux/sock_diag.h):
/// `SK_MEMINFO_RMEM_ALLOC`, `SK_MEMINFO_WMEM_ALLOC`, `SK_MEMINFO_WMEM_QUEUED`.
const SO_MEMINFO: libc::c_int = 55;
const RECEIVED: usize = 0;
const SENT: usize = 2;
const QUEUED: usize = 5;

/// Pipes and sockets of all processes that hold something, each counted for the process that is found first.
#[must_use]
pub fn queues(roots: &Roots, processes: &[ProcessMemory]) -> Vec<Holding> {
    let (mut sums, mut seen) = (Sums::default(), FxHashSet::default());
    let mut last: Option<(u32, Option<OwnedFd>)> = None;
    let _hidden = each(roots, processes, |Descriptor { owner, path, target }| {
        let is_pipe = target.starts_with("pipe:[");
        let is_queue = is_pipe || target.starts_with("socket:[");
        if !is_queue || !seen.insert(target) {
            return;
        }
        if last.as_ref().is_none_or(|(pid, _)| *pid != owner.pid) {
            last = Some((owner.pid, pidfd(owner.pid)));
        }
        let number = path.file_name().and_then(|name| name.to_str()?.parse::<RawFd>().ok());
        let process = last.as_ref().and_then(|(_, process)| process.as_ref());
        let Some(copy) = process.zip(number).and_then(|(process, number)| duplicate(process, number)) else {
            return;
        };
        let bytes = if is_pipe { unread(&copy) } else { queued(&copy) };
        if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
            let owner = owner.clone();
            sums.add(if is_pipe { Place::Pipes(owner) } else { Place::Sockets(owner) }, bytes);
        }
    });
    sums.holdings().collect()
}

fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: the call reads two integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

fn duplicate(process: &OwnedFd, number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the call reads three integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

fn owned(fd: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: a new descriptor without another owner.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes unread in a pipe.
fn unread(pipe: &OwnedFd) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one integer.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| result == 0)
}

/// Bytes that the kernel holds for what is received and for what waits to be sent, with its own data.
fn queued(socket: &OwnedFd) -> Option<u64> {
    let mut numbers = [0_u32; 16];
    let mut length = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the call writes at most `length` bytes there.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let at = |place: usize| numbers.get(place).map_or(0, |&number| u64::from(number));
    // What is unread in a Unix socket counts for its sender; of TCP what is sent is part of what is queued.
    (result == 0).then(|| at(RECEIVED) + at(SENT).max(at(QUEUED)))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::fd::{AsFd as _, OwnedFd},
        os::unix::net::UnixStream,
    };

    use super::{queued, unread};

    #[test]
    fn what_is_unread_is_counted() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[1; 3000]).unwrap();
        let reader: OwnedFd = reader.into();
        assert_eq!(unread(&reader), Some(3000));
        assert_eq!(queued(&reader), None);
        let (one, mut other) = UnixStream::pair().unwrap();
        other.write_all(&[1; 3000]).unwrap();
        let of = |socket: &UnixStream| queued(&socket.as_fd().try_clone_to_owned().unwrap());
        assert!(of(&other).is_some_and(|bytes| (3000..32_768).contains(&bytes)));
        assert_eq!(of(&one), Some(0));
    }
}
