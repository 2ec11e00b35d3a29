//! The table of live objects.
//!
//! An object has one owner at a time: its allocation and its free do not race, nor do two of its frees. Claims of free
//! places do, between objects of one bucket, and the agent's evictions with allocations.

use aya_ebpf::bindings::BPF_NOEXIST;
use memtrace_common::{EVICTED, OBJECTS_PER_BUCKET, ObjectBucket, object_bucket};

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
                if let Some(missed) = replace(&raw mut (*bucket).values[i], value) {
                    return Inserted::Instead(missed);
                }
                break;
            }
        }
        if (&raw const (*bucket).overflowed).read_volatile() != 0
            && let Some(place) = OVERFLOW.get_ptr_mut(key)
        {
            if let Some(missed) = replace(place, value) {
                return Inserted::Instead(missed);
            }
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

/// Replaces a value, and says what it was; `None` when its place is being given up.
///
/// # Safety
/// `place` points to a value of a live object.
#[inline(always)]
unsafe fn replace(place: *mut u64, value: u64) -> Option<u64> {
    // SAFETY: by the contract above.
    unsafe {
        let missed = place.read_volatile();
        (missed != EVICTED && atomic::compare_exchange(place, missed, value).is_ok()).then_some(missed)
    }
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
        if value == EVICTED || OVERFLOW.remove(key).is_err() {
            return 0;
        }
        atomic::add(&raw mut (*bucket).overflowed, u64::MAX);
        value
    }
}

/// Takes an object out that was found to be free, unless its address was handed out again: then its value is another.
#[inline(always)]
pub(crate) fn evict(key: u64, value: u64) -> bool {
    let Some(bucket) = bucket(key) else { return false };
    // SAFETY: as in `insert`. Meanwhile nobody finds the key. Whoever found it before, to hand the address out, either has
    // replaced the value by now, and the object stays; or sees that the place is given up, and takes another.
    unsafe {
        for i in 0..OBJECTS_PER_BUCKET {
            let place = &raw mut (*bucket).keys[i];
            if place.read_volatile() == key && atomic::compare_exchange(place, key, key | 1).is_ok() {
                let is_out = atomic::compare_exchange(&raw mut (*bucket).values[i], value, EVICTED).is_ok();
                place.write_volatile(if is_out { 0 } else { key });
                return is_out;
            }
        }
        if let Some(place) = OVERFLOW.get_ptr_mut(key)
            && atomic::compare_exchange(place, value, EVICTED).is_ok()
            && OVERFLOW.remove(key).is_ok()
        {
            atomic::add(&raw mut (*bucket).overflowed, u64::MAX);
            return true;
        }
    }
    false
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
