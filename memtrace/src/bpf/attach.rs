//! Attaching programs to allocator functions, by multi-uprobes where the kernel has them.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    os::fd::{AsFd as _, OwnedFd},
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
    load::{ALLOC_ENTER, ALLOC_LEAVE, FREE_ENTER, LIBRARIES_CHANGED, program},
    multi::{self, MultiLoader, Sites},
};

/// How probes are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One link for many sites (kernel 6.6; used from 6.10 on).
    Multi,
    /// A perf event a site.
    Perf,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Multi => "multi-uprobes",
            Self::Perf => "perf uprobes",
        })
    }
}

/// A program's probes in one file.
struct Group {
    stage: usize,
    program: &'static str,
    at_return: bool,
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

/// Groups sites by program and file: frees first, then returns, entries last. So no allocation is counted
/// whose free or return would be missed.
fn groups(specs: &[ProbeSpec], target: u8) -> Vec<Group> {
    let mut groups: BTreeMap<(usize, &Path), Group> = BTreeMap::new();
    for spec in specs {
        let parts: &[(usize, &'static str, bool)] = match spec.role {
            Role::Free => &[(0, FREE_ENTER, false)],
            Role::Allocate(_) | Role::Map(_) => &[(1, ALLOC_LEAVE, true), (2, ALLOC_ENTER, false)],
        };
        let cookie = match spec.role {
            Role::Free => Cookie::new(0, None, None, None, target),
            Role::Map(mapping) => Cookie::mapping(layer(mapping), target),
            Role::Allocate(ArgLayout { size, count, old, out }) => Cookie::new(size, count, old, out, target),
        };
        for &(order, program, at_return) in parts {
            let group = groups.entry((order, &spec.file)).or_insert_with(|| Group {
                stage: order,
                program,
                at_return,
                file: spec.file.clone(),
                function: spec.function.clone(),
                offsets: Vec::new(),
                cookies: Vec::new(),
            });
            group.offsets.push(spec.offset);
            group.cookies.push(cookie.0);
        }
    }
    groups.into_values().collect()
}

/// The three programs on allocator functions, loaded one way or the other.
pub(super) enum Programs {
    Multi { alloc_enter: OwnedFd, alloc_leave: OwnedFd, free_enter: OwnedFd, libraries_changed: OwnedFd },
    Perf,
}

impl Programs {
    /// Loads them as multi-uprobes where that works.
    pub(super) fn load(ebpf: &mut Ebpf, loader: Option<MultiLoader>) -> Result<Self, Error> {
        if let Some(loader) = loader {
            let load = |name| loader.load(name);
            let all = || -> std::io::Result<Self> {
                Ok(Self::Multi {
                    alloc_enter: load(ALLOC_ENTER)?,
                    alloc_leave: load(ALLOC_LEAVE)?,
                    free_enter: load(FREE_ENTER)?,
                    libraries_changed: load(LIBRARIES_CHANGED)?,
                })
            };
            match all() {
                Ok(programs) => return Ok(programs),
                Err(error) => {
                    tracing::debug!("multi-uprobes are not to be had ({error}): perf uprobes instead");
                }
            }
        }
        for name in [FREE_ENTER, ALLOC_LEAVE, ALLOC_ENTER, LIBRARIES_CHANGED] {
            program::<UProbe>(ebpf, name)?
                .load()
                .map_err(|source| Error::Program { program: name, source })?;
        }
        Ok(Self::Perf)
    }

    /// The way they were loaded.
    pub(super) fn method(&self) -> Method {
        match self {
            Self::Multi { .. } => Method::Multi,
            Self::Perf => Method::Perf,
        }
    }
}

/// What keeps probes attached; dropping it detaches them.
pub(super) struct Link {
    stage: usize,
    _held: Held,
}

/// What the kernel gave for a link.
enum Held {
    Multi(#[expect(dead_code, reason = "closing it detaches")] OwnedFd),
    Perf(#[expect(dead_code, reason = "dropping it detaches")] UProbeLink),
}

impl Link {
    /// When it was attached: frees 0, returns 1, entries 2. Detach in the opposite order.
    pub(super) fn stage(&self) -> usize {
        self.stage
    }
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
    for group in groups(specs, target) {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::Attach {
            function: group.function.clone(),
            file: group.file.clone(),
            source,
        };
        match programs {
            Programs::Multi { alloc_enter, alloc_leave, free_enter, .. } => {
                let program = match group.program {
                    ALLOC_ENTER => alloc_enter,
                    ALLOC_LEAVE => alloc_leave,
                    _ => free_enter,
                };
                let sites = Sites {
                    file: &group.file,
                    offsets: &group.offsets,
                    cookies: &group.cookies,
                    pid: pid.get(),
                    at_return: group.at_return,
                };
                let link = multi::attach(program.as_fd(), &sites).map_err(|error| refused(error.into()))?;
                links.push(Link { stage: group.stage, _held: Held::Multi(link) });
            }
            Programs::Perf => {
                let program = program::<UProbe>(ebpf, group.program)?;
                for (&offset, &cookie) in group.offsets.iter().zip(&group.cookies) {
                    let point = UProbeAttachPoint {
                        location: UProbeAttachLocation::AbsoluteOffset(offset),
                        cookie: Some(cookie),
                    };
                    let link = program
                        .attach(point, &group.file, UProbeScope::OneProcess(pid))
                        .and_then(|id| program.take_link(id))
                        .map_err(|error| refused(error.into()))?;
                    links.push(Link { stage: group.stage, _held: Held::Perf(link) });
                }
            }
        }
    }
    Ok(links)
}

/// Attaches to the dynamic loader of one process.
pub(super) fn attach_loader(
    ebpf: &mut Ebpf,
    programs: &Programs,
    hook: &LoaderHook,
    pid: NonZeroU32,
    target: u8,
) -> Result<Link, Error> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::Attach {
        function: "the dynamic loader".to_owned(),
        file: hook.file.clone(),
        source,
    };
    let cookie = Cookie::new(0, None, None, None, target).0;
    match programs {
        Programs::Multi { libraries_changed, .. } => {
            let sites = Sites {
                file: &hook.file,
                offsets: &[hook.offset],
                cookies: &[cookie],
                pid: pid.get(),
                at_return: false,
            };
            multi::attach(libraries_changed.as_fd(), &sites)
                .map(|fd| Link { stage: 0, _held: Held::Multi(fd) })
                .map_err(|error| refused(error.into()))
        }
        Programs::Perf => {
            let program = program::<UProbe>(ebpf, LIBRARIES_CHANGED)?;
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(hook.offset),
                cookie: Some(cookie),
            };
            program
                .attach(point, &hook.file, UProbeScope::OneProcess(pid))
                .and_then(|id| program.take_link(id))
                .map(|link| Link { stage: 0, _held: Held::Perf(link) })
                .map_err(|error| refused(error.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::groups;
    use crate::model::{ArgLayout, ProbeSpec, Role, Site};

    fn spec(function: &str, offset: u64, role: Role) -> ProbeSpec {
        ProbeSpec {
            function: function.to_owned(),
            file: PathBuf::from("/lib/libc.so.6"),
            offset,
            site: Site { delta: 0, emulated: true },
            role,
        }
    }

    #[test]
    fn frees_are_attached_first_and_entries_last() {
        let specs = [
            spec("malloc", 1, Role::Allocate(ArgLayout::default())),
            spec("free", 2, Role::Free),
            spec("memalign", 3, Role::Allocate(ArgLayout { size: 1, ..ArgLayout::default() })),
        ];
        let groups: Vec<_> =
            groups(&specs, 0).into_iter().map(|g| (g.program, g.at_return, g.offsets)).collect();
        assert_eq!(
            groups,
            [
                ("free_enter", false, vec![2]),
                ("alloc_leave", true, vec![1, 3]),
                ("alloc_enter", false, vec![1, 3]),
            ]
        );
    }
}
