mod windows;

use std::time::Duration;

use super::{Bound, Circumstances, Measure, Sample, balance, weights};
use crate::profile::{
    Amount, Balance, Course, Knowledge, LimitKind, Resident, Standing, ThreadStacks, Uncounted,
};

const MB: u64 = 1 << 20;

/// A sample a second of what a program does.
fn traced(seconds: u64, of: &Circumstances, sample: impl Fn(u64) -> Sample) -> Balance {
    let samples: Vec<_> = (0..=seconds).map(|second| (Duration::from_secs(second), sample(second))).collect();
    let seen = |(at, sample): (Duration, Sample)| {
        let seen = if sample.seen == Duration::ZERO { at } else { sample.seen };
        (at, Sample { seen, ..sample })
    };
    let samples: Vec<_> = samples.into_iter().map(seen).collect();
    let peak = samples.iter().map(|(_, sample)| sample.blocks.bytes).max().unwrap_or_default();
    let of = Circumstances { peak, ..of.clone() };
    let found = balance(&samples, &of);
    Balance { weights: weights(&samples, &of, &found.grown), ..found }
}

fn anon(bytes: u64) -> Resident {
    Resident { anon: 20 * MB + bytes, file: 5 * MB, size: 100 * MB + bytes, ..Resident::default() }
}

fn blocks(bytes: u64) -> Amount {
    Amount { bytes, blocks: bytes / 1000 }
}

/// That parts add up.
fn sum(balance: &Balance) -> (f64, f64) {
    let add = |of: &crate::profile::Parts| {
        of.blocks + of.mapped + of.stacks + of.kept + of.shared + of.unexplained - of.total
    };
    (add(&balance.grown).abs(), add(&balance.rate).abs())
}

#[test]
fn live_blocks_that_keep_growing_are_a_leak() {
    let found = traced(60, &Circumstances::default(), |second| Sample {
        resident: anon(second * MB),
        blocks: blocks(second * 1_000_000),
        ..Sample::default()
    });
    assert_eq!((found.standing, found.course), (Standing::Leak, Course::Growing));
    assert!(
        (found.rate.total - MB as f64).abs() < 1000.0 && found.rate.blocks > 0.9 * MB as f64,
        "{found:?}"
    );
    assert!(sum(&found).0 < 1.0 && sum(&found).1 < 1.0, "{found:?}");
}

/// Blocks that are not counted look like what an allocator keeps.
#[test]
fn nothing_is_said_of_an_allocator_whose_blocks_are_not_all_counted() {
    let of = |uncounted| {
        let of = Circumstances { uncounted, heap_grown: Some(600 << 20), ..Circumstances::default() };
        traced(60, &of, |second| Sample {
            resident: anon(second * 10 * MB),
            blocks: blocks((second * 10).min(100) * 1_000_000),
            ..Sample::default()
        })
    };
    let untracked = Amount { bytes: 500_000_000, blocks: 500_000 };
    for uncounted in [Uncounted::Sizes, Uncounted::TableFull(untracked)] {
        let found = of(Some(uncounted));
        assert_eq!((found.standing, found.course), (Standing::Unseen, Course::Growing), "{found:?}");
        assert!(found.grown.kept < MB as f64 && found.grown.unexplained > 400.0 * MB as f64, "{found:?}");
    }
    assert_eq!(of(None).standing, Standing::KeptByAllocator);
}

#[test]
fn the_memory_over_time_ends_in_the_growth_and_its_parts_always_add_up() {
    // Twice as much as blocks explain, and a file that is let go.
    let figures = |second| Sample {
        resident: Resident { file: (60 - second) * MB, ..anon(second * 3 * MB) },
        blocks: blocks(second * MB),
        mapped: second * MB / 2,
        ..Sample::default()
    };
    for knowledge in [Knowledge::Counted, Knowledge::AtMost] {
        let of = Circumstances { knowledge, ..Circumstances::default() };
        let found = traced(60, &of, figures);
        assert_eq!(found.weights.len(), 61);
        let (first, last) = (found.weights[0], found.weights[60]);
        assert_eq!(
            (first.bytes, first.grown, first.at),
            (80 * MB, crate::profile::Parts::default(), Duration::ZERO)
        );
        assert_eq!((last.bytes, last.at), (200 * MB, Duration::from_secs(60)));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1.0, "{a} {b}: {found:?}");
        near(last.grown.blocks, found.grown.blocks);
        near(last.grown.kept, found.grown.kept);
        near(last.grown.unexplained, found.grown.unexplained);
        assert!(
            found.grown.kept > MB as f64 && found.grown.unexplained > MB as f64
                || knowledge == Knowledge::AtMost
        );
        for weight in &found.weights {
            let of = &weight.grown;
            near(of.blocks + of.mapped + of.stacks + of.kept + of.shared + of.unexplained, of.total);
            near(of.total, weight.bytes as f64 - 80.0 * MB as f64);
        }
    }
    assert_eq!(weights(&[], &Circumstances::default(), &crate::profile::Parts::default()), []);
}

