//! The code in a process's memory at probed addresses.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{
    modules::{Mapped, Modules},
    threads,
};

/// What is mapped for execution at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The file that was probed.
    File,
    /// Memory without a file.
    Anonymous,
    /// Another file, or nothing.
    Other,
    /// Anonymous memory that is known to have a copy of the file's code, at the place of that.
    Copy,
}

/// The state of a probed instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The file's byte has been replaced: there is a breakpoint.
    Probed,
    /// The instruction is as in the file: no breakpoint.
    Plain,
    /// It runs from a copy of the file, which cannot be probed.
    Copied,
    /// It is no longer mapped.
    Gone,
}

/// Determines the state from a byte of memory (`None`: not readable), the file's byte, and what the memory is.
#[must_use]
pub fn judge(byte: Option<u8>, original: u8, backing: Backing) -> Code {
    match (byte, backing) {
        (None, _) | (_, Backing::Other) => Code::Gone,
        (_, Backing::Anonymous | Backing::Copy) => Code::Copied,
        (Some(byte), Backing::File) if byte == original => Code::Plain,
        (Some(_), Backing::File) => Code::Probed,
    }
}

/// A byte of a file.
///
/// # Errors
/// It cannot be read.
pub fn file_byte(file: &Path, offset: u64) -> io::Result<u8> {
    let mut byte = [0];
    File::open(file)?.read_exact_at(&mut byte, offset)?;
    let [byte] = byte;
    Ok(byte)
}

/// The byte at each of some addresses in the memory of process `pid`; `None` if it cannot be read.
///
/// # Errors
/// The process is gone, or access to /proc is denied.
pub fn memory_bytes(pid: u32, addresses: impl IntoIterator<Item = u64>) -> io::Result<Vec<Option<u8>>> {
    let thread = threads::living(pid).ok_or(io::ErrorKind::NotFound)?;
    let memory = File::open(format!("/proc/{thread}/mem"))?;
    let read = |address| {
        let mut byte = [0];
        memory.read_exact_at(&mut byte, address).ok().map(|()| byte[0])
    };
    Ok(addresses.into_iter().map(read).collect())
}

impl Modules {
    /// Addresses at which byte `offset` of the file at `path`, a [`super::Module::path`], is mapped for execution.
    pub fn addresses(&self, path: &Path) -> impl Fn(u64) -> Vec<u64> + use<> {
        let parts: Vec<(u64, u64, u64)> = self.parts(path).collect();
        move |offset| {
            parts
                .iter()
                .filter_map(|&(start, end, first)| {
                    Some(start.checked_add(offset.checked_sub(first)?)?).filter(|&at| at < end)
                })
                .collect()
        }
    }

    /// What is mapped for execution at `address`, where the file at `path` was probed.
    #[must_use]
    pub fn backing(&self, path: &Path, address: u64) -> Backing {
        let is_there = |mapped: &&Mapped| (mapped.mapping.start..mapped.mapping.end).contains(&address);
        if self.all().iter().find(is_there).is_some_and(|mapped| mapped.is_copy) {
            return Backing::Copy;
        }
        match self.mapped().find(|(range, ..)| range.contains(&address)) {
            Some((_, _, module)) => match module.path() {
                Some(file) if file == path => Backing::File,
                None if &*module.name == "[anon]" => Backing::Anonymous,
                _ => Backing::Other,
            },
            None => Backing::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backing, Code, judge, memory_bytes};
    use crate::target::{FileStore, Modules};

    #[test]
    fn a_byte_is_judged_by_the_file_and_what_is_mapped() {
        for (byte, backing, code) in [
            (Some(0xcc), Backing::File, Code::Probed),
            (Some(0x55), Backing::File, Code::Plain),
            (Some(0x55), Backing::Anonymous, Code::Copied),
            (Some(0x55), Backing::Copy, Code::Copied),
            (Some(0x55), Backing::Other, Code::Gone),
            (None, Backing::File, Code::Gone),
        ] {
            assert_eq!(judge(byte, 0x55, backing), code, "{byte:?} {backing:?}");
        }
    }

    #[test]
    fn this_programs_code_is_as_its_file_has_it() {
        let modules = Modules::read(std::process::id(), &FileStore::default().into()).unwrap();
        let here = this_programs_code_is_as_its_file_has_it as *const () as u64;
        let place = modules.locate(here, false, 0).unwrap();
        let path = place.module.path().unwrap();
        let offset = place.module.image().unwrap().vaddr_to_offset(place.address).unwrap();
        assert_eq!(modules.addresses(&path)(offset), [here]);
        assert_eq!(modules.backing(&path, here), Backing::File);
        let bytes = memory_bytes(std::process::id(), [here, 0]).unwrap();
        assert_eq!(bytes, [Some(super::file_byte(&path, offset).unwrap()), None]);
    }
}
