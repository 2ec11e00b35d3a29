//! Starting a command so that its first allocation is seen.
//!
//! The command is traced (`PTRACE_SEIZE`) before it calls `exec`, and runs from one system call to the next while its
//! dynamic loader maps its libraries; whenever a file has been mapped, the caller may attach probes. The loader is done
//! when the first system call comes from elsewhere: no constructor has run by then, since libraries allocate in code
//! that is not the loader's. Then the command is released, or stays traced so that it can be held at its end (`hold`).

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    num::NonZeroU32,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Command, ExitStatus},
    time::Duration,
};

use nix::sys::{
    resource::{Resource, setrlimit},
    signal::SigSet,
};

use super::{
    error::Error,
    hold::{Hold, Keeper, Request},
    limits::limits_before,
    oom_score::without_protection,
    process::{pidfd, send},
    user::User,
};

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
    pid: u32,
    /// For signals: unlike its number it is never another process.
    process: OwnedFd,
    /// Waits for it and traces it.
    keeper: Keeper,
    /// Whether it is still stopped, before its first instruction or in its loader.
    is_stopped: bool,
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

    /// Starts the command, stopped before its first instruction. Starts a thread of the agent too, which never ends.
    ///
    /// # Errors
    /// No such program, it cannot be executed by that user, or it cannot be traced.
    pub fn start(&self) -> Result<Launched, Error> {
        let program = self.command.first().cloned().unwrap_or_default();
        let failed = |source| Error::Spawn { command: program.clone().into(), source };
        let (gate, child_gate) = UnixStream::pair().map_err(failed)?;
        let mut command = self.command(child_gate, gate.as_raw_fd());
        let mut keeper = Keeper::start(gate).map_err(failed)?;
        let child = command.spawn().map_err(|source| {
            // The other ends of the gate, if it was not even forked.
            drop(std::mem::replace(&mut command, Command::new("")));
            keeper.refusal().unwrap_or_else(|| failed(source))
        })?;
        // It has its own descriptor of the gate by now.
        drop(command);
        keeper.is_ready(child.id())?;
        let process = pidfd(child.id())?;
        Ok(Launched { pid: child.id(), process, keeper, is_stopped: true })
    }

    /// The command, which waits at a gate before it does anything. `others`: the descriptor of the gate's other end.
    fn command(&self, gate: UnixStream, others: i32) -> Command {
        let mut command = Command::new(self.command.first().cloned().unwrap_or_default());
        command.args(self.command.iter().skip(1));
        if let Some(user) = &self.user {
            command.envs(user.environment.iter().map(|(key, value)| (key, value)));
            for variable in ["SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND"] {
                command.env_remove(variable);
            }
        }
        let (user, files) = (self.user.clone(), self.files);
        without_protection(&mut command);
        // SAFETY: between fork and exec only system calls are made; what they need was computed before. The descriptor
        // that is closed is the child's copy, which nothing in the child uses.
        unsafe {
            command.pre_exec(move || {
                // If the agent dies, the gate has no other end, and this process does not wait forever.
                libc::close(others);
                (&gate).write_all(&std::process::id().to_ne_bytes())?;
                (&gate).read_exact(&mut [0])?;
                setrlimit(Resource::RLIMIT_NOFILE, files.0, files.1)?;
                // The agent may have blocked some.
                SigSet::empty().thread_set_mask()?;
                if let Some(user) = &user {
                    nix::unistd::setgroups(&user.groups)?;
                    nix::unistd::setresgid(user.gid, user.gid, user.gid)?;
                    nix::unistd::setresuid(user.uid, user.uid, user.uid)?;
                }
                Ok(())
            });
        }
        command
    }
}

impl Launched {
    /// Its pid, for tracing.
    #[must_use]
    pub fn pid(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.pid)
    }

    /// Its pid, as a number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Lets the loader run until it has mapped another executable file, or is done.
    ///
    /// # Errors
    /// The process ended instead.
    pub fn step(&mut self) -> Result<Progress, Error> {
        self.keeper.ask(Request::Step)
    }

    /// Releases it: nothing traces it any more.
    ///
    /// # Errors
    /// It has ended.
    pub fn release(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.is_stopped) {
            self.keeper.ask(Request::Release)?;
        }
        Ok(())
    }

    /// Lets it run as [`Launched::release`] does, but holds it at its end, while it still has its memory: for `limit`
    /// at most, and only until [`Hold`] is dropped. Until then it is traced; see [`Hold`] for what that means.
    ///
    /// # Errors
    /// It has ended, or was released before.
    pub fn release_until_exit(&mut self, limit: Duration) -> Result<Hold, Error> {
        if !std::mem::take(&mut self.is_stopped) {
            return Err(Error::Exited(self.pid));
        }
        let failed = |source| Error::Process { pid: self.pid, what: "hold", source };
        let (news, notice) = UnixStream::pair().map_err(failed)?;
        self.keeper.ask(Request::Hold { limit, notice })?;
        Ok(self.keeper.hold(news))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.keeper.let_go();
        send(&self.process, libc::SIGKILL);
        if std::mem::take(&mut self.is_stopped) {
            self.keeper.give_up();
        }
        self.keeper.wait();
    }

    /// Its exit status, once it has ended.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.keeper.exit_status()
    }

    /// Waits for its end. Returns the status as a shell does: its own, or 128 plus the signal.
    #[must_use]
    pub fn wait(&self) -> u8 {
        let status = self.keeper.wait();
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).map_or(1, |code| code as u8)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Still stopped: the caller has given up, and the command has not started.
        if self.is_stopped {
            self.kill();
        }
    }
}
