//! Attaching programs to functions, by multi-uprobes where the kernel has them.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memtrace_common::{Cookie, Layer};

use crate::model::{ArgLayout, LoaderHook, Mapping, ProbeSpec, Role};

use super::{
    error::Error,
    load::program,
    multi::{self, Sites},
    programs::{Method, Name, Programs},
};

/// What a link's probes are for, in the order of attaching: frees first, then returns, entries last. So no allocation is
/// counted whose free or return would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The dynamic loader.
    Loader,
    /// Frees.
    Frees,
    /// Returns of functions that map memory.
    MappingReturns,
    /// Their entries, and with sessions their returns.
    Mappings,
    /// Returns of functions that allocate.
    Returns,
    /// Their entries, and with sessions their returns.
    Entries,
}

/// A program's probes in one file.
struct Group {
    stage: Stage,
    target: u8,
    program: Name,
    file: PathBuf,
    function: String,
    offsets: Vec<u64>,
    cookies: Vec<u64>,
}

fn layer(mapping: Mapping) -> Layer {
    match mapping {
        Mapping::Map => Layer::Map,
        Mapping::Unmap => Layer::Unmap,
        Mapping::Remap => Layer::Remap,
        Mapping::Break => Layer::Break,
    }
}

fn cookie(spec: &ProbeSpec, target: u8) -> Cookie {
    let cookie = match spec.role {
        Role::Free => Cookie::new(0, None, None, None, target),
        Role::Map(mapping) => Cookie::mapping(layer(mapping), target),
        Role::Allocate(ArgLayout { size, count, old, out, delegates }) => {
            Cookie::new(size, count, old, out, target).delegating(delegates)
        }
    };
    cookie.stepped(!spec.site.emulated)
}

/// Groups sites by stage and file, in the order of attaching.
fn groups(specs: &[ProbeSpec], target: u8, method: Method) -> Vec<Group> {
    let mut groups: BTreeMap<(Stage, &Path), Group> = BTreeMap::new();
    for spec in specs {
        let (returns, entries) = match spec.role {
            Role::Map(_) => (Stage::MappingReturns, Stage::Mappings),
            Role::Allocate(_) | Role::Free => (Stage::Returns, Stage::Entries),
        };
        let parts: &[(Stage, Name)] = match (spec.role, method) {
            (Role::Free, _) => &[(Stage::Frees, Name::FreeEnter)],
            (_, Method::Session) => &[(entries, Name::AllocSession)],
            _ => &[(returns, Name::AllocLeave), (entries, Name::AllocEnter)],
        };
        for &(stage, program) in parts {
            let group = groups.entry((stage, &spec.file)).or_insert_with(|| Group {
                stage,
                target,
                program,
                file: spec.file.clone(),
                function: spec.function.clone(),
                offsets: Vec::new(),
                cookies: Vec::new(),
            });
            group.offsets.push(spec.offset);
            group.cookies.push(cookie(spec, target).0);
        }
    }
    groups.into_values().collect()
}

/// What keeps probes attached; dropping it detaches them.
pub(super) struct Link {
    pub(super) stage: Stage,
    /// The target's index.
    pub(super) target: u8,
    pub(super) _held: Held,
}

/// What the kernel gave for a link.
pub(super) enum Held {
    Multi(#[expect(dead_code, reason = "closing it detaches")] OwnedFd),
    Perf(#[expect(dead_code, reason = "dropping it detaches")] UProbeLink),
}

/// Attaches a program to some sites.
fn place(ebpf: &mut Ebpf, programs: &Programs, group: &Group, pid: NonZeroU32) -> Result<Vec<Link>, Error> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::Attach {
        function: group.function.clone(),
        file: group.file.clone(),
        source,
    };
    let link = |held| Link { stage: group.stage, target: group.target, _held: held };
    if let Some(loaded) = programs.get(group.program) {
        let sites = Sites {
            file: &group.file,
            offsets: &group.offsets,
            cookies: &group.cookies,
            pid: pid.get(),
            at_return: group.program.at_return(),
        };
        let fd = multi::attach(loaded, &sites).map_err(|error| refused(error.into()))?;
        return Ok(vec![link(Held::Multi(fd))]);
    }
    let program = program::<UProbe>(ebpf, group.program.symbol())?;
    let mut links = Vec::new();
    for (&offset, &cookie) in group.offsets.iter().zip(&group.cookies) {
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: Some(cookie),
        };
        let attached = program
            .attach(point, &group.file, UProbeScope::OneProcess(pid))
            .and_then(|id| program.take_link(id))
            .map_err(|error| refused(error.into()))?;
        links.push(link(Held::Perf(attached)));
    }
    Ok(links)
}

