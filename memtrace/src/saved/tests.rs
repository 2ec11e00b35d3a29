//! What is written can be read, and what is damaged on the way is noticed.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::DeflateEncoder};
use serde::{Deserialize, Serialize};

use super::{Error, MAX_CONTENTS, MAX_PACKED, Reader, Tail, Writer, checksum};

const SCHEMA: u32 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    number: u64,
    names: Vec<String>,
}

fn report(number: u64) -> Report {
    Report { number, names: (0..number % 7).map(|name| format!("function_{name}")).collect() }
}

/// A directory, and a file in it with this many reports.
fn saved(reports: u64) -> (tempfile::TempDir, PathBuf, Writer) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved");
    let mut writer = Writer::create(&path, SCHEMA).unwrap();
    (0..reports).for_each(|number| writer.append(&report(number)).unwrap());
    (directory, path, writer)
}

fn open(path: &Path) -> Reader {
    Reader::open(path, SCHEMA).unwrap()
}

/// The reports that can be read, and what follows them.
fn read(path: &Path) -> (Vec<Report>, Tail) {
    let mut reader = open(path);
    let reports = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert!(reader.next::<Report>().unwrap().is_none());
    (reports, reader.tail())
}

fn reports(count: u64) -> Vec<Report> {
    (0..count).map(report).collect()
}

/// Appends a record as it should not be.
fn append(path: &Path, length: u32, checksum: u32, packed: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(&[&length.to_le_bytes(), &checksum.to_le_bytes(), packed].concat()).unwrap();
}

/// Appends a record that is as it should be, but for its contents.
fn append_contents(path: &Path, contents: &[u8]) {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(contents).unwrap();
    let packed = encoder.finish().unwrap();
    let length = u32::try_from(packed.len()).unwrap();
    append(path, length, checksum(length, &packed), &packed);
}

#[test]
fn written_and_read() {
    let (directory, path, mut writer) = saved(0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    for count in 1..20 {
        writer.append(&report(count - 1)).unwrap();
        assert_eq!(read(&path), (reports(count), Tail::Nothing));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_new_session_replaces_the_old_one() {
    let (_directory, path, first) = saved(5);
    let mut second = Writer::create(&path, SCHEMA).unwrap();
    drop(first);
    assert_eq!(read(&path).0.len(), 5);
    second.append(&report(0)).unwrap();
    assert_eq!(read(&path), (reports(1), Tail::Nothing));
}

/// At every place: what is whole before it is still read.
#[test]
fn cut_off() {
    let (_directory, path, writer) = saved(1);
    drop(writer);
    let first = fs::metadata(&path).unwrap().len();
    let (_directory, path, writer) = saved(2);
    drop(writer);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let at = u64::try_from(length).unwrap();
        match Reader::open(&path, SCHEMA) {
            Err(error) => {
                assert!(matches!(error, Error::NotSaved { .. } | Error::Header { .. }), "{length}: {error}");
                assert!(length < 8 + 4 + 4 + 1 + env!("CARGO_PKG_VERSION").len() + 4, "{length}");
            }
            Ok(_) => {
                let count = u64::from(at >= first);
                let is_between = at == first || length == 8 + 4 + 4 + 1 + env!("CARGO_PKG_VERSION").len() + 4;
                let tail = if is_between { Tail::Nothing } else { Tail::Incomplete };
                assert_eq!(read(&path), (reports(count), tail), "{length}");
            }
        }
    }
}

/// No byte can be changed unnoticed.
#[test]
fn damaged() {
    let (_directory, path, writer) = saved(3);
    drop(writer);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            fs::write(&path, bytes).unwrap();
            match Reader::open(&path, SCHEMA) {
                Err(error) => assert!(at < 30, "{at}: {error}"),
                Ok(_) => {
                    let (read, tail) = read(&path);
                    assert!(read.len() < 3 && read == reports(u64::try_from(read.len()).unwrap()), "{at}");
                    assert_ne!(tail, Tail::Nothing, "{at}");
                }
            }
        }
    }
}

#[test]
fn hostile_lengths() {
    let (_directory, path, _writer) = saved(2);
    let whole = fs::read(&path).unwrap();
    let limit = u32::try_from(MAX_PACKED).unwrap();
    // A file system may leave zeros where a crash came before the data.
    for (length, tail) in [
        (0, Tail::Damaged),
        (1, Tail::Incomplete),
        (limit, Tail::Incomplete),
        (limit + 1, Tail::Damaged),
        (u32::MAX, Tail::Damaged),
    ] {
        fs::write(&path, &whole).unwrap();
        append(&path, length, 0, &[]);
        assert_eq!(read(&path), (reports(2), tail), "{length}");
    }
}

