//! Attaching programs that do nothing: to keep breakpoints where they are, to take them out elsewhere, and to learn what they cost.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use aya::Ebpf;

use crate::model::{LoaderHook, ProbeSpec};

use super::{
    attach::{Group, Link, Stage, groups, loader, place},
    programs::{Method, Name, Programs},
};
use crate::bpf::shared::error::Error;

/// Attaches a program that does nothing to some sites, through a thread: see [`super::holder`].
pub(super) fn attach_anchors(
    ebpf: &mut Ebpf,
    specs: &[ProbeSpec],
    thread: NonZeroU32,
    target: u8,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    for group in groups(specs, target, Method::Session) {
        place_anchors(ebpf, group, thread, links)?;
    }
    Ok(())
}

/// The same for the sites in the dynamic loader.
pub(super) fn attach_loader_anchor(
    ebpf: &mut Ebpf,
    hook: &LoaderHook,
    thread: NonZeroU32,
    target: u8,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    place_anchors(ebpf, loader(hook, target), thread, links)
}

fn place_anchors(
    ebpf: &mut Ebpf,
    group: Group,
    thread: NonZeroU32,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    let group = Group { program: Name::NothingEnter, ..group };
    place(ebpf, &mut Programs::Perf, &group, thread, links)
}

/// Attaches a program that does nothing to some sites, with one link for each file: see [`super::sweep`].
pub(super) fn attach_idle(
    ebpf: &mut Ebpf,
    programs: &mut Programs,
    specs: &[ProbeSpec],
    pid: NonZeroU32,
    target: u8,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    let mut files: BTreeMap<PathBuf, Group> = BTreeMap::new();
    for group in groups(specs, target, Method::Session) {
        let Group { file, offsets, .. } = group;
        let whole = files.entry(file.clone()).or_insert_with(|| Group {
            program: Name::NothingEnter,
            file,
            offsets: Vec::new(),
            cookies: Vec::new(),
            ..group
        });
        let new = offsets.into_iter().filter(|offset| !whole.offsets.contains(offset));
        whole.offsets.extend(new.collect::<Vec<_>>());
        whole.cookies.resize(whole.offsets.len(), 0);
    }
    files.values().try_for_each(|group| place(ebpf, programs, group, pid, links))
}

/// Attaches a program that does nothing to this process.
pub(super) fn attach_nothing(
    ebpf: &mut Ebpf,
    programs: &mut Programs,
    program: Name,
    offset: u64,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    let group = Group {
        stage: Stage::Entries,
        target: 0,
        program,
        file: "/proc/self/exe".into(),
        function: "a function of memtrace itself".to_owned(),
        offsets: vec![offset],
        cookies: vec![0],
    };
    let pid = NonZeroU32::new(std::process::id()).unwrap_or(NonZeroU32::MIN);
    place(ebpf, programs, &group, pid, links)
}
