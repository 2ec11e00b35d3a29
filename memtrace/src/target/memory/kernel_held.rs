//! Words that a target gave to the kernel, which may be its only copies of a pointer.

use std::{fs, io, path::Path};

use crate::target::lines::Lines;

/// Words at most.
const MAX_WORDS: usize = 1 << 20;
/// Descriptors that are looked at, at most.
const MAX_DESCRIPTORS: usize = 65_536;
/// Lines of one file at most: there are others than those of words.
const MAX_LINES: usize = 8 * MAX_WORDS;
/// Bytes of a line; the lines that are understood have at most about 120.
const MAX_LINE: u64 = 512;

/// The words that the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The words, none of them 0, those of epoll first, maybe repeated. At most 1,048,576.
    pub words: Vec<u64>,
    /// How many of them are of epoll; the rest are of timers.
    pub epoll: usize,
    /// Whether more may exist: a limit was reached, or a file could not be read.
    pub is_cut: bool,
}

/// The words that the process of a thread gave to the kernel: the data of its epoll descriptors, of which 65,536
/// descriptors are searched, and the values of its POSIX timers. Other places are not visible here: message queues' notifications, AIO and io_uring requests that are not in a ring.
#[must_use]
pub fn kernel_held(thread: u32) -> Held {
    let mut held = Held::default();
    let epoll = epoll_data(thread, &mut held);
    held.epoll = held.words.len();
    if epoll.and_then(|()| timer_values(thread, &mut held)).is_err() {
        held.is_cut = true;
    }
    held
}

/// The data of each watched descriptor, by `tfd: 5 events: 1 data: 7f0012345678  pos:0 ino:1 sdev:f` (`ep_show_fdinfo`,
/// fs/eventpoll.c).
fn epoll_data(thread: u32, held: &mut Held) -> io::Result<()> {
    for (count, entry) in fs::read_dir(format!("/proc/{thread}/fd"))?.enumerate() {
        if count == MAX_DESCRIPTORS {
            held.is_cut = true;
            break;
        }
        // A descriptor that cannot be followed was closed meanwhile.
        let entry = entry?;
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let Some(descriptor) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if target == Path::new("anon_inode:[eventpoll]") {
            let path = format!("/proc/{thread}/fdinfo/{descriptor}");
            let result = words(&path, held, |line| {
                line.strip_prefix("tfd:")?.split_once(" data:")?.1.split_ascii_whitespace().next()
            });
            held.is_cut |= result.is_err_and(|error| !is_closed(&error));
        }
    }
    Ok(())
}

/// The value of each timer, by `signal: 60/00007fff86e452a8` (`show_timer`, fs/proc/base.c).
fn timer_values(thread: u32, held: &mut Held) -> io::Result<()> {
    let path = format!("/proc/{thread}/timers");
    words(&path, held, |line| Some(line.strip_prefix("signal:")?.split_once('/')?.1.trim_end()))
}

fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Adds the words that `find` finds in the lines of a file, in hexadecimal.
fn words(path: &str, held: &mut Held, find: impl Fn(&str) -> Option<&str>) -> io::Result<()> {
    let mut lines = Lines::open(path, MAX_LINE)?;
    for _ in 0..MAX_LINES {
        let Some(line) = lines.next()? else { return Ok(()) };
        let text = std::str::from_utf8(line).ok().and_then(&find);
        match text.and_then(|text| u64::from_str_radix(text, 16).ok()) {
            None | Some(0) => {}
            Some(_) if held.words.len() >= MAX_WORDS => break,
            Some(word) => held.words.push(word),
        }
    }
    held.is_cut = true;
    Ok(())
}
