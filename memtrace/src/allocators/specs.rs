//! Collects the probes of one file.

use std::{ops::Range, path::Path};

use crate::elf::prologue::{self, MAX_FUNCTION};
use crate::elf::{
    self, Descriptions, Image, Slots, Symbol, SymbolKind,
    exits::{self, Tables, Wanted},
};
use crate::model::{ExitSite, FunctionCode, ProbeSpec, Results, Role};

use super::{ReturnProbes, functions::Function};

/// Enough for one instruction, if the function's length is unknown.
const ONE_INSTRUCTION: u64 = 16;

/// What a return probe on a function would put at risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exits {
    /// Nothing: a return probe is cheaper.
    Unneeded,
    /// The target's own profile.
    Preferred,
    /// The target itself.
    Required,
}

/// The result of a search for a function's exits; `None`: none are needed.
type Looked = Option<(Exits, Result<Vec<ExitSite>, exits::Incomplete>)>;

/// The origin of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A C library, shared or in a static program: no exception passes through it.
    Libc,
    /// An allocator that is known by name.
    Known,
    /// The program, or a library that is not known.
    Unknown,
}

/// A probed function.
struct Probed {
    /// Where it is.
    range: Range<u64>,
    owner: Owner,
    /// Whether it may be left by an exception.
    throws: bool,
    /// Whether it is left out if it ends in a probed one.
    may_wrap: bool,
}

/// The specs of one file.
pub(super) struct Specs<'a> {
    image: &'a Image,
    path: &'a Path,
    pub(super) specs: Vec<ProbeSpec>,
    /// What is known of each function of `specs`.
    functions: Vec<Probed>,
    pub(super) code: Vec<FunctionCode>,
    pub(super) notes: Vec<String>,
    pub(super) left_out: Vec<String>,
}

