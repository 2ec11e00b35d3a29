//! The parts that need no kernel: tables of unwind rows, and what a report does with the counts.
//! `cargo bench -p memtrace`.

use std::{hint::black_box, path::Path, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use memtrace::{
    aggregate::{Aggregate, Estimate, Totals},
    analysis::{SortBy, rank},
    elf::Image,
    model::{Age, Amount},
    unwind::{Limits, Table},
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

/// From totals to a ranking, as every report does.
#[divan::bench(args = [1_000, 10_000, 65_536])]
fn rank_stacks(bencher: Bencher<'_, '_>, count: u64) {
    let stacks = stacks(count);
    let mut aggregate = Aggregate::default();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let joined = memtrace::aggregate::join(stacks.iter().copied());
        let (mut grown, _) = aggregate.advance(Duration::from_secs(1), joined, None, false);
        rank(&mut grown, SortBy::Bytes);
        grown.len()
    });
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
