//! `jit-PID.dump`: functions with their code and source lines, one record after the other (Linux,
//! tools/perf/Documentation/jitdump-specification.txt). Code is passed over.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use super::{MOST, MOST_BYTES, Map, Place};

/// The first bytes, of a machine with this byte order.
const MAGIC: u32 = 0x4A69_5444;
/// Where its size is in the header, and the size of a record's.
const HEADER_SIZE_AT: u64 = 8;
const LEAST_HEADER: u32 = 40;
const RECORD: u64 = 16;
/// Kinds of records.
const LOAD: u32 = 0;
const MOVE: u32 = 1;
const DEBUG_INFO: u32 = 2;
/// Records, and lines of functions that were moved, that are looked at at most.
const MOST_WORK: usize = 4 * MOST;
/// The longest name.
const MOST_NAME: usize = 4096;
/// A file's name that is that of the entry before.
const SAME: &[u8] = b"\xff";

/// Whether a file is a dump.
pub(super) fn is_one(file: &File) -> bool {
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).is_ok() && u32::from_ne_bytes(magic) == MAGIC
}

/// Reads a dump of `size` bytes. What follows a record that is damaged, or not complete yet, is left out.
pub(super) fn read(file: &File, size: u64) -> io::Result<Map> {
    let mut header = [0; 4];
    file.read_exact_at(&mut header, HEADER_SIZE_AT)?;
    let mut at = u64::from(u32::from_ne_bytes(header).max(LEAST_HEADER));
    let mut input = BufReader::new(Input { file, at: 0 });
    let mut dump = Dump::default();
    while at.saturating_add(RECORD) <= size {
        let from = input.stream_position()?;
        input.seek_relative(at.wrapping_sub(from).cast_signed())?;
        let Ok([kind, length]) = numbers::<u32, 2>(&mut input) else { break };
        let end = at.saturating_add(length.into());
        if u64::from(length) < RECORD || end > size {
            break;
        }
        let mut record = input.by_ref().take(u64::from(length) - 8);
        if !dump.take(kind, &mut record) {
            break;
        }
        at = end;
    }
    Ok(dump.map)
}

