//! What the agent learns about itself and this kernel before tracing.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    os::fd::AsFd as _,
};

use aya::{Ebpf, programs::RawTracePoint};
use memtrace_common::Calibration;

use super::layout::Layout;
use crate::bpf::shared::{error::Error, mapped::Mapped, object::map_fd, object::program, syscall};

/// Makes the kernel allocate 16 KiB for a list of so many buffers (16 bytes each, copied from the caller).
const BUFFERS: usize = 1024;
const PAGE_SHIFT: u32 = 12;

/// What was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Learnt {
    /// The agent's pid as programs see it.
    pub(super) tgid: u32,
    /// `struct page` of address 0, were it memory; 0 if that stayed unknown.
    pub(super) page_base: u64,
}

/// Learns it, by programs of an object loaded for this alone.
pub(super) fn calibrate(ebpf: &mut Ebpf, layout: &Layout) -> Result<Learnt, Error> {
    const MAP: &str = "CALIBRATION";
    let map = ebpf.map(MAP).and_then(map_fd).ok_or(Error::Missing(MAP))?;
    let shared = Mapped::<Calibration>::new(map.as_fd(), 0, 1)
        .map_err(Error::io("mapping the calibration of kernel mode"))?;
    let whoami: &mut RawTracePoint = program(ebpf, "whoami")?;
    whoami.load().map_err(|source| Error::Program { program: "whoami", source })?;
    let fd = whoami.fd().map_err(|source| Error::Program { program: "whoami", source })?;
    syscall::run(fd.as_fd()).map_err(Error::io("running a program to learn this process's pid"))?;
    let tgid = shared.get(0).unwrap_or_default().tgid as u32;
    for (name, tracepoint) in [("calibrate_page", "mm_page_alloc"), ("calibrate_kmalloc", "kmalloc")] {
        let refused = |source| Error::Program { program: name, source };
        let program: &mut RawTracePoint = program(ebpf, name)?;
        program.load().map_err(refused)?;
        program.attach(tracepoint).map_err(refused)?;
    }
    // Without it kernel mode works, and says what it cannot tell.
    if let Err(error) = allocate() {
        tracing::debug!("no allocation to learn from: {error}");
    }
    let Calibration { address, paired, .. } = shared.get(0).unwrap_or_default();
    let page_base = match layout.page {
        Some((size, _)) if paired != 0 => {
            paired.wrapping_sub((address >> PAGE_SHIFT).wrapping_mul(size.into()))
        }
        _ => 0,
    };
    tracing::debug!("pid {tgid} in the kernel, struct page of address 0 at {page_base:#x}");
    Ok(Learnt { tgid, page_base })
}

/// Has the kernel allocate memory for this process by `kmalloc`, and free it again.
fn allocate() -> io::Result<()> {
    let mut null = File::options().write(true).open("/dev/null")?;
    let buffers = [IoSlice::new(b"x"); BUFFERS];
    null.write_vectored(&buffers).map(|_| ())
}
