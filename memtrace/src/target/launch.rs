//! Starting a command so that its first allocation is seen.
//!
//! The command is started stopped (`PTRACE_TRACEME`) and runs from one system call to the next while its
//! dynamic loader maps its libraries; whenever a file has been mapped, the caller may attach probes. The
//! loader is done when the first system call comes from elsewhere: no constructor has run by then, since
//! libraries allocate in code that is not the loader's.

use std::{
    ffi::{OsStr, OsString},
    io,
    num::NonZeroU32,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        resource::{Resource, setrlimit},
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, Uid, User as PasswdUser},
};

use super::{error::Error, limits::limits_before, maps};

/// The most system calls followed: a loader of a thousand libraries makes about ten thousand.
const MAX_STEPS: usize = 100_000;

/// Not a valid id: for `setresuid` and `setresgid` it means "unchanged".
const UNCHANGED: u32 = u32::MAX;

/// The user that a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// Name, home and shell, for the environment.
    environment: Vec<(&'static str, OsString)>,
}

impl User {
    /// The user of a name or number.
    ///
    /// # Errors
    /// There is no such user.
    pub fn find(name: &str) -> Result<Self, Error> {
        let unknown = || Error::NoSuchUser(name.to_owned());
        let user = match name.parse::<u32>() {
            Ok(UNCHANGED) => return Err(unknown()),
            // Containers use users without an entry.
            Ok(uid) => match PasswdUser::from_uid(Uid::from_raw(uid)) {
                Ok(None) => {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
                    return Ok(Self { uid, gid, groups: vec![gid], environment: Vec::new() });
                }
                known => known,
            },
            Err(_not_a_number) => PasswdUser::from_name(name),
        };
        Self::of(&user.ok().flatten().ok_or_else(unknown)?).ok_or_else(unknown)
    }

    /// The caller of sudo, if there is one. One without an entry has the ids in the variables, without further groups.
    ///
    /// # Errors
    /// The caller cannot be determined: the command must not run as root instead.
    pub fn behind_sudo() -> Result<Option<Self>, Error> {
        let Some(uid) = std::env::var_os("SUDO_UID").filter(|_| nix::unistd::geteuid().is_root()) else {
            return Ok(None);
        };
        let uid = id("SUDO_UID", &uid)?;
        if uid == 0 {
            return Ok(None);
        }
        let known = PasswdUser::from_uid(Uid::from_raw(uid)).ok().flatten();
        if let Some(user) = known.as_ref().and_then(Self::of) {
            return Ok(Some(user));
        }
        let gid = Gid::from_raw(id("SUDO_GID", &std::env::var_os("SUDO_GID").unwrap_or_default())?);
        Ok(Some(Self { uid: Uid::from_raw(uid), gid, groups: Vec::new(), environment: Vec::new() }))
    }

    fn of(user: &PasswdUser) -> Option<Self> {
        let name = std::ffi::CString::new(user.name.as_str()).ok()?;
        let groups = nix::unistd::getgrouplist(&name, user.gid).ok()?;
        let environment = vec![
            ("USER", user.name.clone().into()),
            ("LOGNAME", user.name.clone().into()),
            ("HOME", user.dir.clone().into_os_string()),
            ("SHELL", user.shell.clone().into_os_string()),
        ];
        Some(Self { uid: user.uid, gid: user.gid, groups, environment })
    }
}

/// A user or group id in a variable of sudo.
fn id(variable: &'static str, value: &OsStr) -> Result<u32, Error> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|&number| number != UNCHANGED);
    number.ok_or_else(|| Error::Caller { variable, value: value.to_owned() })
}

/// A command to start.
#[derive(Clone, Debug)]
pub struct Launch {
    command: Vec<OsString>,
    user: Option<User>,
    /// Soft and hard limit of open files.
    files: (u64, u64),
}

/// What the loader has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It mapped another file.
    Mapped,
    /// It is done; the process is about to run its own code.
    Ready,
}

/// A started command.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    pid: Pid,
    traced: bool,
}

impl Launch {
    /// `command`: the program, looked up in PATH, and its arguments. `user`: the user it runs as, `None` for the
    /// agent's. The limit of open files will be what it was before [`super::raise_file_limit`].
    #[must_use]
    pub fn new(command: Vec<OsString>, user: Option<User>) -> Self {
        Self { command, user, files: limits_before() }
    }

    /// The program's name, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Starts the command, stopped before its first instruction.
    ///
    /// # Errors
    /// No such program, or it cannot be executed by that user.
    pub fn start(&self) -> Result<Launched, Error> {
        let program = self.command.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(self.command.iter().skip(1));
        if let Some(user) = &self.user {
            command.envs(user.environment.iter().map(|(key, value)| (key, value)));
            for variable in ["SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND"] {
                command.env_remove(variable);
            }
        }
        let (user, files, agent) = (self.user.clone(), self.files, nix::unistd::getpid());
        // SAFETY: between fork and exec only system calls are made; what they need was computed before.
        unsafe {
            command.pre_exec(move || {
                setrlimit(Resource::RLIMIT_NOFILE, files.0, files.1)?;
                // The agent may have blocked some.
                SigSet::empty().thread_set_mask()?;
                if let Some(user) = &user {
                    nix::unistd::setgroups(&user.groups)?;
                    nix::unistd::setresgid(user.gid, user.gid, user.gid)?;
                    nix::unistd::setresuid(user.uid, user.uid, user.uid)?;
                }
                ptrace::traceme()?;
                // If the agent died before that, this process would stay stopped forever.
                if nix::unistd::getppid() != agent {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(())
            });
        }
        let child = command.spawn().map_err(|source| Error::Spawn { command: program.into(), source })?;
        let pid = Pid::from_raw(child.id() as i32);
        let mut launched = Launched { child, pid, traced: true };
        launched.wait_for_exec()?;
        Ok(launched)
    }
}

impl Launched {
    /// Its pid, for tracing.
    #[must_use]
    pub fn pid(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.child.id())
    }

