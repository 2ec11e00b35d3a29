//! Programs and maps of a loaded object, by name.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::{
    Ebpf,
    maps::Map,
    programs::{Program, ProgramError},
};

use super::error::Error;

/// A program of the object.
pub(in crate::bpf) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(Error::Missing(name))?
        .try_into()
        .map_err(|source| Error::Program { program: name, source })
}

/// A map of the object, which gives it up.
pub(in crate::bpf) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, Error> {
    ebpf.take_map(name).ok_or(Error::Missing(name))
}

/// The descriptor of a map of a kind that the objects use.
pub(in crate::bpf) fn map_fd(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::StackTraceMap(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}
