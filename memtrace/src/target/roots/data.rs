//! Data of files: which file's it is, and which variable.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use rustc_hash::FxHashSet;

use super::{Region, path};
use crate::{
    elf::{Image, Variable, Variables, page_size},
    profile::Root,
    target::{Module, Modules},
};

/// Writable segments of a process: more than the kernel lets one map. A file can claim to have a thousand.
const MAX_SEGMENTS: usize = 1 << 17;
/// Segments before an address that are examined: those of a sound process do not overlap.
const MAX_OVERLAPPING: usize = 64;
/// Variables that are no larger are named without an offset.
const WORD: u64 = 8;

/// Where the writable segments of a process's files are.
#[derive(Debug)]
pub(super) struct Data {
    /// In order of address.
    segments: Vec<Segment>,
    /// The program, not a library.
    program: Option<Arc<Module>>,
    /// Thread-local data of all files, of which a thread has as much at most.
    thread_local_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    range: Range<u64>,
    bias: u64,
    module: Arc<Module>,
}

impl Data {
    pub(super) fn new(modules: &Modules) -> Self {
        let mut segments = Vec::new();
        let mut seen = FxHashSet::default();
        for (_, bias, module) in modules.mapped() {
            let (Some(bias), Some(image)) = (bias, module.image()) else { continue };
            if !seen.insert((Arc::as_ptr(module), bias)) {
                continue;
            }
            let room = MAX_SEGMENTS.saturating_sub(segments.len());
            let ranges = image.writable().filter_map(|range| placed(&range, bias));
            segments.extend(ranges.take(room).map(|range| Segment {
                range,
                bias,
                module: Arc::clone(module),
            }));
        }
        segments.sort_by_key(|segment| segment.range.start);
        let images = || modules.iter().filter_map(|module| Some((module, module.image()?)));
        Self {
            segments,
            program: images()
                .find(|(_, image)| image.is_executable().unwrap_or(false))
                .map(|(module, _)| Arc::clone(module)),
            thread_local_bytes: images()
                .fold(0, |sum, (_, image)| image.thread_local_bytes().saturating_add(sum)),
        }
    }

    pub(super) fn thread_local_bytes(&self) -> u64 {
        self.thread_local_bytes
    }

    /// Where the next segment behind an address begins; `u64::MAX`: nowhere.
    pub(super) fn next(&self, address: u64) -> u64 {
        let next = self.segments.partition_point(|segment| segment.range.start <= address);
        self.segments.get(next).map_or(u64::MAX, |segment| segment.range.start)
    }

    /// The variable at an address, or the section, and where something else may follow; `None` if it is no file's data.
    pub(super) fn name(&self, address: u64, region: Option<&Region>) -> Option<(Root, u64)> {
        let end = self.segments.partition_point(|segment| segment.range.start <= address);
        let before = self.segments.get(..end)?.iter().rev().take(MAX_OVERLAPPING);
        let segment = before.into_iter().find(|segment| segment.range.contains(&address))?;
        let module = &segment.module;
        // `.bss` is mapped without a name, or continued by the heap. Another file has taken the place of this one.
        if region.and_then(path).is_some_and(|path| path != &*module.name) {
            return None;
        }
        let address = address.wrapping_sub(segment.bias);
        let mut next = u64::MAX;
        let variable = variable(module, |variables| {
            next = next.min(variables.next(address));
            variables.at(address)
        });
        let (root, end) = match &variable {
            Some(variable) => {
                let offset = if variable.size > WORD { address.wrapping_sub(variable.address) } else { 0 };
                let end = variable.address.saturating_add(variable.size);
                (Root::data(&module.name, Some((&variable.name, offset)), None), end)
            }
            None => {
                let section = module.image()?.data_section(address).ok().flatten();
                let (name, end) =
                    section.as_ref().map_or((None, address), |(name, end)| (Some(&**name), *end));
                (Root::data(&module.name, None, name), end)
            }
        };
        Some((root, end.min(next).wrapping_add(segment.bias).min(segment.range.end)))
    }

    /// The program and the offset in its thread-local data, if a thread with this thread pointer has that at `address`.
    pub(super) fn thread_local(&self, pointer: u64, address: u64) -> Option<(&Module, u64)> {
        let module = self.program.as_ref()?;
        let range = module.image()?.program_thread_locals(pointer)?;
        range.contains(&address).then(|| (&**module, address.wrapping_sub(range.start)))
    }
}

/// The pages that a segment is in; `None` if there are none.
fn placed(range: &Range<u64>, bias: u64) -> Option<Range<u64>> {
    let rest = page_size().wrapping_sub(1);
    let start = range.start.wrapping_add(bias) & !rest;
    let end = range.end.wrapping_add(bias).checked_add(rest)? & !rest;
    (start < end).then_some(start..end)
}

/// Variables by the tables of a file itself, which all who map it share.
#[derive(Default)]
struct Own(OnceLock<Option<Variables>>);

/// Finds a variable of a file, by its debug file's table if the file was stripped of its own.
pub(super) fn variable(
    module: &Module,
    mut find: impl FnMut(&Variables) -> Option<Variable>,
) -> Option<Variable> {
    let (file, image) = (module.file()?, module.image()?);
    let own = file.findings::<Own>();
    let own = own.0.get_or_init(|| read(image, image, &module.name));
    own.as_ref().and_then(&mut find).or_else(|| {
        let stripped = !image.has_symbol_table();
        let of_debug = module.variables_of_debug().filter(|_| stripped)?;
        find(of_debug.get_or_init(|| in_debug_file(module, image)).as_ref()?)
    })
}

/// Variables by the debug file. One without a build id is known by its checksum, which only the process that reads
/// debug information computes: its symbols are not used here.
fn in_debug_file(module: &Module, image: &Image) -> Option<Variables> {
    let debug = module.code()?.debug.as_ref()?;
    if debug.crc.is_some() && image.build_id().ok().flatten().is_none() {
        return None;
    }
    let file = Image::from_shared(Arc::clone(&debug.file)).ok()?;
    read(&file, image, &module.name)
}

fn read(file: &Image, loaded: &Image, name: &str) -> Option<Variables> {
    file.variables(loaded).inspect_err(|error| tracing::debug!("variables of {name}: {error}")).ok()
}