#[test]
fn stacks_that_leak_are_a_leak_whatever_memory_does() {
    let growing = blocks(6_000_000);
    let leaking = Circumstances { leaking: 100_000.0, growing, ..Circumstances::default() };
    let flat = |_| Sample { resident: anon(MB), blocks: blocks(MB), ..Sample::default() };
    assert_eq!(traced(60, &Circumstances::default(), flat).standing, Standing::NoLeak);
    assert_eq!(traced(60, &leaking, flat).standing, Standing::Leak);
    // However fast they grow, as far as that is known, and before memory tells anything.
    let unknown = Circumstances { leaking: 0.0, ..leaking.clone() };
    assert_eq!(traced(60, &unknown, flat).standing, Standing::Leak);
    assert_eq!(traced(5, &unknown, flat).standing, Standing::Leak);
    let files = |second: u64| Sample {
        resident: Resident { file: (5 + second) * MB, ..anon(0) },
        ..Sample::default()
    };
    assert_eq!(traced(60, &Circumstances::default(), files).standing, Standing::NoLeak);
    assert_eq!(traced(60, &leaking, files).standing, Standing::Leak);
    // A garbage collector, which gives back more than the leak adds.
    let collected = |second: u64| {
        let waste = (second % 12) * MB / 2;
        Sample {
            resident: anon(8 * MB + second * MB / 10),
            blocks: blocks(waste + second * 100_000),
            ..Sample::default()
        }
    };
    assert_eq!(traced(60, &leaking, collected).standing, Standing::Leak);
    // What grows much faster is the verdict.
    let mapped = |second: u64| Sample {
        resident: anon(second * MB),
        mapped: second * MB,
        mapped_ranges: Amount { bytes: second * MB, blocks: second },
        ..Sample::default()
    };
    assert_eq!(traced(60, &leaking, mapped).standing, Standing::Mappings);
}

#[test]
fn what_the_allocator_gets_back_is_no_growth() {
    // It freed 30 MiB, gave back 25, and takes them again.
    let found = traced(60, &Circumstances::default(), |second| {
        let returned = if second < 30 { 25 * MB * second / 30 } else { 25 * MB * (60 - second) / 30 };
        Sample { resident: anon(30 * MB - returned), blocks: blocks(MB), ..Sample::default() }
    });
    assert_eq!(found.standing, Standing::NoLeak, "{found:?}");
}

#[test]
fn a_cache_that_fills_is_none() {
    let filled = |second: u64| 40 * MB - 40 * MB / (1 + second / 4);
    let found = traced(60, &Circumstances::default(), |second| Sample {
        resident: anon(filled(second)),
        blocks: blocks(filled(second)),
        ..Sample::default()
    });
    assert_eq!(found.standing, Standing::NoLeak, "{found:?}");
    let flat = traced(60, &Circumstances::default(), |second| Sample {
        resident: anon(second % 3 * 4096),
        blocks: blocks(second % 5 * 4096),
        ..Sample::default()
    });
    assert_eq!((flat.standing, flat.course, flat.rate.total), (Standing::NoLeak, Course::Flat, 0.0));
}

/// A vector that doubles whenever it is full: memory grows evenly as it is filled.
#[test]
fn a_buffer_that_doubles_is_a_leak_and_one_that_is_filled_is_none() {
    fn filled(second: u64, bytes: u64) -> Sample {
        Sample { resident: anon(second * MB), blocks: Amount { bytes, blocks: 1 }, ..Sample::default() }
    }
    let doubling = |second: u64| filled(second, (second + 1).next_power_of_two() * MB);
    let twice = |second: u64| filled(second, second.min(3) * 300 * MB);
    for seconds in 10..80 {
        let of = |sample: fn(u64) -> Sample| {
            let found = traced(seconds, &Circumstances::default(), sample);
            (found.standing, found.course)
        };
        assert_eq!(of(doubling), (Standing::Leak, Course::Growing), "{seconds}");
        assert_eq!(of(twice), (Standing::NoLeak, Course::Filling), "{seconds}");
    }
}

