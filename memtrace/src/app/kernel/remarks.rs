//! Sentences for the reader: what this kernel does not show.

use std::path::Path;

use super::super::followed::exited;
use crate::{
    bpf::{KernelConfig, KernelTracer},
    kernel,
    model::{
        CacheRow,
        units::{format_count, format_number},
    },
};

/// Caches named in a sentence; of more, only their number is given.
const NAMED: usize = 4;
/// Objects that cannot be looked up are mentioned if they are one in so many.
const UNVERIFIED_PART: u64 = 50;

/// What is known from the start.
pub(super) fn of_start(tracer: &KernelTracer, config: &KernelConfig) -> Vec<String> {
    let mut notes = Vec::new();
    for kind in tracer.unseen_kinds(config) {
        notes
            .push(format!("this kernel has no tracepoints for {} memory: none of it is traced", kind.name()));
    }
    if !tracer.knows_caches() {
        notes.push(
            "which cache kmalloc's objects lie in cannot be told on this kernel: they are not compared with /proc/slabinfo"
                .to_owned(),
        );
    }
    if tracer.knows_caches() && !tracer.examines_slabs() {
        notes.push(
            "this kernel's slabs cannot be looked through: objects whose free nobody announced are told by /proc/slabinfo alone"
                .to_owned(),
        );
    }
    if !kernel::shows_addresses() {
        notes.push(
            "the kernel hides its addresses (kernel.kptr_restrict): frames have no names; `sysctl kernel.kptr_restrict=1` shows \
             them to root"
                .to_owned(),
        );
    }
    if let Err(error) = kernel::slabs() {
        notes.push(format!(
            "/proc/slabinfo cannot be read ({error}): frees that no tracepoint announces go unnoticed"
        ));
    }
    notes
}

/// What reports say of the tasks they are about.
pub(super) fn of_tasks(pids: &[u32]) -> Option<String> {
    let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
    exited(&pids.iter().copied().filter(is_gone).collect::<Vec<_>>())
}

/// What reports say of frees that nobody announced.
pub(super) fn of_caches(caches: &[CacheRow]) -> Vec<String> {
    let found = named(caches, |cache| cache.phantoms - cache.by_number, |cache| cache.tracked.blocks);
    let by_number = named(caches, |cache| cache.by_number, |cache| cache.tracked.blocks);
    let sum = |number: fn(&CacheRow) -> u64| caches.iter().map(number).sum::<u64>();
    let is_much = sum(|cache| cache.unverified).saturating_mul(UNVERIFIED_PART) >= sum(kept);
    let unverified = named(caches, |cache| cache.unverified, kept).filter(|_| is_much);
    [
        found.map(|named| {
            format!("some frees are not announced by this kernel (kfree_rcu, in bulk): {named} were found to be free, and are left out")
        }),
        by_number.map(|named| {
            format!("by /proc/slabinfo {named} are not there any more, and are left out; too many, if older objects were freed unseen")
        }),
        unverified.map(|named| format!("it could not be looked up whether they are there still: {named}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Objects that are counted as outstanding, of whatever age.
fn kept(cache: &CacheRow) -> u64 {
    cache.tracked.blocks - cache.phantoms
}

/// Caches of which a number is not 0, with that number, out of another: the largest first.
fn named(
    caches: &[CacheRow],
    number: impl Fn(&CacheRow) -> u64,
    all: impl Fn(&CacheRow) -> u64,
) -> Option<String> {
    let mut found: Vec<&CacheRow> =
        caches.iter().filter(|cache| cache.kind == "slab" && number(cache) > 0).collect();
    found.sort_by_key(|cache| std::cmp::Reverse(number(cache)));
    let one = |cache: &&CacheRow| {
        let name = cache.cache.as_deref().unwrap_or("kmalloc without a cache");
        format!("{} of {} in {name}", format_number(number(cache)), format_number(all(cache)))
    };
    let mut named: Vec<String> = found.iter().take(NAMED).map(one).collect();
    let more = found.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("those in {}", format_count(more as u64, "more cache")));
    }
    let (last, others) = named.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) })
}
