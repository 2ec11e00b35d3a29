//! From an address to its unwind rule: the target's module, the module's row, and a cache in front of both.

use memtrace_common::{Module, ModuleList, Row, Target, cache};

use crate::{
    maps::{CACHE, MODULES, ROWS},
    types::{Rule, Scratch},
};

/// Steps of the search among at most 65,535 modules.
const MODULE_STEPS: u32 = 17;
/// Steps of the search among at most 4 M rows.
const ROW_STEPS: u32 = 22;

/// No module is known there.
const NO_MODULE: u64 = Rule::NONE.0;

const NO_FDE: u64 = Row { pc: 0, cfa: 0, kind: Row::NO_FDE, fp: Row::SAME }.rule() as u64;

/// Reads where a target's modules are, for one walk.
#[inline(always)]
pub(super) fn begin(scratch: *mut Scratch, target: &Target, id: u32) {
    let index = Target::index(id);
    // SAFETY: `scratch` points to a claimed value of SCRATCHES; one word, read whole.
    unsafe {
        (*scratch).modules = if (&raw const target.stale).read_volatile() == 0 {
            (&raw const target.modules).read_volatile()
        } else {
            0
        };
        let begin = (&raw const target.unstable_begin).read_volatile();
        let end = (&raw const target.unstable_end).read_volatile();
        (*scratch).unstable = (begin, end.wrapping_sub(begin));
        (*scratch).is_unstable = 0;
        (*scratch).event.unloaded = (&raw const target.unloaded).read_volatile() as u32;
        // Without modules there is no epoch either: the cache may hold rules of libraries that are gone.
        (*scratch).cache = if index < cache::TARGETS && (*scratch).modules != 0 {
            u64::from(index) * u64::from(cache::SIZE)
        } else {
            u64::MAX
        };
    }
}

/// The rule at `address`: that of an instruction in a call, or of one interrupted.
#[inline(always)]
pub(super) fn rule(scratch: *mut Scratch, address: u64) -> Rule {
    // SAFETY: as above; an entry of CACHE is one word, so it cannot tear.
    unsafe {
        let modules = (*scratch).modules;
        let base = (*scratch).cache;
        let (index, key) = cache::key(address, ModuleList(modules).epoch());
        if base != u64::MAX
            && let Some(entry) = CACHE.get_ptr_mut(base as u32 + index)
        {
            if let Some(rule) = cache::rule(entry.read_volatile(), key) {
                return Rule(rule);
            }
            let rule = find_rule(address, modules);
            if rule != NO_MODULE {
                entry.write_volatile(key | rule);
            }
            return Rule(rule);
        }
        Rule(find_rule(address, modules))
    }
}

/// Two binary searches. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_rule(address: u64, modules: u64) -> u64 {
    let Some(module) = module(address, ModuleList(modules)) else { return NO_MODULE };
    if module.first >= Module::NO_TABLE {
        return NO_FDE;
    }
    let pc = address.wrapping_sub(module.bias) as u32;
    let (mut low, mut high) = (module.first, module.first + module.rows);
    let mut best = u32::MAX;
    for _ in 0..ROW_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        let Some(row) = ROWS.get(middle) else { break };
        if row.pc <= pc {
            best = middle;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    match ROWS.get(best) {
        Some(row) => u64::from(row.rule()),
        None => NO_FDE,
    }
}

#[inline(always)]
fn module(address: u64, list: ModuleList) -> Option<&'static Module> {
    let (mut low, mut high) = (list.first(), list.first() + list.count());
    for _ in 0..MODULE_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        let module = MODULES.get(middle)?;
        if address < module.begin {
            high = middle;
        } else if address >= module.end {
            low = middle + 1;
        } else {
            return Some(module);
        }
    }
    None
}
