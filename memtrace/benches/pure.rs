//! The parts that need no kernel: tables of unwind rows, and what a report does with the counts.
//! `cargo bench -p memtrace`.

use std::{hint::black_box, path::Path, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use memtrace::internals::{
    Age, Aggregate, Amount, Detail, Dictionary, Estimate, Filter, Image, Kernel, Limits, Losses, Marks,
    Profile, Row, Selection, Subject, Table, Totals, join,
};
use memtrace_common::Sample;

fn main() {
    divan::main();
}

/// The C library of this machine.
fn libc() -> Option<Image> {
    ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"]
        .iter()
        .find_map(|path| Image::open(Path::new(path)).ok())
}

/// Every row of the C library, from its `.eh_frame`.
#[divan::bench]
fn unwind_table_of_libc(bencher: Bencher<'_, '_>) {
    let Some(image) = libc() else { return };
    bencher.bench(|| {
        Table::build(&image, Limits::within(Duration::from_secs(10))).map(|table| table.rows().len())
    });
}

fn stacks(count: u64) -> Vec<Totals> {
    (0..count)
        .map(|number| {
            let allocated = Amount { bytes: number * 7919 % 65_521, blocks: number % 97 + 1 };
            Totals {
                slot: number as u32,
                id: number.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                target: 0,
                allocated,
                freed: Amount { bytes: allocated.bytes / 3, blocks: allocated.blocks / 3 },
                oldest: Age { age: Duration::from_millis(number), exact: true },
            }
        })
        .collect()
}

/// From totals to a growth, as every report does.
#[divan::bench(args = [1_000, 10_000, 65_536])]
fn advance(bencher: Bencher<'_, '_>, count: u64) {
    let stacks = stacks(count);
    let mut aggregate = Aggregate::default();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let joined = join(stacks.iter().copied());
        aggregate.advance(Duration::from_secs(1), joined, None, false).0.len()
    });
}

/// A profile with a row for each of some totals.
fn profile(count: u64) -> Profile {
    let row = |stack: Totals| Row {
        id: stack.id,
        stack: None,
        outstanding: stack.outstanding(),
        allocated: stack.allocated,
        freed: stack.freed,
        bytes_per_second: 0.0,
        oldest: stack.oldest,
        incomplete: None,
        leaked: None,
        held_by: Vec::new(),
        blocks: Vec::new(),
        detail: Detail::Process { pid: 1, uncertainty: None },
        verdict: None,
        merged: None,
    };
    Profile {
        time: jiff::Timestamp::UNIX_EPOCH,
        elapsed: Duration::from_secs(1),
        last: false,
        subject: Subject::Kernel(Kernel::default()),
        filter: Filter::default(),
        outstanding: Amount::default(),
        bytes_per_second: 0.0,
        unknown_frees: 0,
        rows: stacks(count).into_iter().map(row).collect(),
        losses: Losses::default(),
        remarks: Vec::new(),
        marks: Marks::default(),
    }
}

/// The rows that a report shows.
#[divan::bench(args = [1_000, 10_000, 65_536])]
fn select_ten(bencher: Bencher<'_, '_>, count: u64) {
    let (profile, dictionary) = (profile(count), Dictionary::default());
    let selection = Selection { top: 10, ..Selection::default() };
    bencher.counter(ItemsCount::new(count)).bench_local(|| selection.shown(&dictionary, &profile));
}

/// What a report does with each block that was sampled.
#[divan::bench(args = [100_000])]
fn estimate_blocks(bencher: Bencher<'_, '_>, count: u64) {
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let mut estimate = Estimate::default();
        for number in 0..count {
            estimate.add(black_box(Sample::new(number % 5000, 19)));
        }
        estimate.uncertainty()
    });
}