impl<'a> Specs<'a> {
    pub(super) fn new(image: &'a Image, path: &'a Path) -> Self {
        Self {
            image,
            path,
            specs: Vec::new(),
            functions: Vec::new(),
            code: Vec::new(),
            notes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Adds a function; `may_wrap`: unless it turns out to end in another one.
    pub(super) fn add(
        &mut self,
        symbol: &Symbol<'_>,
        &Function { role, throws, .. }: &Function,
        owner: Owner,
        may_wrap: bool,
    ) -> Result<(), elf::Error> {
        let name = symbol.name;
        if symbol.kind == SymbolKind::Indirect {
            self.notes.push(format!("{name} is an indirect function (IFUNC)"));
            return Ok(());
        }
        if symbol.kind == SymbolKind::Data {
            return Ok(());
        }
        let Some(entry) = self.image.vaddr_to_offset(symbol.address) else {
            self.notes.push(format!("{name} is in no executable segment"));
            return Ok(());
        };
        if let Some(other) = self.specs.iter().find(|spec| spec.offset.wrapping_sub(spec.site.delta) == entry)
        {
            if other.role != role {
                self.notes.push(format!("{name} is the same code as {} and counted as that", other.function));
            }
            return Ok(());
        }
        let len = if symbol.size == 0 { ONE_INSTRUCTION } else { symbol.size.min(MAX_FUNCTION) };
        let code = self.image.code(symbol.address, len)?;
        let allocates = match role {
            Role::Map(_) => None,
            Role::Free => Some(false),
            Role::Allocate(layout) => Some(!layout.delegates),
        };
        let range = symbol.address..symbol.address.saturating_add(symbol.size);
        if let Some(allocates) = allocates {
            self.code.push(FunctionCode { range: range.clone(), allocates });
        }
        let site = prologue::choose(self.image.machine(), &code, symbol.size, role);
        self.functions.push(Probed { range, owner, throws, may_wrap });
        self.specs.push(ProbeSpec {
            function: name.to_owned(),
            file: self.path.to_owned(),
            offset: entry.saturating_add(site.delta),
            site,
            role,
            results: Results::AtReturn,
        });
        Ok(())
    }

    /// Whether some functions are added only if they do not end in others.
    pub(super) fn may_wrap(&self) -> bool {
        self.functions.iter().any(|function| function.may_wrap)
    }

    /// Removes functions that end in others that are probed and do the same: in this file, or, by the role of their names,
    /// wherever `foreign` ones are. Of an unknown file, those that free go if no function like them that allocates stays.
    pub(super) fn remove_wrappers(&mut self, tables: &Tables<'_>, foreign: &dyn Fn(&str) -> Option<Role>) {
        let both = || self.specs.iter().zip(&self.functions);
        let is_optional = |function: &Probed| function.may_wrap && function.owner == Owner::Unknown;
        let passes = |(spec, function): (&ProbeSpec, &Probed)| {
            let start = function.range.start;
            let does_the_same = |other: &(&ProbeSpec, &Probed)| {
                other.1.range.start != start && stands_for(other.0.role, spec.role)
            };
            let own: Vec<u64> = both().filter(does_the_same).map(|(_, other)| other.range.start).collect();
            let wanted = Wanted {
                own: &|address| own.contains(&address),
                foreign: &|name| foreign(name).is_some_and(|role| stands_for(role, spec.role)),
            };
            let frees = spec.role == Role::Free;
            function.may_wrap && exits::passes(self.image, tables, function.range.clone(), frees, &wanted)
        };
        let mut wraps: Vec<bool> = both().map(passes).collect();
        let stays = |((spec, function), wraps): ((&ProbeSpec, &Probed), &bool)| {
            is_optional(function) && !wraps && matches!(spec.role, Role::Allocate(_))
        };
        if !both().zip(&wraps).any(stays) {
            wraps = self.functions.iter().zip(&wraps).map(|(of, wraps)| *wraps || is_optional(of)).collect();
        }
        let removed: Vec<u64> = self
            .functions
            .iter()
            .zip(&wraps)
            .filter(|(_, wraps)| **wraps)
            .map(|(function, _)| function.range.start)
            .collect();
        let mut each = wraps.iter();
        self.specs.retain(|_| !each.next().copied().unwrap_or_default());
        let mut each = wraps.iter();
        self.functions.retain(|_| !each.next().copied().unwrap_or_default());
        self.code.retain(|code| !removed.contains(&code.range.start));
    }

    /// Finds the exits of functions that must not have a return probe, and leaves out those that have none.
    pub(super) fn find_exits(&mut self, tables: &Tables<'_>, returns: ReturnProbes) {
        let mut entries = self.entries();
        let found = loop {
            let found = self.all_exits(returns, tables, &entries);
            let before = entries.len();
            // A function that is left out does not cover others.
            for (function, found) in self.functions.iter().zip(&found) {
                if matches!(found, Some((Exits::Required, Err(_)))) {
                    entries.retain(|entry| *entry != function.range.start);
                }
            }
            if entries.len() == before {
                break found;
            }
        };
        let specs = std::mem::take(&mut self.specs).into_iter().zip(found);
        for ((mut spec, found), Probed { range, .. }) in specs.zip(&self.functions) {
            match found {
                Some((_, Ok(sites))) if !sites.is_empty() => spec.results = Results::AtExits(sites),
                Some((Exits::Preferred, Err(_))) | None => {}
                // All its exits lead to functions that are probed, or it is left out. What it requests from others
                // counts as theirs.
                Some((_, found)) => {
                    if let Err(reason) = found {
                        self.left_out.push(format!("{} ({reason})", spec.function));
                    }
                    for code in self.code.iter_mut().filter(|code| code.range.start == range.start) {
                        code.allocates = false;
                    }
                    continue;
                }
            }
            self.specs.push(spec);
        }
    }

    /// Addresses of the allocating functions.
    fn entries(&self) -> Vec<u64> {
        let allocates = |spec: &ProbeSpec| matches!(spec.role, Role::Allocate(_));
        let both = self.specs.iter().zip(&self.functions);
        both.filter(|(spec, _)| allocates(spec)).map(|(_, function)| function.range.start).collect()
    }

    /// Whether the exits of some function are needed.
    pub(super) fn needs_exits(&self, returns: ReturnProbes) -> bool {
        let needs = |(spec, function): (&ProbeSpec, &Probed)| {
            matches!(spec.role, Role::Allocate(_))
                && (function.owner != Owner::Libc || returns == ReturnProbes::Fewest)
        };
        returns != ReturnProbes::Everywhere && self.specs.iter().zip(&self.functions).any(needs)
    }

    /// The exits of each function that must not have a return probe.
    fn all_exits(&self, returns: ReturnProbes, tables: &Tables<'_>, entries: &[u64]) -> Vec<Looked> {
        let exits = |(spec, function): (&ProbeSpec, &Probed)| {
            let exits = needed(spec, function, returns, tables.descriptions.as_ref());
            let found = || self.exits(spec, function, tables, entries);
            (exits != Exits::Unneeded).then(|| (exits, found()))
        };
        self.specs.iter().zip(&self.functions).map(exits).collect()
    }

    fn exits(
        &self,
        spec: &ProbeSpec,
        Probed { range, owner, .. }: &Probed,
        tables: &Tables<'_>,
        entries: &[u64],
    ) -> Result<Vec<ExitSite>, exits::Incomplete> {
        let Role::Allocate(layout) = spec.role else { return Ok(Vec::new()) };
        let function = exits::Function {
            range: range.clone(),
            entry_site: range.start.saturating_add(spec.site.delta),
            has_out: layout.out.is_some(),
            // An operator catches what a handler throws for want of memory. If it had a block then, its call would count as
            // lost, not as none.
            is_known: *owner != Owner::Unknown || spec.function.starts_with("_Zn"),
        };
        exits::find(self.image, tables, &function, &|address| entries.contains(&address))
    }
}

/// Whether a call of a function of one role does all that a function of the other role has to be probed for.
fn stands_for(inner: Role, outer: Role) -> bool {
    match (inner, outer) {
        (Role::Free, Role::Free) => true,
        // Who gives an old block up must be seen to do so.
        (Role::Allocate(inner), Role::Allocate(outer)) => inner.old.is_some() || outer.old.is_none(),
        _ => false,
    }
}

/// What a file says about its functions. Without tables little can be determined, which is reported; the file is still
/// traced.
pub(super) fn tables(image: &Image) -> Tables<'_> {
    Tables {
        descriptions: Descriptions::read(image).ok().flatten(),
        slots: Slots::read(image).unwrap_or_else(|_| Slots::none(image)),
    }
}

/// Whether a function may be left in ways other than returning, or with another stack.
fn needed(
    spec: &ProbeSpec,
    Probed { range, owner, throws, .. }: &Probed,
    returns: ReturnProbes,
    descriptions: Option<&Descriptions>,
) -> Exits {
    if !matches!(spec.role, Role::Allocate(_)) {
        return Exits::Unneeded;
    }
    let has_personality =
        || descriptions.and_then(|known| known.at(range.start)).is_some_and(|found| found.has_personality);
    let is_required = match owner {
        Owner::Libc => *throws,
        Owner::Known => *throws || has_personality(),
        // It may throw, or switch to another stack in the middle.
        Owner::Unknown => true,
    };
    if is_required {
        Exits::Required
    } else if returns == ReturnProbes::Fewest {
        Exits::Preferred
    } else {
        Exits::Unneeded
    }
}