    /// Lets the loader run until it has mapped another executable file, or is done.
    ///
    /// # Errors
    /// The process ended instead.
    pub fn step(&mut self) -> Result<Progress, Error> {
        let loader = self.loader()?;
        let known = self.mapped_files()?;
        for _ in 0..MAX_STEPS {
            let (instruction, number) = match self.next_call() {
                Ok(call) => call,
                Err(Errno::ESRCH) => return Err(Error::Exited(self.child.id())),
                Err(errno) => return Err(self.failed("follow", errno)),
            };
            if loader.is_none_or(|(start, end)| !(start..end).contains(&instruction)) {
                return Ok(Progress::Ready);
            }
            if number == libc::SYS_mmap as u64 && self.mapped_files()? != known {
                return Ok(Progress::Mapped);
            }
        }
        Ok(Progress::Ready)
    }

    /// Releases it.
    ///
    /// # Errors
    /// It has ended.
    pub fn release(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.traced) {
            ptrace::detach(self.pid, None).map_err(|errno| self.failed("release", errno))?;
        }
        Ok(())
    }

    /// Its pid, as a number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.traced = false;
    }

    /// Its exit status, once it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end. Returns the status as a shell does: its own, or 128 plus the signal.
    pub fn wait(&mut self) -> u8 {
        match self.child.wait() {
            Ok(status) => status
                .code()
                .or_else(|| status.signal().map(|signal| 128 + signal))
                .map_or(1, |code| code as u8),
            Err(_) => 1,
        }
    }

    fn wait_for_exec(&mut self) -> Result<(), Error> {
        match waitpid(self.pid, None) {
            Ok(WaitStatus::Stopped(..)) => {}
            Ok(_) => return Err(Error::Exited(self.child.id())),
            Err(errno) => return Err(self.failed("wait for", errno)),
        }
        // Killed with the agent only while it is held: a stopped orphan would never end.
        ptrace::setoptions(
            self.pid,
            ptrace::Options::PTRACE_O_EXITKILL
                | ptrace::Options::PTRACE_O_TRACESYSGOOD
                | ptrace::Options::PTRACE_O_TRACEEXEC,
        )
        .map_err(|errno| self.failed("hold", errno))
    }

    /// Runs to the next entry to or exit from a system call. Returns where that was made from, and its number.
    fn next_call(&self) -> Result<(u64, u64), Errno> {
        let mut deliver: Option<Signal> = None;
        loop {
            ptrace::syscall(self.pid, deliver.take())?;
            match waitpid(self.pid, Some(WaitPidFlag::__WALL))? {
                WaitStatus::PtraceSyscall(_) => {
                    return ptrace::getregs(self.pid).map(system_call);
                }
                WaitStatus::Stopped(_, signal) => deliver = Some(signal),
                WaitStatus::PtraceEvent(..) => {}
                _ => return Err(Errno::ESRCH),
            }
        }
    }

    /// Where the dynamic loader is mapped: of the two files mapped at exec the one that is not the program.
    /// `None` for a static program.
    fn loader(&self) -> Result<Option<(u64, u64)>, Error> {
        let exe = std::fs::read_link(format!("/proc/{}/exe", self.child.id())).unwrap_or_default();
        let mappings = maps::executable(self.child.id()).map_err(|source| self.unreadable(source))?;
        Ok(mappings
            .iter()
            .find(|mapping| {
                let name = mapping.name.rsplit('/').next().unwrap_or_default();
                mapping.inode.1 != 0
                    && std::path::Path::new(&mapping.name) != exe
                    && (name.starts_with("ld-") || name.starts_with("ld.so") || name.starts_with("ld64"))
            })
            .map(|mapping| (mapping.start, mapping.end)))
    }

    fn mapped_files(&self) -> Result<Vec<(u64, u64)>, Error> {
        let mappings = maps::executable(self.child.id()).map_err(|source| self.unreadable(source))?;
        Ok(mappings.into_iter().filter(|mapping| mapping.inode.1 != 0).map(|mapping| mapping.inode).collect())
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Process { pid: self.child.id(), what: "read the mappings of", source }
    }

    fn failed(&self, what: &'static str, errno: Errno) -> Error {
        Error::Process { pid: self.child.id(), what, source: errno.into() }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Still held: the caller has given up, and the command has not started.
        if self.traced {
            self.kill();
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn system_call(registers: libc::user_regs_struct) -> (u64, u64) {
    (registers.rip, registers.orig_rax)
}

#[cfg(target_arch = "aarch64")]
fn system_call(registers: libc::user_regs_struct) -> (u64, u64) {
    (registers.pc, registers.regs[8])
}
