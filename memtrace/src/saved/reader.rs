//! Reads saved sessions from any source.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use flate2::bufread::DeflateDecoder;
use serde::de::DeserializeOwned;

use super::{
    Error, FORMAT, MAGIC, MAX_CONTENTS, MAX_PACKED, MAX_RECORDS, MAX_VERSION, RECORD_HEAD, checksum,
};

/// The most characters quoted from a decoder's message.
const QUOTED: usize = 200;

/// The deepest nesting of values that is followed.
const DEPTH: usize = 64;

/// What comes after the last whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or it was not examined yet.
    Nothing,
    /// A truncated record: its writer was killed, or is still writing.
    Incomplete,
    /// A record whose checksum or length is wrong. Where later ones begin cannot be determined.
    Damaged,
}

/// A saved session, read from its beginning.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Records read.
    records: u64,
    tail: Tail,
}

impl Reader {
    /// Opens a file and checks its header. `schema` is the newest version of what is stored that the caller knows.
    ///
    /// # Errors
    /// The file cannot be read, is no saved session, or is newer than this program.
    pub fn open(path: &Path, schema: u32) -> Result<Self, Error> {
        let file = open_regular(path)?;
        let mut reader = Self {
            path: path.into(),
            file: BufReader::with_capacity(1 << 16, file),
            records: 0,
            tail: Tail::Nothing,
        };
        reader.read_header(schema)?;
        Ok(reader)
    }

    /// What follows the last complete record, once [`Reader::next`] has found no other.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// The next record; `None` at the end, see [`Reader::tail`].
    ///
    /// # Errors
    /// The file cannot be read, or the record is complete but contains something else, or too much. The next call continues
    /// after it.
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let Some((length, expected)) = self.head()? else { return Ok(None) };
        let mut packed = Vec::new();
        self.file
            .by_ref()
            .take(length.into())
            .read_to_end(&mut packed)
            .map_err(|source| self.unreadable(source))?;
        if u32::try_from(packed.len()) != Ok(length) {
            return Ok(self.end(Tail::Incomplete));
        }
        if checksum(length, &packed) != expected {
            return Ok(self.end(Tail::Damaged));
        }
        let record = self.records;
        self.records += 1;
        decode(&packed).map_err(|why| match why {
            None => Error::TooLarge { record, limit: MAX_CONTENTS },
            Some(reason) => Error::Contents {
                path: self.path.clone(),
                record,
                reason: reason.escape_debug().take(QUOTED).collect(),
            },
        })
    }

    /// The length and the checksum of the next record, if there is one.
    fn head(&mut self) -> Result<Option<(u32, u32)>, Error> {
        if self.tail != Tail::Nothing {
            return Ok(None);
        }
        let mut head = Vec::new();
        let limit = u64::try_from(RECORD_HEAD).unwrap_or(u64::MAX);
        self.file.by_ref().take(limit).read_to_end(&mut head).map_err(|source| self.unreadable(source))?;
        if head.is_empty() {
            return Ok(None);
        }
        let mut rest = head.as_slice();
        let (Ok(length), Ok(expected)) = (number(&mut rest), number(&mut rest)) else {
            return Ok(self.end(Tail::Incomplete));
        };
        if length == 0 || usize::try_from(length).is_ok_and(|length| length > MAX_PACKED) {
            return Ok(self.end(Tail::Damaged));
        }
        if self.records >= MAX_RECORDS {
            return Err(Error::TooMany { limit: MAX_RECORDS });
        }
        Ok(Some((length, expected)))
    }

    fn end<T>(&mut self, tail: Tail) -> Option<T> {
        self.tail = tail;
        None
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }

    fn read_header(&mut self, known: u32) -> Result<(), Error> {
        let mut file = Checked { inner: &mut self.file, hasher: crc32fast::Hasher::new() };
        let mut magic = [0; MAGIC.len()];
        let read = file.read_exact(&mut magic);
        if read.is_ok() && magic != MAGIC || is_short(&read) {
            return Err(Error::NotSaved { path: self.path.clone() });
        }
        let header = read.and_then(|()| Header::read(&mut file));
        let header = match header {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(source) => return Err(self.unreadable(source)),
            Ok(header) => header,
        };
        let Some(Header { format, schema, version }) = header else {
            return Err(Error::Header { path: self.path.clone() });
        };
        for (what, found, known) in [("format", format, FORMAT), ("schema", schema, known)] {
            if found > known {
                return Err(Error::Newer { path: self.path.clone(), version, what, found, known });
            }
        }
        Ok(())
    }
}

/// What follows the magic. Later formats keep this.
struct Header {
    format: u32,
    schema: u32,
    version: String,
}

impl Header {
    /// `None` for a damaged one.
    fn read(file: &mut Checked<'_>) -> io::Result<Option<Self>> {
        let (format, schema) = (number(file)?, number(file)?);
        let mut length = [0];
        file.read_exact(&mut length)?;
        let [length] = length;
        if usize::from(length) > MAX_VERSION {
            return Ok(None);
        }
        let mut version = Vec::new();
        file.take(length.into()).read_to_end(&mut version)?;
        let expected = file.hasher.clone().finalize();
        let is_whole = number(file)? == expected;
        let version = String::from_utf8(version).ok();
        let version = version.filter(|version| version.chars().all(|c| c.is_ascii_graphic()));
        Ok(version.filter(|_| is_whole).map(|version| Self { format, schema, version }))
    }
}

/// Computes a checksum of what is read.
struct Checked<'a> {
    inner: &'a mut BufReader<File>,
    hasher: crc32fast::Hasher,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

fn is_short(read: &io::Result<()>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

fn number(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// A record's value; otherwise why there is none, or `None` if it is too large.
fn decode<T: DeserializeOwned>(packed: &[u8]) -> Result<Option<T>, Option<String>> {
    let limit = u64::try_from(MAX_CONTENTS).unwrap_or(u64::MAX);
    let mut contents = BufReader::new(DeflateDecoder::new(packed).take(limit));
    let mut decoder = rmp_serde::Deserializer::new(&mut contents);
    decoder.set_max_depth(DEPTH);
    let value = T::deserialize(&mut decoder).map_err(|error| error.to_string());
    let value = match value {
        Err(_) if contents.get_ref().limit() == 0 => return Err(None),
        Err(reason) => return Err(Some(reason)),
        Ok(value) => value,
    };
    match contents.read(&mut [0]) {
        Ok(0) => Ok(Some(value)),
        Ok(_) => Err(Some("there are more bytes after its value".to_owned())),
        Err(error) => Err(Some(error.to_string())),
    }
}

/// Opens regular files only: a pipe could block, and opening a device can have effects. It is found with `O_PATH`
/// first, which has neither problem, and opened once its type is known.
fn open_regular(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Read { path: path.into(), source };
    let found = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map_err(failed)?;
    if !found.metadata().map_err(failed)?.is_file() {
        return Err(Error::NotRegular { path: path.into() });
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let own = format!("/proc/self/fd/{}", found.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(flags).open(own).map_err(failed)
}
