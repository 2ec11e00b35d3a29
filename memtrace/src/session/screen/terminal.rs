//! The terminal of a live screen: keys as they are pressed, and as it was when the screen is left.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, bail};
use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    termios::{SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr},
};

/// The size of a terminal that does not know its own.
const USUAL: (u16, u16) = (80, 24);

/// A terminal whose keys are read one by one.
pub(super) struct RawTerminal {
    input: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// # Errors
    /// It is none any more.
    pub(super) fn new() -> anyhow::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned().context("cannot use the terminal")?;
        let before = tcgetattr(&input).context("cannot use the terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // A read returns what is there, without waiting.
        for (index, value) in [(SpecialCharacterIndices::VMIN, 0), (SpecialCharacterIndices::VTIME, 0)] {
            if let Some(place) = raw.control_chars.get_mut(index as usize) {
                *place = value;
            }
        }
        tcsetattr(&input, SetArg::TCSANOW, &raw).context("cannot use the terminal")?;
        Ok(Self { input, before })
    }

    /// A descriptor that keys are read from.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn input(&self) -> io::Result<File> {
        Ok(File::from(self.input.try_clone()?))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.input, SetArg::TCSADRAIN, &self.before);
    }
}

/// Makes sure that there is one.
///
/// # Errors
/// Standard input or standard output is no terminal.
pub(super) fn required() -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!("the screen needs a terminal: `memtrace attach` prints reports, also to a file or a pipe");
    }
    Ok(())
}

/// Columns and lines.
pub(super) fn size() -> (u16, u16) {
    let size = terminal_size::terminal_size();
    size.map(|(columns, lines)| (columns.0, lines.0)).filter(|size| size.0 > 0 && size.1 > 0).unwrap_or(USUAL)
}

/// Bytes of standard error that appear afterwards, the last ones.
const MOST_HELD: u64 = 1 << 16;

/// Standard error while it would destroy the picture: what is written to it appears when this is dropped.
pub(super) struct HeldErrors {
    before: OwnedFd,
    held: File,
}

impl HeldErrors {
    /// `None` if standard error is no terminal, or cannot be replaced.
    pub(super) fn new() -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let held = memfd_create(c"memtrace", MFdFlags::MFD_CLOEXEC).ok()?;
        let before = io::stderr().as_fd().try_clone_to_owned().ok()?;
        replace(held.as_raw_fd()).ok()?;
        Some(Self { before, held: File::from(held) })
    }
}

impl Drop for HeldErrors {
    fn drop(&mut self) {
        if replace(self.before.as_raw_fd()).is_err() {
            return;
        }
        let mut text = Vec::new();
        let length = self.held.metadata().map_or(0, |held| held.len());
        let begin = SeekFrom::Start(length.saturating_sub(MOST_HELD));
        let read = self.held.seek(begin).and_then(|_| (&self.held).take(MOST_HELD).read_to_end(&mut text));
        if read.is_ok() {
            let _ = io::stderr().write_all(&text);
        }
    }
}

/// Puts another file in the place of standard error.
fn replace(other: i32) -> io::Result<()> {
    // SAFETY: the call replaces descriptor 2, which nobody owns.
    if unsafe { libc::dup2(other, libc::STDERR_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A duplicate of standard output.
///
/// # Errors
/// Out of descriptors.
pub(super) fn output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}
