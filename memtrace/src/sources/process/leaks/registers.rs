//! Registers of the threads of a process, as roots of a scan.

use crate::{bpf::RegisterReader, model::ThreadRegisters};

/// What reads registers of running threads; `None` on kernels where that is not possible.
pub(in crate::sources::process) fn load() -> Option<RegisterReader> {
    let reader = RegisterReader::load();
    // It has parsed the kernel's BTF, some 30 MiB: back to the system with them.
    #[cfg(target_env = "gnu")]
    // SAFETY: it only gives free memory back.
    unsafe {
        libc::malloc_trim(0);
    }
    reader.inspect_err(|error| tracing::debug!("no registers of running threads: {error}")).ok()
}

/// Registers of the threads of a running process; none if they cannot be read.
pub(in crate::sources::process) fn running(
    reader: Option<&RegisterReader>,
    pid: u32,
) -> Vec<ThreadRegisters> {
    let read = reader.map(|reader| reader.read(pid)).transpose();
    let read = read.inspect_err(|error| tracing::debug!("registers of process {pid}: {error}"));
    read.ok().flatten().unwrap_or_default()
}

/// The same of a process whose threads rest and have been read by ptrace, which does not tell their signal stacks.
pub(in crate::sources::process) fn at_rest(
    reader: Option<&RegisterReader>,
    pid: u32,
    threads: &[ThreadRegisters],
) -> Vec<ThreadRegisters> {
    let mut threads = threads.to_vec();
    threads.sort_unstable_by_key(|thread| thread.tid);
    for read in running(reader, pid) {
        let place = threads.binary_search_by_key(&read.tid, |thread| thread.tid);
        if let Some(thread) = place.ok().and_then(|place| threads.get_mut(place)) {
            thread.words.extend(read.words);
        }
    }
    threads
}
