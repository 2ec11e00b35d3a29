//! Sentences for the reader: what this kernel does not show.

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

/// The line about frees that nobody announced.
pub(super) fn of_phantoms(caches: &[CacheRow]) -> Option<String> {
    let named = named(caches, |cache| cache.phantoms, |cache| cache.tracked.blocks)?;
    Some(format!(
        "some frees are not announced by this kernel (kfree_rcu, in bulk): {named} were found to be free, and are left out"
    ))
}

/// The line about objects that cannot be looked up, if they matter.
pub(super) fn of_unverified(caches: &[CacheRow]) -> Option<String> {
    let sum = |number: fn(&CacheRow) -> u64| caches.iter().map(number).sum::<u64>();
    let unverified = sum(|cache| cache.unverified);
    if unverified.saturating_mul(UNVERIFIED_PART) < sum(|cache| cache.outstanding.blocks) {
        return None;
    }
    let named = named(caches, |cache| cache.unverified, |cache| cache.outstanding.blocks)?;
    Some(format!(
        "whether they are there still cannot be told one by one of {named}: how many are is what /proc/slabinfo lets them be"
    ))
}

/// Caches of which a number is not 0, with that number, out of another: the largest first.
fn named(
    caches: &[CacheRow],
    number: impl Fn(&CacheRow) -> u64,
    all: impl Fn(&CacheRow) -> u64,
) -> Option<String> {
    let mut found: Vec<&CacheRow> =
        caches.iter().filter(|cache| cache.cache.is_some() && number(cache) > 0).collect();
    found.sort_by_key(|cache| std::cmp::Reverse(number(cache)));
    let one = |cache: &&CacheRow| {
        let name = cache.cache.as_deref().unwrap_or(cache.kind);
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