/// A few bytes that inflate to more than is allowed, and contents that are no report.
#[test]
fn hostile_contents() {
    let (_directory, path, _writer) = saved(1);
    append_contents(&path, &vec![0; MAX_CONTENTS + 1]);
    // An array of two, whose second member announces 4 billion strings, or one of 4 GB.
    append_contents(&path, &[0x92, 0x01, 0xdd, 0xff, 0xff, 0xff, 0xff]);
    append_contents(&path, &[0x92, 0x01, 0x91, 0xdb, 0xff, 0xff, 0xff, 0xff]);
    append_contents(&path, &[0x91; 1 << 20]);
    append_contents(&path, &[&rmp_serde::to_vec(&report(1)).unwrap()[..], &[0xc0]].concat());
    append_contents(&path, &rmp_serde::to_vec("\u{1b}[2J\nreport").unwrap());
    append(&path, 3, checksum(3, b"abc"), b"abc");
    append_contents(&path, &rmp_serde::to_vec(&report(1)).unwrap());
    let mut reader = open(&path);
    assert_eq!(reader.next().unwrap(), Some(report(0)));
    for record in 1..8 {
        let error = reader.next::<Report>().unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("record {record}")), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
        assert!(matches!(error, Error::Contents { .. }), "{message}");
    }
    assert_eq!(reader.next().unwrap(), Some(report(1)));
    // The first of them says how much it is only to a type that takes any of it.
    let mut reader = open(&path);
    assert!(reader.next::<Report>().unwrap().is_some());
    append_contents(&path, &[&[0xdd], &u32::MAX.to_be_bytes()[..], &vec![0; MAX_CONTENTS]].concat());
    for _ in 0..8 {
        let _ = reader.next::<Report>();
    }
    assert!(matches!(reader.next::<Zeros>(), Err(Error::TooLarge { record: 9, limit: MAX_CONTENTS })));
}

/// Any number of numbers, without memory for them.
#[derive(Debug)]
struct Zeros;

impl<'de> Deserialize<'de> for Zeros {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[test]
fn too_much_to_write() {
    let (_directory, path, mut writer) = saved(1);
    let large = vec![0_u8; MAX_CONTENTS];
    assert!(matches!(writer.append(&large), Err(Error::TooLarge { record: 1, limit: MAX_CONTENTS })));
    writer.append(&report(1)).unwrap();
    assert_eq!(read(&path), (reports(2), Tail::Nothing));
}

/// An older report lacks what came later; a newer one cannot be read.
#[test]
fn versions() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Later {
        number: u64,
        names: Vec<String>,
        #[serde(default)]
        mode: String,
    }
    let (_directory, path, _writer) = saved(3);
    let mut reader = Reader::open(&path, SCHEMA + 1).unwrap();
    let expected = Later { number: 0, names: Vec::new(), mode: String::new() };
    assert_eq!(reader.next().unwrap(), Some(expected));
    let message = Reader::open(&path, SCHEMA - 1).unwrap_err().to_string();
    let version = env!("CARGO_PKG_VERSION");
    for part in [&format!("memtrace {version}"), "newer schema (3, this one reads up to 2)", "open it with"] {
        assert!(message.contains(part), "{message}");
    }
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let end = 17 + version.len();
    let checksum = crc32fast::hash(&bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let message = Reader::open(&path, SCHEMA).unwrap_err().to_string();
    assert!(message.contains("newer format (2, this one reads up to 1)"), "{message}");
}

#[test]
fn other_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for text in ["", "{\"schema\":1}", "\u{8b}mtrc"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(Reader::open(&path, SCHEMA), Err(Error::NotSaved { .. })), "{text:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(Reader::open(&path, SCHEMA), Err(Error::Read { .. })));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [&path, directory.path(), Path::new("/dev/zero")] {
        assert!(matches!(Reader::open(path, SCHEMA), Err(Error::NotRegular { .. })), "{}", path.display());
    }
}

#[test]
fn changed_by_another_program() {
    let (_directory, path, mut writer) = saved(2);
    let whole = fs::read(&path).unwrap();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert!(matches!(writer.append(&report(2)), Err(Error::Changed { .. })));
    OpenOptions::new().write(true).truncate(true).open(&path).unwrap().write_all(&whole).unwrap();
    writer.append(&report(2)).unwrap();
    assert_eq!(read(&path), (reports(3), Tail::Nothing));
    fs::remove_file(&path).unwrap();
    assert!(matches!(writer.append(&report(3)), Err(Error::File(_))));
}
