//! What the programs did not see, by their own counters and the kernel's.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::programs::{Program, RawTracePoint, UProbe};
use memtrace_common::Counter;

use super::tracer::Tracer;
use crate::bpf::shared::syscall;
use crate::profile::Losses;

impl Tracer {
    /// What was lost so far; incomplete stacks and mapped ranges are not the kernel side's to count. `ended`: every target has
    /// exited, so that calls in flight on threads that ended are no loss.
    #[must_use]
    pub fn losses(&self, ended: bool) -> Losses {
        let sum = |counter: Counter| {
            self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum::<u64>())
        };
        Losses {
            live_map_full: sum(Counter::LiveMapFull),
            live_map_full_bytes: sum(Counter::LiveMapFullBytes),
            in_flight_lost: sum(Counter::InFlightLost)
                + sum(Counter::ResultUnreadable)
                + if ended { 0 } else { sum(Counter::InFlightAtExit) },
            ring_full: sum(Counter::RingFull),
            no_walk_slot: sum(Counter::NoWalkSlot),
            no_thread_slot: sum(Counter::NoThreadSlot),
            stack_table_full: sum(Counter::StackTableFull),
            missed_frees: sum(Counter::MissedFrees),
            kernel_missed: self.recursion_misses(),
            names_given_up: 0,
            children_not_traced: sum(Counter::Forks),
            ..Losses::default()
        }
    }

    fn recursion_misses(&self) -> u64 {
        let missed = |fd: BorrowedFd<'_>| syscall::program_info(fd).map_or(0, |info| info.recursion_misses);
        let probes: u64 = self.programs.loaded().map(|program| missed(program.fd.as_fd())).sum();
        let loaded: u64 = self
            .ebpf
            .programs()
            .filter_map(|(_, program)| match program {
                Program::UProbe(probe) => UProbe::fd(probe).ok(),
                Program::RawTracePoint(point) => RawTracePoint::fd(point).ok(),
                _ => None,
            })
            .map(|fd| missed(fd.as_fd()))
            .sum();
        probes + loaded
    }
}
