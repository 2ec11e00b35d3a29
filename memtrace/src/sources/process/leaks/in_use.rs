//! Who holds blocks of a process that is traced in windows. What was allocated in gaps is not in the table, so ways through it are
//! found by a census, in a scan of its own: the window need not stay open for that.

use rustc_hash::FxHashMap;

use super::{
    job::{Job, Tools},
    owners::{self, Sampled},
    pass::{Free, Pass},
    registers,
    worker::Signals,
};
use crate::{
    heap::{Holders, How},
    profile::Holder,
    sources::process::census,
};

/// The holders of blocks that are still in use, by slot of the stack.
///
/// # Errors
/// There is no census, or it was cut short, or the memory cannot be read.
pub(super) fn holders(
    job: &Job,
    tools: &Tools,
    signals: &Signals,
) -> anyhow::Result<FxHashMap<u32, Vec<Holder>>> {
    let (census, blocks) = census::collect(job.pid, None)?;
    let pass = Pass {
        pid: job.pid,
        threads: registers::running(tools.registers.as_ref(), job.pid),
        how: How { unaligned: job.unaligned, holders: Holders::Paths, others: false, young: true },
        free: Free::Ranges(census.allocator, census.own),
        rate: job.rate,
        limit: job.limit,
        stop: &signals.stop,
    };
    let scanned = pass.run(blocks)?;
    let marked = &scanned.marked;
    let mut sampled = Sampled::new(&job.stacks);
    tools.live.for_each(job.target, |block| {
        // An earlier one may have been freed in a gap, and its address handed out again.
        let is_watched = block.time >= job.watched_since;
        let number = marked.blocks().beginning_at(block.address).filter(|_| is_watched);
        let is_it = |number: &u32| marked.blocks().size(*number) >= block.sample.size();
        if let Some(number) = number.filter(is_it).filter(|number| !marked.is_lost(*number)) {
            sampled.add(block.slot, number);
        }
    })?;
    Ok(owners::holders(job.pid, &sampled, marked, &scanned.words, scanned.regions, &tools.files))
}
