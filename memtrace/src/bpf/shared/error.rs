//! What can go wrong between the agent and the kernel.

use std::{io, path::PathBuf};

/// An error of the kernel side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object could not be loaded into the kernel.
    #[error("cannot load the eBPF object")]
    Load(#[source] aya::EbpfError),
    /// The kernel rejected a program.
    #[error("the kernel rejected the eBPF program `{program}`")]
    Program {
        /// The program's name.
        program: &'static str,
        /// The kernel's error.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// A map could not be used.
    #[error("cannot use the eBPF map `{map}`")]
    Map {
        /// The map's name.
        map: &'static str,
        /// What went wrong.
        #[source]
        source: aya::maps::MapError,
    },
    /// The object lacks a program or map: it does not belong to this agent.
    #[error("the eBPF object has no `{0}`: it does not belong to this build of memtrace")]
    Missing(&'static str),
    /// A system call failed.
    #[error("{what} failed")]
    Io {
        /// The call.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object could not be prepared for a kind of program that aya does not load.
    #[error("cannot prepare the eBPF object for multi-uprobes: {0}")]
    Object(String),
    /// The probes could not be attached.
    #[error("cannot attach to {function} in {}", file.display())]
    Attach {
        /// The function, or the first of several.
        function: String,
        /// The file that should have been probed.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel has no BTF.
    #[error(
        "this kernel has no BTF (/sys/kernel/btf/vmlinux): kernel mode needs it for the arguments of tracepoints; \
         boot one with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf,
    /// The kernel has no BTF, or its tasks are not as expected.
    #[error("the registers of threads cannot be read: this kernel's BTF does not describe its tasks")]
    NoTasks,
    /// More threads than can be read.
    #[error("process {pid} has more than {most} threads")]
    TooManyThreads {
        /// The process.
        pid: u32,
        /// The most that are read.
        most: usize,
    },
    /// More targets than one session can hold.
    #[error("at most {0} processes can be traced at once")]
    TooManyTargets(u32),
}

impl Error {
    /// Whether privileges are missing.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        // The verifier also rejects programs with EACCES.
        let verifier = matches!(self, Self::Program { .. });
        self.has_number(|number| number == libc::EPERM || (!verifier && number == libc::EACCES))
    }

    /// Whether this process, or the system, has too many files open.
    #[must_use]
    pub fn is_out_of_files(&self) -> bool {
        self.has_number(|number| matches!(number, libc::EMFILE | libc::ENFILE))
    }

    /// Whether a cause is a system error with this number.
    fn has_number(&self, is_it: impl Fn(i32) -> bool) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = source {
            if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).is_some_and(&is_it) {
                return true;
            }
            source = error.source();
        }
        false
    }
}

impl Error {
    pub(in crate::bpf) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    pub(in crate::bpf) fn map(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}
