//! The programs that sit on a target's functions, and the ways to load them.

use aya::{Ebpf, programs::UProbe};

use super::multi::{Kind, Loaded, MultiLoader};
use crate::bpf::shared::{error::Error, object::program};

/// How probes are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One link for many sites, and one program for entry and return, which can be left out (kernel 6.13).
    Session,
    /// One link for many sites (kernel 6.6; used from 6.10 on).
    Multi,
    /// A perf event a site.
    Perf,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Session => "uprobe sessions",
            Self::Multi => "multi-uprobes",
            Self::Perf => "perf uprobes",
        })
    }
}

/// A program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    AllocEnter,
    AllocLeave,
    AllocSession,
    AllocBegin,
    AllocExit,
    FreeEnter,
    LibrariesChanged,
    NothingEnter,
    NothingLeave,
    NothingSession,
    NothingSkip,
}

impl Name {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::AllocEnter => "alloc_enter",
            Self::AllocLeave => "alloc_leave",
            Self::AllocSession => "alloc_session",
            Self::AllocBegin => "alloc_begin",
            Self::AllocExit => "alloc_exit",
            Self::FreeEnter => "free_enter",
            Self::LibrariesChanged => "libraries_changed",
            Self::NothingEnter | Self::NothingSession => "nothing_enter",
            Self::NothingLeave => "nothing_leave",
            Self::NothingSkip => "nothing_skip",
        }
    }

    pub(super) fn at_return(self) -> bool {
        matches!(self, Self::AllocLeave | Self::NothingLeave)
    }

    fn kind(self) -> Kind {
        match self {
            Self::AllocSession | Self::NothingSession | Self::NothingSkip => Kind::Session,
            _ => Kind::Multi,
        }
    }
}

/// Loaded whatever the method.
const COMMON: [Name; 4] = [Name::FreeEnter, Name::LibrariesChanged, Name::NothingEnter, Name::NothingLeave];
const SESSION: [Name; 3] = [Name::AllocSession, Name::NothingSession, Name::NothingSkip];
const PAIR: [Name; 2] = [Name::AllocEnter, Name::AllocLeave];

/// The programs, loaded one way or the other.
pub(super) enum Programs {
    /// As multi-uprobes, and perhaps a session; the loader for those that are needed later.
    Multi(Vec<(Name, Loaded)>, Box<MultiLoader>),
    /// By aya, which keeps them.
    Perf,
}

impl Programs {
    /// Loads them in the best way that works. `skips`: sessions are wanted.
    pub(super) fn load(ebpf: &mut Ebpf, loader: Option<MultiLoader>, skips: bool) -> Result<Self, Error> {
        if let Some(loader) = loader {
            let load = |names: &[Name]| -> std::io::Result<Vec<(Name, Loaded)>> {
                names.iter().map(|&name| Ok((name, loader.load(name.symbol(), name.kind())?))).collect()
            };
            let session = skips.then(|| {
                load(&SESSION)
                    .inspect_err(|error| tracing::debug!("uprobe sessions are not to be had: {error}"))
            });
            let allocating = match session {
                Some(Ok(session)) => Ok(session),
                _ => load(&PAIR),
            };
            match allocating.and_then(|allocating| Ok((allocating, load(&COMMON)?))) {
                Ok((mut programs, common)) => {
                    programs.extend(common);
                    return Ok(Self::Multi(programs, Box::new(loader)));
                }
                Err(error) => {
                    tracing::debug!("multi-uprobes are not to be had ({error}): perf uprobes instead");
                }
            }
        }
        Self::load_perf(ebpf, &PAIR)?;
        Self::load_perf(ebpf, &COMMON)?;
        Ok(Self::Perf)
    }

    /// Loads a program that few targets need, unless it is loaded.
    pub(super) fn need(&mut self, ebpf: &mut Ebpf, name: Name) -> Result<(), Error> {
        match self {
            Self::Multi(programs, _) if programs.iter().any(|(known, _)| *known == name) => Ok(()),
            Self::Multi(programs, loader) => {
                let loaded = loader
                    .load(name.symbol(), name.kind())
                    .map_err(Error::io("loading the programs for functions without a return probe"))?;
                programs.push((name, loaded));
                Ok(())
            }
            Self::Perf => Self::load_perf(ebpf, &[name]),
        }
    }

    /// Loads those for perf uprobes that are not loaded yet.
    pub(super) fn load_perf(ebpf: &mut Ebpf, names: &[Name]) -> Result<(), Error> {
        for name in names.iter().map(|name| name.symbol()) {
            let program = program::<UProbe>(ebpf, name)?;
            if program.fd().is_err() {
                program.load().map_err(|source| Error::Program { program: name, source })?;
            }
        }
        Ok(())
    }

    /// A program that was loaded as a multi-uprobe.
    pub(super) fn get(&self, name: Name) -> Option<&Loaded> {
        match self {
            Self::Multi(programs, _) => {
                programs.iter().find(|(known, _)| *known == name).map(|(_, program)| program)
            }
            Self::Perf => None,
        }
    }

    /// Every one of those.
    pub(super) fn loaded(&self) -> impl Iterator<Item = &Loaded> {
        let programs = match self {
            Self::Multi(programs, _) => programs.as_slice(),
            Self::Perf => &[],
        };
        programs.iter().map(|(_, program)| program)
    }

    /// The way they were loaded.
    pub(super) fn method(&self) -> Method {
        match self {
            Self::Perf => Method::Perf,
            Self::Multi(..) if self.get(Name::AllocSession).is_some() => Method::Session,
            Self::Multi(..) => Method::Multi,
        }
    }
}
