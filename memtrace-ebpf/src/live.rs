//! The table of live blocks.
//!
//! Two threads never work on the same block at once unless the target frees it twice; the compare-and-swaps
//! make that harmless too. Claims of free places do race, between blocks of one bucket.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_NOEXIST;
use memtrace_common::{
    BLOCKS_PER_BUCKET, Block, Bucket, Counter, STACK_TABLE_FULL, Sample, bucket_index, is_of_generation,
    live_target,
};

use crate::{
    atomic, config,
    maps::{LIVE, OVERFLOW, TARGETS, count},
    stacks,
};

#[inline(always)]
fn bucket(key: u64) -> Option<*mut Bucket> {
    LIVE.get_ptr_mut(bucket_index(key, config::BUCKET_MASK.load()))
}

/// Stores a block; `false` when there is no room. A block already there is one whose free was not seen: it
/// is taken off its stack and replaced. By a call, for callers that are rare.
#[inline(always)]
pub(crate) fn insert(key: u64, block: Block) -> bool {
    live_insert(key, block.sample.0, u64::from(block.stack) | u64::from(block.time) << 32) != 0
}

/// The same without a call, which costs as much as the rest.
#[inline(always)]
pub(crate) fn insert_here(key: u64, block: Block) -> bool {
    config::without(config::LIVE) || try_insert(key, block)
}

/// Global function: verified once. `rest`: stack in the lower, time in the upper half.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn live_insert(key: u64, sample: u64, rest: u64) -> u64 {
    u64::from(try_insert(
        key,
        Block { sample: Sample(sample), stack: rest as u32, time: (rest >> 32) as u32 },
    ))
}

#[inline(always)]
fn try_insert(key: u64, block: Block) -> bool {
    let Some(bucket) = bucket(key) else { return false };
    // SAFETY: `bucket` points to a value of LIVE; indices are constants below the arrays' lengths.
    unsafe {
        for i in 0..BLOCKS_PER_BUCKET {
            if (&raw const (*bucket).keys[i]).read_volatile() == key {
                let place = &raw mut (*bucket).blocks[i];
                let missed = place.read_volatile();
                place.write_volatile(block);
                replaced(missed, block);
                return true;
            }
        }
        if (&raw const (*bucket).overflowed).read_volatile() != 0
            && let Some(place) = OVERFLOW.get_ptr_mut(key)
        {
            let missed = place.read_volatile();
            place.write_volatile(block);
            replaced(missed, block);
            return true;
        }
        for i in 0..BLOCKS_PER_BUCKET {
            let place = &raw mut (*bucket).keys[i];
            if place.read_volatile() == 0 && atomic::compare_exchange(place, 0, key | 1).is_ok() {
                (&raw mut (*bucket).blocks[i]).write_volatile(block);
                place.write_volatile(key);
                return true;
            }
        }
    }
    live_insert_full(key, block.sample.0, u64::from(block.stack) | u64::from(block.time) << 32) != 0
}

/// Stores a block whose bucket has no free place: in that of a block of a program that its process does not run any more
/// (the agent clears those after an `execve`, but the new program allocates meanwhile), else in the overflow map. Global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn live_insert_full(key: u64, sample: u64, rest: u64) -> u64 {
    let Some(bucket) = bucket(key) else { return 0 };
    let block = Block { sample: Sample(sample), stack: rest as u32, time: (rest >> 32) as u32 };
    // SAFETY: as in `try_insert`.
    unsafe {
        for i in 0..BLOCKS_PER_BUCKET {
            let place = &raw mut (*bucket).keys[i];
            let found = place.read_volatile();
            if is_left_behind(found) && atomic::compare_exchange(place, found, key | 1).is_ok() {
                (&raw mut (*bucket).blocks[i]).write_volatile(block);
                place.write_volatile(key);
                return 1;
            }
        }
        if OVERFLOW.insert(key, block, u64::from(BPF_NOEXIST)).is_ok() {
            atomic::add(&raw mut (*bucket).overflowed, 1);
            return 1;
        }
    }
    0
}

/// Whether a key is of a block of a program that ran in its process before the present one.
#[inline(always)]
fn is_left_behind(key: u64) -> bool {
    if key == 0 || key & 1 != 0 {
        return false;
    }
    // SAFETY: points to a value of TARGETS.
    TARGETS.get_ptr(live_target(key)).is_some_and(|target| unsafe {
        !is_of_generation(key, (&raw const (*target).generation).read_volatile())
    })
}

#[inline(always)]
fn replaced(missed: Block, by: Block) {
    live_replaced(missed.sample.0, u64::from(missed.stack) | u64::from(missed.time) << 32, by.stack);
}

/// Takes note of a block whose free was not seen. A block of the program 256 `execve`s ago has the
/// same key; its stack identifies it, and it ended with its program. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn live_replaced(sample: u64, rest: u64, by: u32) -> u64 {
    let missed = Block { sample: Sample(sample), stack: rest as u32, time: (rest >> 32) as u32 };
    if stacks::are_of_two_programs(missed.stack, by) {
        return 0;
    }
    count(Counter::MissedFrees, 1);
    stacks::subtract(missed);
    1
}

/// Removes a block and says what it was. Its record is read before the key is given up. By a call, for callers that
/// are rare.
#[inline(always)]
pub(crate) fn take(key: u64) -> Option<Block> {
    let mut block = MaybeUninit::<Block>::uninit();
    // SAFETY: written as a whole: two words. Volatile, or LLVM leaves out what the callee does not read, and verifiers
    // before Linux 6.3 refuse a call with memory that is not initialized.
    unsafe {
        for word in 0..size_of::<Block>() / 8 {
            block.as_mut_ptr().cast::<u64>().add(word).write_volatile(0);
        }
        if live_take(key, block.as_mut_ptr()) == 0 { None } else { Some(block.assume_init()) }
    }
}

/// The same without a call.
#[inline(always)]
pub(crate) fn take_here(key: u64) -> Option<Block> {
    if config::without(config::LIVE) {
        return Some(Block { sample: Sample(0), stack: STACK_TABLE_FULL, time: 0 });
    }
    try_take(key)
}

/// Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn live_take(key: u64, block: *mut Block) -> u64 {
    if block.is_null() {
        return 0;
    }
    match try_take(key) {
        // SAFETY: not null, and the verifier knows its size.
        Some(taken) => unsafe {
            *block = taken;
            1
        },
        None => 0,
    }
}

#[inline(always)]
fn try_take(key: u64) -> Option<Block> {
    let bucket = bucket(key)?;
    // SAFETY: as in `insert`.
    unsafe {
        for i in 0..BLOCKS_PER_BUCKET {
            let place = &raw mut (*bucket).keys[i];
            if place.read_volatile() == key {
                let block = (&raw const (*bucket).blocks[i]).read_volatile();
                return if atomic::compare_exchange(place, key, 0).is_ok() { Some(block) } else { None };
            }
        }
        if (&raw const (*bucket).overflowed).read_volatile() == 0 {
            return None;
        }
        let block = OVERFLOW.get_ptr(key)?.read_volatile();
        if OVERFLOW.remove(key).is_err() {
            return None;
        }
        atomic::add(&raw mut (*bucket).overflowed, u64::MAX);
        Some(block)
    }
}
