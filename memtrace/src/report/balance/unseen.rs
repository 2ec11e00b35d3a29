//! Growth that no call shows.

use super::{WORTH, signed_bytes};
use crate::profile::units::{format_age, format_bytes, format_count};
use crate::profile::{Balance, Standing, Uncounted};

/// The part of unexplained growth from which on its reason is known.
const FILLED: f64 = 0.5;

/// What grows and is no block, no mapping and not kept by the allocator.
pub(super) fn unseen(balance: &Balance) -> String {
    let Balance { grown, filled, pid, .. } = balance;
    let (total, unexplained) = (signed_bytes(grown.total), signed_bytes(grown.unexplained));
    if balance.is_of_page_tables() {
        let what = format!(
            "PAGE TABLES: they grew by {} in {}, the process itself by {total}: memory is used here and there in {} of address space",
            signed_bytes(balance.page_tables_grown as f64),
            format_age(balance.span),
            format_bytes(balance.resident.size)
        );
        return match balance.ended {
            None => format!("{what}; `memtrace kernel --pid {pid} --pages` shows by which code"),
            Some(_) => what,
        };
    }
    if let Some(uncounted) = balance.uncounted {
        let why = match uncounted {
            Uncounted::Sizes => {
                "blocks of sizes that the filter leaves out: without --min-size and --max-size they are counted"
                    .to_owned()
            }
            Uncounted::TableFull(untracked) => format!(
                "the table of live blocks was full for {} in {}: a larger --max-live has room for them, --sample 64KiB needs less",
                format_bytes(untracked.bytes),
                format_count(untracked.blocks, "block")
            ),
        };
        return format!(
            "NOT COUNTED: the process grew by {total}, of which {unexplained} are in no block that is counted; {why}"
        );
    }
    if *filled as f64 >= FILLED * grown.unexplained {
        return format!(
            "UNSEEN: the process grew by {total}, {} of that in memory that it had mapped or allocated before tracing began and has used \
             only since, which takes no call",
            format_bytes(*filled)
        );
    }
    let what = format!(
        "UNSEEN: the process grew by {total}, of which {unexplained} are no blocks, no mappings and not what its allocator keeps: bare \
         system calls, code that is not traced, or memory from before tracing began that is used only now"
    );
    match balance.ended {
        None => format!(
            "{what}; `memtrace check --pid {pid}` lists what is traced, `perf trace -p {pid} -e mmap,mremap,brk` shows system calls"
        ),
        Some(_) => what,
    }
}

/// What page tables have gained, where that is not the verdict.
pub(super) fn page_tables(balance: &Balance) -> String {
    let grown = balance.page_tables_grown;
    let is_verdict = balance.standing == Standing::Unseen && balance.is_of_page_tables();
    if grown < WORTH || (grown as f64) < balance.grown.total / 10.0 || is_verdict {
        return String::new();
    }
    format!("; page tables grew by {} in addition", signed_bytes(grown as f64))
}
