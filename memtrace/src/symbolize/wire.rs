//! The protocol between the agent and the symbolizing child: a line of JSON per message, and open files.
//!
//! The child is not trusted: it has parsed a stranger's data. So its lines are bounded, and each read has a deadline.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::profile::Unread;

/// The most addresses per request.
pub(super) const BATCH: usize = 32;

/// Files sent with a request: the file itself, its debug file, and the one that this shares parts with.
const FILES: usize = 3;

/// The longest line accepted: an answer to a full batch is shorter, whatever the names.
const LONGEST: usize = 16 << 20;

/// The addresses of a file to name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The agent's number for the file.
    pub(super) file: u64,
    /// Set in the first request on a file; the file is sent with it.
    pub(super) load: Option<Load>,
    /// ELF virtual addresses, at most [`BATCH`].
    pub(super) addresses: Vec<u64>,
}

/// How to read a file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Load {
    /// Its bytes.
    pub(super) size: u64,
    /// Its debug file, which follows it.
    pub(super) debug: Option<DebugLoad>,
    /// Whether to ignore its debug information.
    pub(super) only_symbols: bool,
    /// Whether it is a map of generated code, which takes the place of the one before.
    pub(super) is_map: bool,
}

/// A debug file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct DebugLoad {
    /// Its bytes.
    pub(super) size: u64,
    /// The checksum that it must have.
    pub(super) crc: Option<u32>,
    /// Bytes of the file that it shares parts with, which follows it.
    pub(super) shared: Option<u64>,
}

/// What the child has found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What was wrong with the file.
    pub(super) problems: Vec<Trouble>,
    /// The functions at each address.
    pub(super) places: Vec<Vec<Named>>,
}

/// What of a file is not used, and the error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub(super) unread: Unread,
    pub(super) error: String,
}

/// The child's first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The privileges it could not drop, in words.
    pub(super) kept: Vec<String>,
}

/// A function at an address. Those inlined there come first, the function itself last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    /// Its name, demangled and bounded.
    pub(super) function: Option<String>,
    /// Its first address.
    pub(super) start: Option<u64>,
    /// The source file, bounded.
    pub(super) file: Option<String>,
    /// The line in it.
    pub(super) line: Option<u32>,
    /// Whether it was inlined into the next one.
    pub(super) inlined: bool,
}

/// Sends a line and files.
///
/// # Errors
/// The other side has exited, or accepts nothing.
pub(super) fn send(socket: &UnixStream, line: &impl Serialize, files: &[&File]) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    let descriptors: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
    let mut with = [ControlMessage::ScmRights(&descriptors)].to_vec();
    if files.is_empty() {
        with.clear();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        // Without a signal if the other side has exited.
        match sendmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &[IoSlice::new(rest)],
            &with,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                with.clear();
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// In the child: the next line and the files sent with it; `None` if the agent has exited.
///
/// # Errors
/// The line is not a valid request.
pub(super) fn receive(socket: &UnixStream) -> io::Result<Option<(Request, Vec<File>)>> {
    let (mut line, mut files) = (Vec::new(), Vec::new());
    let mut part = [0; 8192];
    let mut space = cmsg_space!([RawFd; FILES]);
    while line.last() != Some(&b'\n') {
        let mut parts = [IoSliceMut::new(&mut part)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            received => received?,
        };
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                // SAFETY: the kernel has just created these for this process.
                files.extend(
                    descriptors.into_iter().map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) })),
                );
            }
        }
        let length = received.bytes;
        if length == 0 {
            return Ok(None);
        }
        line.extend_from_slice(part.get(..length).unwrap_or_default());
    }
    Ok(Some((serde_json::from_slice(&line)?, files)))
}

/// In the agent: the child's next line.
///
/// # Errors
/// It does not arrive in time (`TimedOut`), is too long or not JSON, or the child has exited (`UnexpectedEof`).
pub(super) fn answer<T: DeserializeOwned>(socket: &mut UnixStream, limit: Duration) -> io::Result<T> {
    let end = Instant::now() + limit;
    let mut line = Vec::new();
    let mut part = [0; 1 << 16];
    while line.last() != Some(&b'\n') {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => line.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if line.len() > LONGEST {
            return Err(io::Error::other("its line is too long"));
        }
    }
    Ok(serde_json::from_slice(&line)?)
}
