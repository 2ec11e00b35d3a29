//! Multi-uprobes: one link for any number of sites, so that attaching and detaching take milliseconds instead
//! of a tenth of a second a probe. aya 0.14 neither loads nor attaches them, so the object is parsed a second
//! time with aya's own parser and relocated against the maps that aya made.

use std::{
    collections::HashSet,
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::{
    Function, Object,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_func_info, bpf_prog_type},
};

use super::apart;
use crate::bpf::shared::{error::Error, syscall};

/// `BPF_F_UPROBE_MULTI_RETURN`: the link's probes fire at return.
const RETURN: u32 = 1;

/// `BPF_TRACE_UPROBE_SESSION` (include/uapi/linux/bpf.h, 6.13).
const UPROBE_SESSION: u32 = 57;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// At entries, or at returns.
    Multi,
    /// At both: what it answers at the entry decides whether the return is probed (kernel 6.13).
    Session,
}

impl Kind {
    fn attach_type(self) -> u32 {
        match self {
            Self::Multi => bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
            Self::Session => UPROBE_SESSION,
        }
    }
}

/// A program that the kernel has taken.
pub(super) struct Loaded {
    pub(super) fd: OwnedFd,
    kind: Kind,
}

/// How often the kernel is asked to load a program whose verification signals interrupt.
const ATTEMPTS: u32 = 5;

/// `BPF_LOG_STATS`: what the verification of a program took.
const LOG_STATISTICS: u32 = 4;

/// One set of sites in one file.
pub(super) struct Sites<'a> {
    /// The file.
    pub(super) file: &'a Path,
    /// Offsets in it.
    pub(super) offsets: &'a [u64],
    /// A cookie for each.
    pub(super) cookies: &'a [u64],
    /// The process.
    pub(super) pid: u32,
    /// Whether to probe the functions' return.
    pub(super) at_return: bool,
}

/// The object, ready to load programs from.
pub(super) struct MultiLoader {
    object: Object,
    btf: OwnedFd,
}

impl MultiLoader {
    /// Parses `object`; `map` gives the descriptor of each map that aya made.
    ///
    /// # Errors
    /// The object cannot be relocated.
    pub(super) fn new(object: &[u8], map: impl Fn(&str) -> Option<RawFd>) -> Result<Self, Error> {
        fn refused(error: impl std::fmt::Display) -> Error {
            Error::Object(error.to_string())
        }
        let mut object = Object::parse(object).map_err(refused)?;
        let features = aya::features();
        let btf = features.btf().ok_or_else(|| refused("the kernel takes no BTF"))?;
        object.fixup_and_sanitize_btf(btf).map_err(refused)?;
        let btf = object.btf.as_ref().ok_or_else(|| refused("it has no BTF"))?.to_bytes();
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = object.maps.clone();
        object
            .relocate_maps(
                maps.iter().filter_map(|(name, definition)| Some((name.as_str(), map(name)?, definition))),
                &sections,
            )
            .map_err(refused)?;
        object.relocate_calls(&sections).map_err(refused)?;
        object.sanitize_functions(features);
        let btf = syscall::load_btf(&btf).map_err(Error::io("loading the object's BTF"))?;
        Ok(Self { object, btf })
    }

    /// Loads a program that can be attached.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown program; else what the kernel answers: `EINVAL` before 6.6, for a session before
    /// 6.13.
    pub(super) fn load(&self, name: &str, kind: Kind) -> io::Result<Loaded> {
        let program = self.object.programs.get(name).ok_or(io::ErrorKind::InvalidInput)?;
        let function: &Function =
            self.object.functions.get(&program.function_key()).ok_or(io::ErrorKind::InvalidInput)?;
        // The kernel wants them in the order of instructions; relocation appends callees' as it finds them.
        let mut func_info: Vec<bpf_func_info> = function.func_info.func_info.clone();
        func_info.sort_by_key(|info| info.insn_off);
        let mut attr = syscall::attributes();
        // SAFETY: every field of the union is plain data, and this is the one the command reads.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        for (to, from) in load.prog_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
        load.expected_attach_type = kind.attach_type();
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = function.instructions.len() as u32;
        load.license = program.license.as_ptr() as u64;
        load.prog_btf_fd = self.btf.as_raw_fd() as u32;
        load.func_info = func_info.as_ptr() as u64;
        load.func_info_cnt = func_info.len() as u32;
        load.func_info_rec_size = size_of::<bpf_func_info>() as u32;
        let mut log = vec![0u8; if tracing::enabled!(tracing::Level::TRACE) { 1 << 16 } else { 0 }];
        if !log.is_empty() {
            load.log_level = LOG_STATISTICS;
            load.log_buf = log.as_mut_ptr() as u64;
            load.log_size = log.len() as u32;
        }
        // SAFETY: the vectors and strings above live until after the last call.
        let loaded = unless_interrupted(|| unsafe {
            syscall::bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(|fd| syscall::owned(fd))
        });
        tracing::trace!(
            "{name}: {}",
            String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default())
        );
        let loaded = Loaded { fd: loaded?, kind };
        can_attach(&loaded)?;
        Ok(loaded)
    }
}

/// Tries again to load a program as long as signals (SIGSTOP, SIGCONT) interrupt the verifier, which answers EAGAIN then:
/// five times, as libbpf does.
fn unless_interrupted<T>(mut load: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTEMPTS {
        match load() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    load()
}

/// Attaches a program to sites: one link, which detaches when its descriptor is closed.
///
/// # Errors
/// What the kernel answers.
pub(super) fn attach(program: &Loaded, sites: &Sites<'_>) -> io::Result<OwnedFd> {
    let path = CString::new(sites.file.as_os_str().as_bytes())?;
    let mut attr: bpf_attr = syscall::attributes();
    attr.link_create.attach_type = program.kind.attach_type();
    attr.link_create.__bindgen_anon_1.prog_fd = program.fd.as_raw_fd() as u32;
    // SAFETY: as in `load`.
    let multi = unsafe { &mut attr.link_create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = sites.offsets.as_ptr() as u64;
    multi.cookies = sites.cookies.as_ptr() as u64;
    multi.cnt = sites.offsets.len().min(sites.cookies.len()) as u32;
    multi.pid = sites.pid;
    multi.flags = if sites.at_return { RETURN } else { 0 };
    // SAFETY: path and slices live until after the call; both slices hold `cnt` elements.
    unsafe { apart::create_link(&mut attr) }
}

/// Whether a program can be attached. A kernel takes programs of types it cannot attach (sessions before 6.13); it refuses
/// the type before it looks for the file.
///
/// # Errors
/// What the kernel answers if it cannot.
fn can_attach(program: &Loaded) -> io::Result<()> {
    let file = Path::new("/proc/self/fd/none");
    match attach(program, &Sites { file, offsets: &[0], cookies: &[0], pid: 0, at_return: false }) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const _: () = assert!(mem::size_of::<bpf_func_info>() == 8);

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io};

    use super::{ATTEMPTS, unless_interrupted};

    #[test]
    fn interrupted_loads_are_tried_again_but_not_for_ever() {
        let tries = Cell::new(0);
        let load = |interrupted: u32| {
            tries.set(0);
            unless_interrupted(|| {
                tries.set(tries.get() + 1);
                if tries.get() > interrupted { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            })
        };
        assert!(load(ATTEMPTS - 1).is_ok() && tries.get() == ATTEMPTS);
        assert!(load(ATTEMPTS).is_err() && tries.get() == ATTEMPTS);
        let refused = unless_interrupted(|| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
