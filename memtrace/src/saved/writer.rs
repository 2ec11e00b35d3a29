//! Saves reports.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::DeflateEncoder};
use serde::Serialize;

use super::{
    Error, FORMAT, MAGIC, MAX_CONTENTS, MAX_PACKED, MAX_RECORDS, MAX_VERSION, RECORD_HEAD, checksum,
};
use crate::outfile::{Destination, Placed};

/// Of 2.2 MB, a report with 10,000 stacks, level 1 leaves 56 % in 26 ms, level 3 44 % in 42 ms, level 6 42 % in 69 ms and
/// level 9 42 % in 200 ms.
const LEVEL: Compression = Compression::new(3);

/// Writes a saved session.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    schema: u32,
    destination: Destination,
    /// After the first record: the file, and its size in bytes.
    placed: Option<(Placed, u64)>,
    records: u64,
}

impl Writer {
    /// Makes sure that the file can be created. The first record creates it, or replaces the existing one. `schema` is the
    /// version of what is stored; a larger one cannot be read by programs that know a smaller one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn create(path: &Path, schema: u32) -> Result<Self, Error> {
        Ok(Self { path: path.into(), schema, destination: Destination::new(path)?, placed: None, records: 0 })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// For example a full disk, or a value that is too large. The records before it stay readable, and further ones can
    /// be appended.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), Error> {
        if self.records >= MAX_RECORDS {
            return Err(Error::TooMany { limit: MAX_RECORDS });
        }
        let record = record(value, self.records)?;
        match &mut self.placed {
            None => {
                let mut bytes = header(self.schema);
                bytes.extend_from_slice(&record);
                self.placed = Some((self.destination.replace(&bytes)?, size(&bytes)));
            }
            Some((file, length)) => {
                if file.size()? != *length {
                    return Err(Error::Changed { path: self.path.clone() });
                }
                file.append(&record)?;
                *length += size(&record);
            }
        }
        self.records += 1;
        Ok(())
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn header(schema: u32) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let version = version.get(..MAX_VERSION).unwrap_or(version).as_bytes();
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&schema.to_le_bytes());
    header.push(u8::try_from(version.len()).unwrap_or(u8::MAX));
    header.extend_from_slice(version);
    let checksum = crc32fast::hash(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    header
}

/// A record's bytes, head and contents.
fn record(value: &impl Serialize, number: u64) -> Result<Vec<u8>, Error> {
    let contents = rmp_serde::to_vec(value).map_err(|source| Error::Encode { source })?;
    let large = |limit| Error::TooLarge { record: number, limit };
    if contents.len() > MAX_CONTENTS {
        return Err(large(MAX_CONTENTS));
    }
    let mut encoder = DeflateEncoder::new(vec![0; RECORD_HEAD], LEVEL);
    let packed = encoder.write_all(&contents).and_then(|()| encoder.finish());
    let mut record = packed.map_err(|source| Error::Compress { source })?;
    let Some((head, packed)) = record.split_at_mut_checked(RECORD_HEAD) else {
        return Err(large(MAX_PACKED));
    };
    let length = u32::try_from(packed.len()).ok().filter(|_| packed.len() <= MAX_PACKED);
    let length = length.ok_or(large(MAX_PACKED))?;
    let numbers = [length.to_le_bytes(), checksum(length, packed).to_le_bytes()];
    head.copy_from_slice(numbers.as_flattened());
    Ok(record)
}
