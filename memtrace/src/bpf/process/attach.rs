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
use memtrace_common::{Cookie, Exit, ExitKind, Layer};

use crate::model::{
    ArgLayout, ExitFrame, ExitResult, ExitSite, LoaderHook, Mapping, ProbeSpec, Results, Role,
};

use super::{
    apart,
    multi::{self, Sites},
    programs::{Method, Name, Programs},
};
use crate::bpf::shared::{error::Error, object::program};

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
    /// Exit sites of those without a return probe.
    Exits,
    /// Entries of functions that allocate, and with sessions their returns.
    Entries,
}

/// A program's probes in one file.
pub(super) struct Group {
    pub(super) stage: Stage,
    pub(super) target: u8,
    pub(super) program: Name,
    pub(super) file: PathBuf,
    pub(super) function: String,
    pub(super) offsets: Vec<u64>,
    pub(super) cookies: Vec<u64>,
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
    cookie.stepped(!spec.site.emulated).with_exits(matches!(spec.results, Results::AtExits(_)))
}

fn exit_cookie(site: &ExitSite, target: u8) -> Cookie {
    let (kind, register) = match site.result {
        ExitResult::Register(register) => (ExitKind::Register, register),
        ExitResult::Zero => (ExitKind::Zero, 0),
    };
    let (by_frame_pointer, words) = match site.frame {
        ExitFrame::StackPointer(words) => (false, words),
        ExitFrame::FramePointer(words) => (true, words),
    };
    let exit = Exit::new(kind, register, by_frame_pointer, words, site.condition);
    Cookie::exit(exit, target).stepped(!site.emulated)
}

/// The programs on a function and its exits, with the stage of each.
fn parts(spec: &ProbeSpec, method: Method) -> &'static [(Stage, Name)] {
    match (spec.role, &spec.results, method) {
        (Role::Free, ..) => &[(Stage::Frees, Name::FreeEnter)],
        (Role::Map(_), _, Method::Session) => &[(Stage::Mappings, Name::AllocSession)],
        (Role::Map(_), ..) => {
            &[(Stage::MappingReturns, Name::AllocLeave), (Stage::Mappings, Name::AllocEnter)]
        }
        (_, Results::AtExits(_), _) => &[(Stage::Exits, Name::AllocExit), (Stage::Entries, Name::AllocBegin)],
        (_, Results::AtReturn, Method::Session) => &[(Stage::Entries, Name::AllocSession)],
        (_, Results::AtReturn, _) => {
            &[(Stage::Returns, Name::AllocLeave), (Stage::Entries, Name::AllocEnter)]
        }
    }
}

/// Groups sites by stage, program and file, in the order of attaching.
pub(super) fn groups(specs: &[ProbeSpec], target: u8, method: Method) -> Vec<Group> {
    let mut groups: BTreeMap<(Stage, Name, &Path), Group> = BTreeMap::new();
    for spec in specs {
        for &(stage, program) in parts(spec, method) {
            let group = groups.entry((stage, program, &spec.file)).or_insert_with(|| Group {
                stage,
                target,
                program,
                file: spec.file.clone(),
                function: spec.function.clone(),
                offsets: Vec::new(),
                cookies: Vec::new(),
            });
            match &spec.results {
                Results::AtExits(sites) if stage == Stage::Exits => {
                    for site in sites {
                        group.add(site.offset, exit_cookie(site, target));
                    }
                }
                _ => group.add(spec.offset, cookie(spec, target)),
            }
        }
    }
    groups.into_values().collect()
}

impl Group {
    /// Adds a site. Functions that end in the same code share its exits.
    fn add(&mut self, offset: u64, cookie: Cookie) {
        let known = self.offsets.iter().zip(&self.cookies).any(|known| known == (&offset, &cookie.0));
        if !known {
            self.offsets.push(offset);
            self.cookies.push(cookie.0);
        }
    }
}

