//! Memory that a program maps itself is counted apart from blocks, with what later calls cut out of it.

use memtrace_tests::{Agent, CSource, Report, can_trace, compile, fixture};

const MAPPING: CSource<'_> = CSource { file: "mapping.c", options: &["-O1", "-g"] };
const MB: u64 = 1 << 20;

/// What is reported of the program, with these options.
fn traced(options: &[&str]) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut target = fixture::start_path(compile(directory.path(), "mapping", MAPPING), &[]);
    let agent = Agent::attach(&[target.pid()], options);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!(target.finish().status, 0);
    report
}

#[test]
fn holes_growth_and_the_allocators_own_mappings() {
    if !can_trace() {
        return;
    }
    let report = traced(&[]);
    let mappings = report.mappings.as_ref().expect("no windows");
    let of = |function: &str| {
        let first = |name: &Option<String>| name.as_deref() == Some(function);
        let stacks = mappings.stacks.iter();
        stacks
            .filter(|stack| stack.frames.first().is_some_and(|frame| first(&frame.function)))
            .fold((0, 0), |(bytes, ranges), stack| (bytes + stack.bytes, ranges + stack.ranges))
    };
    assert_eq!(of("map_memory"), (8 * MB, 2), "{mappings:#?}");
    assert_eq!(of("remap_memory"), (3 * MB, 1), "{mappings:#?}");
    assert_eq!((mappings.bytes, mappings.ranges), (11 * MB, 3));
    // The block of 4 MB is the allocator's, though it has a mapping of its own.
    assert_eq!(report.outstanding.bytes, 4 * MB);
    assert_eq!(report.losses.in_flight_lost, 0);
}

/// Blocks that are filtered out by size still have mappings: these are not the program's.
#[test]
fn filtered_blocks_are_no_mappings() {
    if !can_trace() {
        return;
    }
    let report = traced(&["--min-size", "1GiB"]);
    let mappings = report.mappings.as_ref().expect("no windows");
    assert_eq!((mappings.bytes, mappings.ranges), (11 * MB, 3), "{mappings:#?}");
    assert_eq!(report.outstanding.blocks, 0);
}
