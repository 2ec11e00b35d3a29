//! Messages from the programs, with `--verbose`.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// The stream of messages. Poll its file descriptor for reading, then call [`BpfLog::flush`].
pub struct BpfLog {
    logger: EbpfLogger<&'static dyn log::Log>,
}

impl BpfLog {
    /// Starts reading; `None` when the object logs nothing.
    pub(in crate::bpf) fn new(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init(ebpf).ok().map(|logger| Self { logger })
    }

    /// Hands on what has arrived, as records of the `log` crate.
    pub fn flush(&mut self) {
        self.logger.flush();
    }
}

impl AsRawFd for BpfLog {
    fn as_raw_fd(&self) -> RawFd {
        self.logger.as_raw_fd()
    }
}
