//! A file descriptor that the loop polls.

use std::os::fd::AsRawFd;

use anyhow::Context as _;
use tokio::io::unix::AsyncFd;

/// Something with a file descriptor that is polled for reading.
pub struct Watched<T: AsRawFd> {
    fd: AsyncFd<T>,
    ready: bool,
}

impl<T: AsRawFd> Watched<T> {
    /// Starts to watch it. The object must own its descriptor, which must stay open and unchanged.
    ///
    /// # Errors
    /// It cannot be polled.
    pub fn new(inner: T) -> anyhow::Result<Self> {
        // SAFETY: every `T` here (ring buffer, log, pidfd) owns its descriptor, which stays open and unchanged until
        // it is dropped with the `AsyncFd`.
        let fd = unsafe { AsyncFd::register_with_interest(inner, tokio::io::Interest::READABLE) }
            .map_err(|refused| refused.into_parts().1)
            .context("cannot watch a file descriptor")?;
        Ok(Self { fd, ready: false })
    }

    /// The object that owns the descriptor.
    pub fn inner(&mut self) -> &mut T {
        self.fd.get_mut()
    }

    /// Waits for something to read. Stays ready until [`Watched::exhausted`].
    pub async fn readable(&mut self) -> anyhow::Result<()> {
        if !self.ready {
            self.fd.readable().await?.retain_ready();
            self.ready = true;
        }
        Ok(())
    }

    /// Everything was read: the next `readable` waits for more.
    pub fn exhausted(&mut self) {
        self.ready = false;
        let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(Ok(mut guard)) = self.fd.poll_read_ready(&mut nothing) {
            guard.clear_ready();
        }
    }

    /// Whether there is something to read.
    pub fn poll(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.fd.poll_read_ready(context).map(|_| ())
    }
}
