//! A process to trace.

use std::{
    fs, io,
    num::NonZeroU32,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use procfs::process::{Process as ProcProcess, Stat};

use super::{error::Error, threads};
use crate::elf::{Image, Machine};

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// The processor memtrace runs on.
const MACHINE: Machine = if cfg!(target_arch = "aarch64") { Machine::Aarch64 } else { Machine::X86_64 };

/// A live process that can be traced.
#[derive(Debug)]
pub struct Process {
    /// Its pid.
    pub pid: NonZeroU32,
    /// Its command name, at most 15 bytes.
    pub comm: String,
    exit: Exit,
}

/// Becomes readable when the process has exited.
#[derive(Debug)]
pub struct Exit(OwnedFd);

impl AsRawFd for Exit {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Process {
    /// Checks process `pid`.
    ///
    /// # Errors
    /// There is no such process, or it is one that cannot be traced: a thread, a kernel thread, one without a living
    /// thread, a 32-bit program; or access to /proc is denied.
    pub fn open(pid: u32) -> Result<Self, Error> {
        let number = i32::try_from(pid).ok().filter(|&pid| pid > 0).ok_or(Error::NoSuchProcess(pid))?;
        let stat = ProcProcess::new(number)
            .and_then(|process| process.stat())
            .map_err(|_gone| Error::NoSuchProcess(pid))?;
        let number = NonZeroU32::new(pid).ok_or(Error::NoSuchProcess(pid))?;
        if let Some(leader) = thread_of(pid).filter(|&leader| leader != pid) {
            return Err(Error::Thread { tid: pid, pid: leader });
        }
        let exit = Exit(pidfd(pid)?);
        check(pid, &stat)?;
        Ok(Self { pid: number, comm: stat.comm, exit })
    }

    /// A descriptor that becomes readable when the process exits.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn exit(&self) -> io::Result<Exit> {
        self.exit.0.try_clone().map(Exit)
    }

    /// CPU time that all its threads have used; `None` if it is gone.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid.get()).ok()?);
        let clock = nix::time::clock_getcpuclockid(pid).ok()?;
        nix::time::clock_gettime(clock).ok().map(Duration::from)
    }

    /// Whether a signal has stopped it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let pid = i32::try_from(self.pid.get()).unwrap_or_default();
        let stat = ProcProcess::new(pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// Whether it has exited.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.exit.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry; no wait.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }
}

impl Exit {
    /// Asks the process to end (SIGTERM); nothing if it has.
    pub fn terminate(&self) {
        send(&self.0, libc::SIGTERM);
    }
}

/// Sends a signal to the process of a descriptor, if it is still there.
pub(super) fn send(process: &OwnedFd, signal: libc::c_int) {
    // SAFETY: the call reads integers; no information goes with the signal.
    let _ = unsafe {
        let none = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0)
    };
}

/// The process that a thread belongs to.
fn thread_of(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// A descriptor of process `pid`.
pub(super) fn pidfd(pid: u32) -> Result<OwnedFd, Error> {
    // SAFETY: the call reads two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd >= 0 {
        // SAFETY: a new descriptor without another owner.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Err(Error::NoSuchProcess(pid)),
        source => Err(Error::Process { pid, what: "watch", source }),
    }
}

fn check(pid: u32, stat: &Stat) -> Result<(), Error> {
    let comm = stat.comm.clone();
    if stat.flags & KERNEL_THREAD != 0 {
        return Err(Error::KernelThread { pid, comm });
    }
    let Some(thread) = threads::living(pid) else { return Err(Error::Zombie { pid, comm }) };
    let exe = std::path::PathBuf::from(format!("/proc/{thread}/exe"));
    match Image::open(&exe) {
        Ok(image) if image.machine() == MACHINE => Ok(()),
        Ok(image) => Err(Error::Unsupported { pid, comm, what: format!("for {:?}", image.machine()) }),
        Err(error) => Err(unreadable(pid, comm, &error)),
    }
}

/// Why a process's program cannot be read.
fn unreadable(pid: u32, comm: String, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let copy = io.raw_os_error().map_or_else(|| io.kind().into(), io::Error::from_raw_os_error);
            return match io.kind() {
                io::ErrorKind::PermissionDenied => {
                    Error::Permission { pid, what: "the program", source: copy }
                }
                io::ErrorKind::NotFound => Error::Exited(pid),
                _ => Error::Process { pid, what: "read the program of", source: copy },
            };
        }
        source = error.source();
    }
    Error::Unsupported { pid, comm, what: error.to_string() }
}