/// What keeps probes attached; dropping it detaches them.
pub(super) struct Link {
    pub(super) stage: Stage,
    /// The target's index.
    pub(super) target: u8,
    pub(super) _held: Held,
}

/// What the kernel returned for a link.
pub(super) enum Held {
    Multi(#[expect(dead_code, reason = "closing it detaches")] OwnedFd),
    Perf(#[expect(dead_code, reason = "dropping it detaches")] UProbeLink),
}

/// Attaches a program to some sites. After an error, `links` has what was attached before it.
pub(super) fn place(
    ebpf: &mut Ebpf,
    programs: &mut Programs,
    group: &Group,
    pid: NonZeroU32,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::Attach {
        function: group.function.clone(),
        file: group.file.clone(),
        source,
    };
    programs.need(ebpf, group.program)?;
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
        links.push(link(Held::Multi(fd)));
        return Ok(());
    }
    let program = program::<UProbe>(ebpf, group.program.symbol())?;
    for (&offset, &cookie) in group.offsets.iter().zip(&group.cookies) {
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(offset),
            cookie: Some(cookie),
        };
        let attach = || {
            let id = program.attach(point, &group.file, UProbeScope::OneProcess(pid))?;
            program.take_link(id)
        };
        let attached = apart::run(attach).map_err(|error| refused(error.into()))?;
        let attached = attached.map_err(|error| refused(error.into()))?;
        links.push(link(Held::Perf(attached)));
    }
    Ok(())
}

/// Attaches the programs to the sites of one process. After an error, `links` has what was attached before it, for the
/// caller to detach with [`super::detach`].
pub(super) fn attach(
    ebpf: &mut Ebpf,
    programs: &mut Programs,
    specs: &[ProbeSpec],
    pid: NonZeroU32,
    target: u8,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    for group in groups(specs, target, programs.method()) {
        place(ebpf, programs, &group, pid, links)?;
    }
    Ok(())
}

/// Attaches to the dynamic loader of one process.
pub(super) fn attach_loader(
    ebpf: &mut Ebpf,
    programs: &mut Programs,
    hook: &LoaderHook,
    pid: NonZeroU32,
    target: u8,
    links: &mut Vec<Link>,
) -> Result<(), Error> {
    place(ebpf, programs, &loader(hook, target), pid, links)
}

pub(super) fn loader(hook: &LoaderHook, target: u8) -> Group {
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Method, Name, Stage, groups};
    use crate::model::{ArgLayout, ExitFrame, ExitResult, ExitSite, Mapping, ProbeSpec, Results, Role, Site};

    fn spec(function: &str, offset: u64, role: Role) -> ProbeSpec {
        ProbeSpec {
            function: function.to_owned(),
            file: PathBuf::from("/lib/libc.so.6"),
            offset,
            site: Site { delta: 0, emulated: true },
            role,
            results: Results::AtReturn,
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
    fn exits_are_attached_before_the_entry_and_shared_ones_once() {
        let site = |offset| ExitSite {
            offset,
            emulated: true,
            frame: ExitFrame::StackPointer(1),
            result: ExitResult::Register(0),
            condition: None,
        };
        let mut first = spec("_Znwm", 1, Role::Allocate(ArgLayout::default()));
        first.results = Results::AtExits(vec![site(10), site(11)]);
        let mut second = spec("_Znam", 2, Role::Allocate(ArgLayout::default()));
        second.results = Results::AtExits(vec![site(11), site(12)]);
        for method in [Method::Session, Method::Multi, Method::Perf] {
            let found: Vec<_> = groups(&[first.clone(), second.clone()], 0, method)
                .into_iter()
                .map(|g| (g.stage, g.program, g.offsets))
                .collect();
            assert_eq!(
                found,
                [
                    (Stage::Exits, Name::AllocExit, vec![10, 11, 12]),
                    (Stage::Entries, Name::AllocBegin, vec![1, 2]),
                ]
            );
        }
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