#[test]
fn page_tables_that_grow_where_nothing_else_does_are_no_flat_memory() {
    let of = |each: u64| {
        traced(30, &Circumstances::default(), |second| Sample {
            resident: Resident { page_tables: second * each, ..anon(0) },
            ..Sample::default()
        })
    };
    let found = of(MB);
    assert_eq!((found.standing, found.course), (Standing::Unseen, Course::Growing), "{found:?}");
    assert_eq!(of(4096).standing, Standing::NoLeak);
}

#[test]
fn what_the_allocator_keeps_is_no_leak() {
    let found = traced(40, &Circumstances::default(), |second| Sample {
        resident: anon(128 * MB * second.min(5) / 5),
        blocks: blocks(if second < 10 { 128 * MB * second.min(5) / 5 } else { 4096 }),
        ..Sample::default()
    });
    assert_eq!((found.standing, found.rate.total), (Standing::KeptByAllocator, 0.0), "{found:?}");
    assert!(found.grown.kept > 127.0 * MB as f64 && found.grown.unexplained == 0.0, "{found:?}");
}

#[test]
fn growth_beyond_what_it_can_keep_is_unseen_unless_it_is_in_heaps() {
    let sample = |second: u64| Sample { resident: anon(second * MB), ..Sample::default() };
    let found = traced(60, &Circumstances::default(), sample);
    assert_eq!(found.standing, Standing::Unseen, "{found:?}");
    assert!(found.grown.unexplained > 55.0 * MB as f64, "{found:?}");
    let in_heap = Circumstances { heap_grown: Some(60 * MB as i64), ..Circumstances::default() };
    assert_eq!(traced(60, &in_heap, sample).standing, Standing::KeptByAllocator);
}

/// Such as a large block that is filled.
#[test]
fn memory_from_before_that_is_used_later_is_not_kept() {
    let sample = |second: u64| Sample {
        resident: anon(second * MB),
        blocks: blocks(if second == 1 { 100 * MB } else { 0 }),
        ..Sample::default()
    };
    let found = traced(60, &Circumstances::default(), sample);
    assert_eq!((found.standing, found.filled), (Standing::KeptByAllocator, 0));
    let filling = Circumstances { filled: 55 * MB, ..Circumstances::default() };
    let found = traced(60, &filling, sample);
    assert_eq!((found.standing, found.filled), (Standing::Unseen, 55 * MB), "{found:?}");
    assert!(sum(&found).0 < 1.0 && sum(&found).1 < 1.0, "{found:?}");
}

#[test]
fn mappings_shared_memory_and_too_little_time() {
    let mapped = |second: u64| Sample {
        resident: anon(second * MB),
        mapped: second * MB,
        mapped_ranges: Amount { bytes: 4 * second * MB, blocks: second },
        ..Sample::default()
    };
    assert_eq!(traced(60, &Circumstances::default(), mapped).standing, Standing::Mappings);
    assert_eq!(traced(9, &Circumstances::default(), mapped).standing, Standing::TooEarly);
    // Address space that is never touched, of many calls; and of one.
    let reserved = |second: u64| Sample { resident: anon(0), mapped: 0, ..mapped(second) };
    assert_eq!(traced(60, &Circumstances::default(), reserved).standing, Standing::Mappings);
    let once = |_| Sample { mapped_ranges: Amount { bytes: 1500 * MB, blocks: 1 }, ..reserved(0) };
    assert_eq!(traced(60, &Circumstances::default(), once).standing, Standing::NoLeak);
    let shared =
        |second: u64| Sample { resident: Resident { shmem: second * MB, ..anon(0) }, ..Sample::default() };
    assert_eq!(traced(60, &Circumstances::default(), shared).standing, Standing::SharedMemory);
}

/// Every process of a container is in the cgroup whose tmpfs one of them fills.
#[test]
fn shared_memory_of_a_cgroup_is_of_who_writes() {
    let standing = |written: fn(u64) -> Option<u64>| {
        let sample = |second: u64| Sample {
            resident: anon(0),
            cgroup: [second * MB, 0, 0],
            written: written(second),
            ..Sample::default()
        };
        traced(60, &Circumstances::default(), sample).standing
    };
    assert_eq!(standing(|second| Some((7 + second) * MB)), Standing::SharedMemory);
    assert_eq!(standing(|second| Some(7 * MB + second)), Standing::NoLeak);
    assert_eq!(standing(|_| None), Standing::SharedMemory);
}

