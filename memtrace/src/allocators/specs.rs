//! Collects the probes of one file.

use std::{ops::Range, path::Path};

use crate::elf::prologue::{self, MAX_FUNCTION};
use crate::elf::{
    self, Descriptions, Image, Slots, Symbol, SymbolKind,
    exits::{self, Tables},
};
use crate::model::{ExitSite, FunctionCode, ProbeSpec, Results, Role};

use super::{ReturnProbes, table::Allocator};

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

/// The origin of a file's functions.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    /// The allocator, if it is known by name.
    pub(super) known: Option<&'a Allocator>,
    /// Whether it belongs to a C library, shared or in a static program: no exception passes through it.
    pub(super) is_libc: bool,
}

/// The specs of one file.
pub(super) struct Specs<'a> {
    image: &'a Image,
    path: &'a Path,
    pub(super) specs: Vec<ProbeSpec>,
    /// Where each function of `specs` is.
    functions: Vec<Range<u64>>,
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

    pub(super) fn add(&mut self, symbol: &Symbol<'_>, role: Role) -> Result<(), elf::Error> {
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
        self.functions.push(range);
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

    /// Finds the exits of functions that must not have a return probe, and leaves out those that have none.
    pub(super) fn find_exits(&mut self, owner: Owner<'_>, returns: ReturnProbes) {
        let allocates = |spec: &ProbeSpec| matches!(spec.role, Role::Allocate(_));
        if returns == ReturnProbes::Everywhere
            || !self.specs.iter().any(allocates)
            || owner.is_libc && returns != ReturnProbes::Fewest
        {
            return;
        }
        // Without tables little can be determined, which is reported; the file is still traced.
        let tables = Tables {
            descriptions: Descriptions::read(self.image).ok().flatten(),
            slots: Slots::read(self.image).unwrap_or_else(|_| Slots::none(self.image)),
        };
        let mut entries = self.entries();
        let found = loop {
            let found = self.all_exits(owner, returns, &tables, &entries);
            let before = entries.len();
            // A function that is left out does not cover others.
            for (range, found) in self.functions.iter().zip(&found) {
                if matches!(found, Some((Exits::Required, Err(_)))) {
                    entries.retain(|entry| *entry != range.start);
                }
            }
            if entries.len() == before {
                break found;
            }
        };
        let specs = std::mem::take(&mut self.specs).into_iter().zip(found);
        for ((mut spec, found), range) in specs.zip(&self.functions) {
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
        both.filter(|(spec, _)| allocates(spec)).map(|(_, range)| range.start).collect()
    }

    /// The exits of each function that must not have a return probe.
    fn all_exits(
        &self,
        owner: Owner<'_>,
        returns: ReturnProbes,
        tables: &Tables<'_>,
        entries: &[u64],
    ) -> Vec<Looked> {
        let exits = |(spec, range): (&ProbeSpec, &Range<u64>)| {
            let exits = needed(spec, range.start, owner, returns, tables.descriptions.as_ref());
            let is_known = owner.known.is_some() || owner.is_libc;
            (exits != Exits::Unneeded).then(|| (exits, self.exits(spec, range, is_known, tables, entries)))
        };
        self.specs.iter().zip(&self.functions).map(exits).collect()
    }

    fn exits(
        &self,
        spec: &ProbeSpec,
        range: &Range<u64>,
        is_known: bool,
        tables: &Tables<'_>,
        entries: &[u64],
    ) -> Result<Vec<ExitSite>, exits::Incomplete> {
        let Role::Allocate(layout) = spec.role else { return Ok(Vec::new()) };
        let function = exits::Function {
            range: range.clone(),
            entry_site: range.start.saturating_add(spec.site.delta),
            has_out: layout.out.is_some(),
            is_known,
        };
        exits::find(self.image, tables, &function, &|address| entries.contains(&address))
    }
}

/// Whether a function may be left in ways other than returning, or with another stack.
fn needed(
    spec: &ProbeSpec,
    address: u64,
    owner: Owner<'_>,
    returns: ReturnProbes,
    descriptions: Option<&Descriptions>,
) -> Exits {
    if !matches!(spec.role, Role::Allocate(_)) {
        return Exits::Unneeded;
    }
    let may_throw = spec.function.starts_with("_Zn") && !spec.function.ends_with("RKSt9nothrow_t");
    let has_personality =
        || descriptions.and_then(|known| known.at(address)).is_some_and(|found| found.has_personality);
    // Unknown functions may throw, or switch to another stack in the middle.
    if may_throw || !owner.is_libc && (owner.known.is_none() || has_personality()) {
        Exits::Required
    } else if returns == ReturnProbes::Fewest {
        Exits::Preferred
    } else {
        Exits::Unneeded
    }
}
