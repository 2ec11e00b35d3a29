//! Sentences for the reader: what this kernel does not show.

use crate::{
    bpf::{KernelConfig, KernelTracer},
    kernel,
    model::{CacheRow, units::format_number},
};

/// Caches named in a sentence; of more, only their number is given.
const NAMED: usize = 4;

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
    let mut blind: Vec<&CacheRow> = caches.iter().filter(|cache| cache.phantoms > 0).collect();
    blind.sort_by_key(|cache| std::cmp::Reverse(cache.phantoms));
    let named: Vec<String> = blind
        .iter()
        .take(NAMED)
        .map(|cache| {
            format!(
                "{} of {} in {}",
                format_number(cache.phantoms),
                format_number(cache.tracked.blocks),
                cache.cache.as_deref().unwrap_or(cache.kind)
            )
        })
        .collect();
    let more = match blind.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and in {more} more caches"),
    };
    (!blind.is_empty()).then(|| {
        format!(
            "some frees are not announced by this kernel (kfree_rcu, in bulk): by /proc/slabinfo {}{more} are not there any \
             more, and are left out",
            named.join(", ")
        )
    })
}