/// Attaches the programs to the sites of one process.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    programs: &Programs,
    specs: &[ProbeSpec],
    pid: NonZeroU32,
    target: u8,
) -> Result<Vec<Link>, Error> {
    let mut links = Vec::new();
    for group in groups(specs, target, programs.method()) {
        links.extend(place(ebpf, programs, &group, pid)?);
    }
    Ok(links)
}

/// Attaches a program that does nothing to the same sites, by a thread: see [`super::holder`].
pub(super) fn attach_anchors(
    ebpf: &mut Ebpf,
    specs: &[ProbeSpec],
    thread: NonZeroU32,
    target: u8,
) -> Result<Vec<Link>, Error> {
    let mut links = Vec::new();
    for group in groups(specs, target, Method::Session) {
        links.extend(place_anchors(ebpf, group, thread)?);
    }
    Ok(links)
}

/// The same where the dynamic loader is watched.
pub(super) fn attach_loader_anchor(
    ebpf: &mut Ebpf,
    hook: &LoaderHook,
    thread: NonZeroU32,
    target: u8,
) -> Result<Vec<Link>, Error> {
    place_anchors(ebpf, loader(hook, target), thread)
}

fn place_anchors(ebpf: &mut Ebpf, group: Group, thread: NonZeroU32) -> Result<Vec<Link>, Error> {
    place(ebpf, &Programs::Perf, &Group { program: Name::NothingEnter, ..group }, thread)
}

/// Attaches to the dynamic loader of one process.
pub(super) fn attach_loader(
    ebpf: &mut Ebpf,
    programs: &Programs,
    hook: &LoaderHook,
    pid: NonZeroU32,
    target: u8,
) -> Result<Vec<Link>, Error> {
    place(ebpf, programs, &loader(hook, target), pid)
}

fn loader(hook: &LoaderHook, target: u8) -> Group {
    Group {
        stage: Stage::Loader,
        target,
        program: Name::LibrariesChanged,
        file: hook.file.clone(),
        function: "the dynamic loader".to_owned(),
        offsets: vec![hook.offset],
        cookies: vec![Cookie::new(0, None, None, None, target).0],
    }
}

/// Attaches a program that does nothing to this process.
pub(super) fn attach_nothing(
    ebpf: &mut Ebpf,
    programs: &Programs,
    program: Name,
    offset: u64,
) -> Result<Vec<Link>, Error> {
    let group = Group {
        stage: Stage::Entries,
        target: 0,
        program,
        file: "/proc/self/exe".into(),
        function: "a function of memtrace itself".to_owned(),
        offsets: vec![offset],
        cookies: vec![0],
    };
    place(ebpf, programs, &group, NonZeroU32::new(std::process::id()).unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Method, Name, Stage, groups};
    use crate::model::{ArgLayout, Mapping, ProbeSpec, Role, Site};

    fn spec(function: &str, offset: u64, role: Role) -> ProbeSpec {
        ProbeSpec {
            function: function.to_owned(),
            file: PathBuf::from("/lib/libc.so.6"),
            offset,
            site: Site { delta: 0, emulated: true },
            role,
        }
    }

    fn specs() -> [ProbeSpec; 4] {
        [
            spec("malloc", 1, Role::Allocate(ArgLayout::default())),
            spec("free", 2, Role::Free),
            spec("memalign", 3, Role::Allocate(ArgLayout { size: 1, ..ArgLayout::default() })),
            spec("mmap", 4, Role::Map(Mapping::Map)),
        ]
    }

    #[test]
    fn frees_are_attached_first_and_entries_last() {
        let found: Vec<_> = groups(&specs(), 0, Method::Multi)
            .into_iter()
            .map(|g| (g.stage, g.program, g.program.at_return(), g.offsets))
            .collect();
        assert_eq!(
            found,
            [
                (Stage::Frees, Name::FreeEnter, false, vec![2]),
                (Stage::MappingReturns, Name::AllocLeave, true, vec![4]),
                (Stage::Mappings, Name::AllocEnter, false, vec![4]),
                (Stage::Returns, Name::AllocLeave, true, vec![1, 3]),
                (Stage::Entries, Name::AllocEnter, false, vec![1, 3]),
            ]
        );
    }

    #[test]
    fn a_session_is_entry_and_return_in_one() {
        let found: Vec<_> =
            groups(&specs(), 0, Method::Session).into_iter().map(|g| (g.stage, g.program)).collect();
        assert_eq!(
            found,
            [
                (Stage::Frees, Name::FreeEnter),
                (Stage::Mappings, Name::AllocSession),
                (Stage::Entries, Name::AllocSession),
            ]
        );
    }
}
