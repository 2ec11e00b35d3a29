//! Adapter to blazesym: from an address in a file to functions and lines.
//!
//! **Invariant**: the only user of blazesym. Files are named by paths under /proc/self/fd, so that they can be
//! read whatever became of the process that mapped them.

mod demangle;
mod files;
mod kernel;

use std::path::{Path, PathBuf};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolizer as Blazesym,
    source::{Elf, Source},
};
use rustc_hash::FxHashMap;

use self::{demangle::demangle, files::Files};
use crate::model::Frame;

pub use kernel::KernelSymbolizer;

/// Where debug files of the agent's own file system are: by build id below `.build-id`, and by debug link.
const DEBUG_DIRECTORIES: [&str; 2] = ["/usr/lib/debug", "/lib/debug"];

/// A place in a file.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The file's name, as the target sees it.
    pub module: &'a str,
    /// A path to open it at; `None` where there is no file (`[vdso]`).
    pub file: Option<PathBuf>,
    /// A path to open its separate debug file at, if one is known.
    pub debug: Option<PathBuf>,
    /// Whether the file is of another mount namespace than the agent's.
    pub foreign: bool,
    /// The frame's address, as an ELF virtual address: a return address, or an interrupted instruction's.
    pub address: u64,
    /// Whether it is a return address. Then the place is that of the call, one byte before: what follows may belong to
    /// the next line or the next function.
    pub is_return: bool,
}

impl Place<'_> {
    /// The address whose function and line are wanted.
    fn call(&self) -> u64 {
        self.address.saturating_sub(u64::from(self.is_return))
    }
}

/// Names frames. Remembers what it has looked up.
pub struct Symbolizer {
    blazesym: Blazesym,
    files: Files,
    known: FxHashMap<(Option<PathBuf>, u64), Vec<Frame>>,
}

impl Default for Symbolizer {
    fn default() -> Self {
        let blazesym = Blazesym::builder()
            .enable_auto_reload(false)
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(false)
            .set_debug_dirs(Some(DEBUG_DIRECTORIES))
            .build();
        Self { blazesym, files: Files::default(), known: FxHashMap::default() }
    }
}

impl Symbolizer {
    /// The frames at a place: functions inlined there first, the function itself last. At least one, which has
    /// only module and offset where nothing more is known.
    pub fn frames(&mut self, place: &Place<'_>) -> Vec<Frame> {
        let Some(file) = place.file.clone() else { return vec![bare(place)] };
        let key = (Some(file.clone()), place.call());
        if let Some(frames) = self.known.get(&key) {
            return frames.clone();
        }
        let frames = place
            .debug
            .iter()
            .chain([&file])
            .find_map(|path| {
                let path = self.files.mappable(path, place.foreign)?;
                self.lookup(&path, place.call())
            })
            .map_or_else(|| vec![bare(place)], |symbol| named(place, &symbol));
        self.known.insert(key, frames.clone());
        frames
    }

    fn lookup(&self, path: &Path, address: u64) -> Option<Sym<'static>> {
        let source = Source::Elf(Elf::new(path));
        match self.blazesym.symbolize_single(&source, Input::VirtOffset(address)) {
            Ok(symbolized) => symbolized.into_sym().map(Sym::into_owned),
            Err(error) => {
                tracing::debug!("cannot symbolize {address:#x} in {}: {error}", path.display());
                None
            }
        }
    }
}

/// A frame of which only the place is known.
fn bare(place: &Place<'_>) -> Frame {
    Frame { module: place.module.to_owned(), module_offset: place.call(), ..Frame::default() }
}

/// The frames of a symbol: blazesym lists inlined functions outermost first.
fn named(place: &Place<'_>, symbol: &Sym<'_>) -> Vec<Frame> {
    let frame = |name: &str, code: Option<&CodeInfo<'_>>, inlined| Frame {
        function: Some(demangle(name).into_owned()),
        function_offset: place.address.saturating_sub(symbol.addr),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|code| code.line),
        inlined,
        ..bare(place)
    };
    symbol
        .inlined
        .iter()
        .rev()
        .map(|inlined| frame(&inlined.name, inlined.code_info.as_ref(), true))
        .chain([frame(&symbol.name, symbol.code_info.as_deref(), false)])
        .collect()
}