/// A file that is read from a place of its own: the child may not move that of a descriptor.
struct Input<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(bytes, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// What has been read.
#[derive(Default)]
struct Dump {
    map: Map,
    /// The function whose record comes next, and its lines.
    pending: (u64, Vec<(u64, Place)>),
    /// Records and lines that were looked at.
    work: usize,
}

impl Dump {
    /// Takes what follows the size of a record. Returns whether there is room for more.
    fn take(&mut self, kind: u32, record: &mut impl BufRead) -> bool {
        // A record that is shorter than it should be tells nothing.
        let _ = match kind {
            LOAD => self.load(record),
            MOVE => self.moved(record),
            DEBUG_INFO => self.lines(record),
            _ => Ok(()),
        };
        self.work += 1;
        self.work < MOST_WORK
            && self.map.functions.len() < MOST
            && self.map.lines.len() < MOST
            && (self.map.text.len() as u64) < MOST_BYTES
    }

    fn load(&mut self, record: &mut impl BufRead) -> io::Result<()> {
        let [_time, _process, _unused, start, size, _index] = numbers(record)?;
        let name = self.text(record)?;
        let code = range(start, size);
        if !code.is_empty() && !name.is_empty() {
            self.map.add(code.clone(), name);
            let (of, lines) = std::mem::take(&mut self.pending);
            let lines = lines.into_iter().filter(|(at, _)| of == start && code.contains(at));
            self.map.lines.extend(lines);
        }
        Ok(())
    }

    fn moved(&mut self, record: &mut impl Read) -> io::Result<()> {
        let [_time, _process, _unused, from, to, size, _index] = numbers(record)?;
        let code = range(to, size);
        if code.is_empty() {
            return Ok(());
        }
        if let Some((end, name)) = self.map.functions.remove(&from) {
            let lines = self.map.take_lines(from..end);
            self.work = self.work.saturating_add(lines.len());
            self.map.add(code.clone(), name);
            let moved = |at: u64| at.wrapping_sub(from).checked_add(to).filter(|at| code.contains(at));
            self.map.lines.extend(lines.into_iter().filter_map(|(at, place)| Some((moved(at)?, place))));
        }
        Ok(())
    }

    fn lines(&mut self, record: &mut impl BufRead) -> io::Result<()> {
        let [_time, code, count] = numbers::<u64, 3>(record)?;
        self.pending = (code, Vec::new());
        let mut last = 0..0;
        for _ in 0..count.min(MOST as u64) {
            let [address] = numbers(record)?;
            let [line, _column] = numbers(record)?;
            let file = self.text(record)?;
            if self.map.text.get(file.clone()) == Some(SAME) {
                self.map.text.truncate(file.start);
            } else {
                last = file;
            }
            if !last.is_empty() {
                self.pending.1.push((address, Place { line, file: last.clone() }));
            }
        }
        Ok(())
    }

    /// Reads a text that ends in NUL, and returns its place. What is too long is cut.
    fn text(&mut self, record: &mut impl BufRead) -> io::Result<Range<usize>> {
        let begin = self.map.text.len();
        let most = (begin + MOST_NAME).min(MOST_BYTES as usize);
        loop {
            let there = record.fill_buf()?;
            if there.is_empty() {
                self.map.text.truncate(begin);
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = there.iter().position(|&byte| byte == 0);
            let part = there.get(..end.unwrap_or(there.len())).unwrap_or_default();
            let room = most.saturating_sub(self.map.text.len());
            self.map.text.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            let used = part.len() + usize::from(end.is_some());
            record.consume(used);
            if end.is_some() {
                return Ok(begin..self.map.text.len());
            }
        }
    }
}

fn range(start: u64, size: u64) -> Range<u64> {
    start..start.saturating_add(size)
}

/// A number as this machine has it in memory.
trait Number: Copy + Default {
    fn read(from: &mut impl Read) -> io::Result<Self>;
}

impl Number for u32 {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes).map(|()| Self::from_ne_bytes(bytes))
    }
}

impl Number for u64 {
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes).map(|()| Self::from_ne_bytes(bytes))
    }
}

