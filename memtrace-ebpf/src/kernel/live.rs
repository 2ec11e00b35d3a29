//! The table of live objects.
//!
//! An object has one owner at a time: its allocation and its free do not race, nor do two of its frees. Claims of free
//! places do, between objects of one bucket.

use aya_ebpf::bindings::BPF_NOEXIST;
use memtrace_common::{OBJECTS_PER_BUCKET, ObjectBucket, object_bucket};

use crate::{
    atomic, config,
    maps::{LIVE, OVERFLOW},
};

/// What became of an object.
pub(crate) enum Inserted {
    /// It is in the table.
    New,
    /// It took the place of one whose free was not seen; that one's value.
    Instead(u64),
    /// There was no room.
    Full,
}

#[inline(always)]
fn bucket(key: u64) -> Option<*mut ObjectBucket> {
    LIVE.get_ptr_mut(object_bucket(key, config::BUCKET_MASK.load()))
}

/// Stores an object.
#[inline(always)]
pub(crate) fn insert(key: u64, value: u64) -> Inserted {
    let Some(bucket) = bucket(key) else { return Inserted::Full };
    // SAFETY: `bucket` points to a value of LIVE; indices are constants below the arrays' lengths.
    unsafe {
        for i in 0..OBJECTS_PER_BUCKET {
            if (&raw const (*bucket).keys[i]).read_volatile() == key {
                let place = &raw mut (*bucket).values[i];
                let missed = place.read_volatile();
                place.write_volatile(value);
                return Inserted::Instead(missed);
            }
        }
        if (&raw const (*bucket).overflowed).read_volatile() != 0
            && let Some(place) = OVERFLOW.get_ptr_mut(key)
        {
            let missed = place.read_volatile();
            place.write_volatile(value);
            return Inserted::Instead(missed);
        }
        for i in 0..OBJECTS_PER_BUCKET {
            let place = &raw mut (*bucket).keys[i];
            if place.read_volatile() == 0 && atomic::compare_exchange(place, 0, key | 1).is_ok() {
                (&raw mut (*bucket).values[i]).write_volatile(value);
                place.write_volatile(key);
                return Inserted::New;
            }
        }
        if OVERFLOW.insert(key, value, u64::from(BPF_NOEXIST)).is_ok() {
            atomic::add(&raw mut (*bucket).overflowed, 1);
            return Inserted::New;
        }
    }
    Inserted::Full
}

/// Removes an object and says what its value was; 0 when it is not in the table.
#[inline(always)]
pub(crate) fn take(key: u64) -> u64 {
    let Some(bucket) = bucket(key) else { return 0 };
    // SAFETY: as in `insert`.
    unsafe {
        for i in 0..OBJECTS_PER_BUCKET {
            let place = &raw mut (*bucket).keys[i];
            if place.read_volatile() == key {
                let value = (&raw const (*bucket).values[i]).read_volatile();
                place.write_volatile(0);
                return value;
            }
        }
        if (&raw const (*bucket).overflowed).read_volatile() == 0 {
            return 0;
        }
        let Some(value) = OVERFLOW.get_ptr(key).map(|place| place.read_volatile()) else { return 0 };
        if OVERFLOW.remove(key).is_err() {
            return 0;
        }
        atomic::add(&raw mut (*bucket).overflowed, u64::MAX);
        value
    }
}

/// The value of an object; 0 when it is not in the table.
#[inline(always)]
pub(crate) fn peek(key: u64) -> u64 {
    let Some(bucket) = bucket(key) else { return 0 };
    // SAFETY: as in `insert`.
    unsafe {
        for i in 0..OBJECTS_PER_BUCKET {
            if (&raw const (*bucket).keys[i]).read_volatile() == key {
                return (&raw const (*bucket).values[i]).read_volatile();
            }
        }
        if (&raw const (*bucket).overflowed).read_volatile() == 0 {
            return 0;
        }
        OVERFLOW.get_ptr(key).map_or(0, |place| place.read_volatile())
    }
}
