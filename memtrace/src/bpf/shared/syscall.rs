//! `bpf(2)` commands that aya 0.14 does not have.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

/// Calls `bpf(2)`.
///
/// # Errors
/// What the kernel answers.
///
/// # Safety
/// Every pointer and length in `attr` that `command` reads is valid.
pub(in crate::bpf) unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is valid for its size; its contents by the contract above.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An empty attribute block.
pub(in crate::bpf) fn attributes() -> bpf_attr {
    // SAFETY: a union of plain integers; the kernel wants unused bytes to be zero.
    unsafe { mem::zeroed() }
}

/// Turns the result of a command that returns a file descriptor into one.
///
/// # Safety
/// `result` is such a result.
pub(in crate::bpf) unsafe fn owned(result: i64) -> OwnedFd {
    // SAFETY: a new descriptor that nobody else owns; descriptors fit 32 bits.
    unsafe { OwnedFd::from_raw_fd(result as i32) }
}

/// Loads BTF.
///
/// # Errors
/// What the kernel answers.
pub(in crate::bpf) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    // SAFETY: every field of the union is plain data, and this is the one the command reads.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = btf.as_ptr() as u64;
    load.btf_size = btf.len() as u32;
    // SAFETY: `btf` is valid for its length.
    unsafe { bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr).map(|fd| owned(fd)) }
}

/// What the kernel knows of a loaded program.
///
/// # Errors
/// Not a program.
pub(in crate::bpf) fn program_info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    // SAFETY: plain integers.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    let mut attr = attributes();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    // SAFETY: `info` is valid for the length given.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)? };
    Ok(info)
}

/// Runs a raw tracepoint program on this thread (`BPF_PROG_TEST_RUN`, kernel 5.10).
///
/// # Errors
/// What the kernel answers.
pub(in crate::bpf) fn run(program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attributes();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    // SAFETY: no buffers are given.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }.map(|_| ())
}

/// Takes an entry out of a hash map; whether it was there.
///
/// # Errors
/// What the kernel answers.
pub(in crate::bpf) fn delete_entry<K: Copy>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = attributes();
    // SAFETY: every field of the union is plain data, and this is the one the command reads.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = std::ptr::from_ref(key) as u64;
    // SAFETY: `key` is valid for the map's size of a key.
    match unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a hash map in batches (`BPF_MAP_LOOKUP_BATCH`, kernel 5.6): one system call for `BATCH` entries.
///
/// # Errors
/// What the kernel answers.
pub(in crate::bpf) fn for_each_entry<K, V>(map: BorrowedFd<'_>, mut entry: impl FnMut(K, V)) -> io::Result<()>
where
    K: Copy + Default,
    V: Copy + Default,
{
    const BATCH: usize = 4096;
    let mut keys = vec![K::default(); BATCH];
    let mut values = vec![V::default(); BATCH];
    let mut position = 0u64;
    let mut first = true;
    loop {
        let mut attr = attributes();
        attr.batch.in_batch = if first { 0 } else { std::ptr::from_ref(&position) as u64 };
        attr.batch.out_batch = std::ptr::from_mut(&mut position) as u64;
        attr.batch.keys = keys.as_mut_ptr() as u64;
        attr.batch.values = values.as_mut_ptr() as u64;
        attr.batch.count = BATCH as u32;
        attr.batch.map_fd = map.as_raw_fd() as u32;
        // SAFETY: both vectors hold `count` elements; the position of a hash map has 4 bytes.
        let result = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
        first = false;
        // SAFETY: the kernel has written the number of entries it returned.
        let count = unsafe { attr.batch.count } as usize;
        let done = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        for (key, value) in keys.iter().zip(&values).take(count) {
            entry(*key, *value);
        }
        if done {
            return Ok(());
        }
    }
}
