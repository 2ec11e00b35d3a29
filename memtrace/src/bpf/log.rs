//! Messages from the programs, with `--verbose`.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// The stream of messages. Poll its file descriptor for reading, then call [`KernelLog::flush`].
pub struct KernelLog {
    logger: EbpfLogger<&'static dyn log::Log>,
}

impl KernelLog {
    /// Starts reading; `None` when the object logs nothing.
    pub(super) fn new(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init(ebpf).ok().map(|logger| Self { logger })
    }

    /// Hands on what has arrived, as records of the `log` crate.
    pub fn flush(&mut self) {
        self.logger.flush();
    }
}

impl AsRawFd for KernelLog {
    fn as_raw_fd(&self) -> RawFd {
        self.logger.as_raw_fd()
    }
}
