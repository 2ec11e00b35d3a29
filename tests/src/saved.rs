//! Sessions that the agent saves, and their files taken apart.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

use crate::{
    agent::memtrace,
    binaries::agent_path,
    running::{Finished, Running, limit},
};

/// Length and checksum in front of a record's contents.
const HEAD: usize = 8;

/// Starts an agent on processes. It counts everything, reports every 50 ms and saves that to `file`.
#[must_use]
pub fn attach(pids: &[u32], file: &Path, options: &[&str]) -> Running {
    let mut command = Command::new(agent_path());
    command.arg("attach").args(pids.iter().map(u32::to_string));
    command.args(["--max-overhead", "off", "--interval", "50ms", "--save"]).arg(file).args(options);
    Running::spawn(&mut command)
}

/// Waits for another report in a file.
///
/// # Panics
/// If none comes within [`limit`].
pub fn wait_for_report(file: &Path) {
    let size = || fs::metadata(file).map_or(0, |file| file.len());
    let (before, end) = (size(), Instant::now() + limit());
    while size() == before {
        assert!(Instant::now() < end, "no report in {}", file.display());
        std::thread::yield_now();
    }
}

/// `memtrace report FILE`, which has to succeed.
///
/// # Panics
/// If it fails or warns.
#[must_use]
pub fn shown(file: &Path, options: &[&str]) -> String {
    let finished = report(file, options);
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""), "{}", finished.stdout);
    finished.stdout
}

/// `memtrace report FILE`.
#[must_use]
pub fn report(file: &Path, options: &[&str]) -> Finished {
    let arguments = [OsStr::new("report"), file.as_os_str()];
    memtrace(arguments.into_iter().chain(options.iter().map(OsStr::new)))
}

/// The last report of those that were written as text.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn last_text(reports: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| *at == 0 || reports[..*at].ends_with('\n');
    let last = reports.match_indices('[').rfind(begins);
    &reports[last.expect("a report").0..]
}

/// A file of saved reports in parts.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Magic, versions, checksum.
    pub header: Vec<u8>,
    /// Each record, its head included.
    pub records: Vec<Vec<u8>>,
}

impl Parts {
    /// Takes a whole file apart.
    ///
    /// # Panics
    /// If it is not whole.
    #[must_use]
    pub fn of(file: &Path) -> Self {
        let bytes = fs::read(file).expect("the saved session");
        // Magic, format and schema, then the length of the version.
        let (header, mut rest) = bytes.split_at(17 + usize::from(bytes[16]) + 4);
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[..4].try_into().expect("four bytes"));
            let (record, others) = rest.split_at(HEAD + length as usize);
            records.push(record.to_vec());
            rest = others;
        }
        Self { header: header.to_vec(), records }
    }

    /// Puts them together again.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write(&self, file: &Path) {
        let records = self.records.iter().flatten();
        let bytes: Vec<u8> = self.header.iter().chain(records).copied().collect();
        fs::write(file, bytes).expect("a file");
    }

    /// What a record holds, uncompressed.
    ///
    /// # Panics
    /// If it cannot be uncompressed.
    #[must_use]
    pub fn contents(&self, record: usize) -> Vec<u8> {
        let mut contents = Vec::new();
        DeflateDecoder::new(&self.records[record][HEAD..]).read_to_end(&mut contents).expect("contents");
        contents
    }

    /// Makes a number of the header's another one, with the checksum that fits: 8 is the format's place, 12 the schema's.
    pub fn set_number(&mut self, place: usize, number: u32) {
        self.header[place..place + 4].copy_from_slice(&number.to_le_bytes());
        let end = self.header.len() - 4;
        let checksum = crc32fast::hash(&self.header[..end]);
        self.header[end..].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A record that is whole, whatever it holds.
///
/// # Panics
/// Never: memory takes what is written.
#[must_use]
pub fn record(contents: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(contents).and_then(|()| encoder.finish()).expect("compressed contents");
    let length = (packed.len() as u32).to_le_bytes();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(&packed);
    [&length[..], &hasher.finalize().to_le_bytes(), &packed].concat()
}