fn numbers<T: Number, const N: usize>(from: &mut impl Read) -> io::Result<[T; N]> {
    let mut all = [T::default(); N];
    for number in &mut all {
        *number = T::read(from)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::super::{Map, Named};
    use super::{DEBUG_INFO, LEAST_HEADER, LOAD, MAGIC, MOVE};

    fn record(kind: u32, numbers: &[u64], rest: &[u8]) -> Vec<u8> {
        let body: Vec<u8> =
            numbers.iter().flat_map(|number| number.to_ne_bytes()).chain(rest.iter().copied()).collect();
        let size = body.len() as u32 + 8;
        [kind.to_ne_bytes().as_slice(), &size.to_ne_bytes(), &body].concat()
    }

    fn load(start: u64, size: u64, name: &str) -> Vec<u8> {
        record(
            LOAD,
            &[1, 2, 0, start, size, 3],
            &[name.as_bytes(), b"\0", &vec![0xcc; size as usize]].concat(),
        )
    }

    fn line(address: u64, line: u32, file: &[u8]) -> Vec<u8> {
        [address.to_ne_bytes().as_slice(), &line.to_ne_bytes(), &[0; 4], file, b"\0"].concat()
    }

    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        let mut header = [MAGIC, 1, LEAST_HEADER, 62, 0, 1].map(u32::to_ne_bytes).concat();
        header.resize(LEAST_HEADER as usize, 0);
        [header, records.concat()].concat()
    }

    fn read(bytes: &[u8]) -> Map {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Map::read(&file, bytes.len() as u64).unwrap()
    }

    fn at(map: &Map, address: u64) -> (String, Option<String>, Option<u32>) {
        let Some(Named { function, file, line, .. }) = map.find(address) else { return Default::default() };
        (function.unwrap_or_default(), file, line)
    }

    #[test]
    fn functions_are_loaded_moved_and_replaced() {
        let lines = [line(0x1000, 7, b"/srv/app.kt"), line(0x1010, 9, b"\xff")].concat();
        let map = read(&file(&[
            // Of another function, and without a file.
            record(DEBUG_INFO, &[1, 0x9000, 1], &line(0x2010, 5, b"/srv/other.kt")),
            record(DEBUG_INFO, &[1, 0x1000, 1], &line(0x1000, 5, b"\xff")),
            record(DEBUG_INFO, &[1, 0x1000, 2], &lines),
            load(0x1000, 0x20, "app.Cart.keep"),
            load(0x2000, 0x40, "JS:*retain /srv/app.js:12:3"),
            record(9, &[1, 2], b"of a later version"),
            load(0x3000, 0x10, "first"),
            load(0x3008, 0x10, "second"),
            record(MOVE, &[1, 2, 0, 0x1000, 0x5000, 0x20, 3], b""),
        ]));
        let named = |name: &str, file: Option<&str>, line| (name.to_owned(), file.map(str::to_owned), line);
        assert_eq!(at(&map, 0x500f), named("app.Cart.keep", Some("/srv/app.kt"), Some(7)));
        assert_eq!(at(&map, 0x5010), named("app.Cart.keep", Some("/srv/app.kt"), Some(9)));
        assert_eq!(at(&map, 0x2010), named("retain", Some("/srv/app.js"), Some(12)));
        assert_eq!(at(&map, 0x3008), named("second", None, None));
        assert_eq!([at(&map, 0x1000), at(&map, 0x3000)], [named("", None, None), named("", None, None)]);
    }

    #[test]
    fn what_is_damaged_or_unfinished_is_left_out() {
        let lines = [line(0x1000, 7, b"/srv/app.kt"), line(0x1008, 9, b"\xff")].concat();
        let whole = file(&[
            record(DEBUG_INFO, &[1, 0x1000, 2], &lines),
            load(0x1000, 0x10, "first"),
            record(MOVE, &[1, 2, 0, 0x1000, 0x5000, 0x10, 3], b""),
            load(0x2000, 0x10, "second"),
        ]);
        for end in 12..whole.len() {
            let map = read(&whole[..end]);
            let second = at(&map, 0x2000).0;
            assert!(second.is_empty(), "{end}");
        }
        assert_eq!(at(&read(&whole), 0x2000).0, "second");
        let mut state = 1_u64;
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut damaged = whole.clone();
            let place = (state >> 33) as usize % damaged.len();
            damaged[place.max(4)] = (state >> 20) as u8;
            let map = read(&damaged);
            let _ = (at(&map, 0), at(&map, 0x1000), at(&map, u64::MAX));
        }
    }

    /// A function with many lines that is moved back and forth would take for ever.
    #[test]
    fn the_work_that_a_dump_makes_is_bounded() {
        let mut dump = super::Dump::default();
        dump.map.functions.insert(0, (1 << 20, 0..0));
        dump.map.lines.extend((0..1 << 19).map(|at| (at, super::Place { line: 1, file: 0..0 })));
        let mut moves = 0;
        let (mut from, mut to) = (0_u64, 1_u64 << 40);
        loop {
            let body = record(MOVE, &[1, 2, 0, from, to, 1 << 20, 3], b"");
            if !dump.take(MOVE, &mut &body[8..]) {
                break;
            }
            (moves, from, to) = (moves + 1, to, from);
        }
        assert!(moves < 10, "{moves}");
    }

    #[test]
    fn other_files_are_no_dumps() {
        let file = File::open("/dev/null").unwrap();
        assert!(!super::is_one(&file));
    }
}