#[test]
fn what_a_verdict_still_needs_is_known() {
    let every = |apart: u64, number: u64| {
        let at = |place| (Duration::from_secs(apart * place), Sample::default());
        let samples: Vec<_> = (0..number).map(at).collect();
        let found = balance(&samples, &Circumstances::default());
        (found.lacks.as_secs(), found.standing == Standing::TooEarly)
    };
    assert_eq!([every(1, 1), every(1, 7), every(1, 11)], [(10, true), (4, true), (0, false)]);
    // Windows are further apart: time alone does not suffice.
    assert_eq!([every(4, 4), every(4, 8)], [(16, true), (0, false)]);
}

#[test]
fn ended_threads_that_were_not_joined() {
    let of = |ended, ended_bytes| Circumstances {
        stacks: ThreadStacks { count: 40, bytes: 400 * MB, ended, ended_bytes, unjoined: false },
        ..Circumstances::default()
    };
    let flat = |_| Sample { resident: anon(0), threads: 1, ..Sample::default() };
    assert_eq!(traced(30, &of(40, 400 * MB), flat).standing, Standing::Threads);
    // glibc keeps as many for the next threads.
    assert_eq!(traced(30, &of(4, 32 * MB), flat).standing, Standing::NoLeak);
    let growing =
        |second: u64| Sample { stack_ranges: Amount { bytes: second << 16, blocks: second }, ..flat(second) };
    assert_eq!(traced(30, &of(30, 2 * MB), growing).standing, Standing::Threads);
    // Where something else makes up most of what grows, that comes first.
    let mapping = |second: u64| Sample {
        resident: anon(second * MB),
        mapped: second * MB * 9 / 10,
        mapped_ranges: Amount { bytes: second * MB, blocks: second },
        ..growing(second)
    };
    let found = traced(30, &of(30, 2 * MB), mapping);
    assert_eq!((found.standing, found.stacks.unjoined), (Standing::Mappings, true));
}

#[test]
fn lost_blocks_are_a_leak_at_once() {
    let of = Circumstances { lost: 100, ..Circumstances::default() };
    let flat = |_| Sample { resident: anon(0), ..Sample::default() };
    assert_eq!(traced(3, &of, flat).standing, Standing::Leak);
    assert_eq!(traced(60, &of, flat).standing, Standing::Leak);
}

/// How fast blocks grew until then says nothing about what was left.
#[test]
fn of_a_process_that_has_ended_only_what_was_left_can_leak() {
    let of = |left| Circumstances { ended: Some(left), leaking: 1e6, ..Circumstances::default() };
    let growing = |second: u64| Sample {
        resident: anon(second * MB),
        blocks: blocks(second * 1_000_000),
        ..Sample::default()
    };
    let freed = traced(60, &of(Amount::default()), growing);
    assert_eq!(freed.standing, Standing::NoLeak, "{freed:?}");
    assert_eq!((freed.rate.total, freed.leaking), (0.0, 0.0), "what has ended does not grow");
    assert_eq!(traced(60, &of(blocks(5_000_000)), growing).standing, Standing::NoLeak);
    assert_eq!(traced(60, &of(blocks(60_000_000)), growing).standing, Standing::Leak);
    // However little it is that stacks have which grew.
    let few = Circumstances { growing: blocks(6000), ..of(blocks(6000)) };
    assert_eq!(traced(60, &few, growing).standing, Standing::Leak);
    // Without time to tell.
    assert_eq!(traced(5, &of(Amount::default()), growing).standing, Standing::NoLeak);
    assert_eq!(traced(5, &of(blocks(5_000_000)), growing).standing, Standing::TooEarly);
}

#[test]
fn a_limit_is_forecast_only_while_something_grows() {
    let bound = |kind, bytes, measure| Bound { kind, bytes, measure };
    let of = Circumstances {
        bounds: vec![
            bound(LimitKind::CgroupMax("/a".to_owned()), 200 * MB, Measure::Cgroup(0)),
            bound(LimitKind::Machine, 1000 * MB, Measure::Available),
        ],
        ..Circumstances::default()
    };
    let sample = |second: u64| Sample {
        resident: anon(second * MB),
        blocks: blocks(second * MB),
        held: [40 * MB + second * MB, 0, 0, 0],
        ..Sample::default()
    };
    let limit = traced(60, &of, sample).limit.unwrap();
    let seconds = limit.reached_in.unwrap().as_secs_f64();
    assert!(limit.kind == of.bounds[0].kind && (seconds - 100.0).abs() < 1.0, "{limit:?}");
    let flat = |_| sample(0);
    assert_eq!(traced(60, &of, flat).limit.unwrap().reached_in, None);
    let ended = Circumstances { ended: Some(blocks(60 * MB)), ..of.clone() };
    assert_eq!(traced(60, &ended, sample).limit.unwrap().reached_in, None);
}
