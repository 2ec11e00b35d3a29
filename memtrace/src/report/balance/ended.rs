//! The verdict on a process that has exited: what was outstanding then, and no rates.

use super::leaks::{likely, lost, places};
use super::unseen::unseen;
use super::{held, here, kept, signed_bytes, threads, too_early};
use crate::profile::units::{format_bytes, format_count};
use crate::profile::{Amount, Balance, Knowledge, Standing, View};
use crate::report::escape;

/// The verdict in one sentence. `left`: what was outstanding at its end.
pub(super) fn sentence(view: &View<'_>, balance: &Balance, left: Amount) -> String {
    match balance.standing {
        Standing::Leak => leak(view, balance, left),
        Standing::NoLeak => no_leak(balance, left),
        Standing::KeptByAllocator => kept(balance),
        Standing::Mappings => format!(
            "MAPPINGS: what the program mapped itself (mmap) grew by {}: {} of address space in {} before its end",
            signed_bytes(balance.grown.mapped),
            format_bytes(balance.mapped_size),
            format_count(balance.mapped_ranges, "range")
        ),
        Standing::Threads => format!("THREADS: {}", threads(view, balance)),
        Standing::SharedMemory => shared_memory(balance),
        Standing::Unseen => unseen(balance),
        Standing::TooEarly => {
            format!("{}; it has exited, with {} not freed", too_early(balance), held(left))
        }
    }
}

fn no_leak(balance: &Balance, left: Amount) -> String {
    let words = match (left.blocks, balance.knowledge) {
        (0, Knowledge::Counted) => ", and nothing that it allocated since the start was left".to_owned(),
        (0, _) => ", and nothing that it was seen to allocate was left".to_owned(),
        _ => format!(" with {} not freed, and no stack was seen to keep growing", held(left)),
    };
    format!("NO LEAK SEEN{}: it has exited{words}", here(balance))
}

fn leak(view: &View<'_>, balance: &Balance, left: Amount) -> String {
    let growing = balance.growing;
    let others = match balance.lost {
        0 if growing.blocks > 0 => {
            Some(format!("{} not freed by its end, of stacks that kept growing", held(growing)))
        }
        0 => {
            let (grown, left) = (signed_bytes(balance.grown.blocks), held(left));
            let seen = match balance.knowledge {
                Knowledge::Counted | Knowledge::Sampled => "",
                Knowledge::AtMost | Knowledge::Measured => " of those that were seen",
            };
            Some(format!("live blocks grew by {grown}, and {left}{seen} not freed by its end"))
        }
        _ => None,
    };
    let parts: Vec<String> = lost(balance).into_iter().chain(others).collect();
    format!("LEAK{}{}: {}", places(view, balance), likely(balance), parts.join("; "))
}

fn shared_memory(balance: &Balance) -> String {
    match &balance.cgroup {
        Some(cgroup) if balance.grown.shared <= 0.0 && cgroup.shmem > 0 => format!(
            "SHARED MEMORY: shared memory and tmpfs of its cgroup {} grew by {}, which are no blocks: `memtrace triage` tells \
             whose",
            escape(&cgroup.name),
            signed_bytes(cgroup.shmem as f64)
        ),
        _ => format!(
            "SHARED MEMORY: shared memory and tmpfs that the process had mapped grew, {} before its end",
            format_bytes(balance.resident.shmem)
        ),
    }
}
