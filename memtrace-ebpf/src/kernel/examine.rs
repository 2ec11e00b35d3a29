//! Looking tracked objects up on their slabs' lists of free objects: an object on one was freed, whether or not a tracepoint
//! announced it.
//!
//! The lists are SLUB's (mm/slub.c): one per slab, and one per cache and CPU for the slab that the CPU allocates from.
//! They change while they are walked, so a walk counts only if the list was the same before and after: a slab's
//! counters, a CPU's transaction number. `kfree`'s tracepoint comes before an object is on a list, so one that is on a list
//! and still tracked *then* was freed unseen.
//!
//! The agent runs these programs; they are attached to nothing.

use aya_ebpf::{
    helpers::generated::bpf_map_lookup_percpu_elem, macros::raw_tracepoint, programs::RawTracePointContext,
};
use memtrace_common::{EVICTED_AT_ONCE, EXAMINED_AT_ONCE, Examination, MOST_FREE, NO_CACHE, Phantom};

use crate::{
    caches::{self, word},
    config, cursor, live,
    maps::{COUNTERS, EXAMINATION, PHANTOMS},
    sheaves, stacks,
};

/// How many times a list that changes meanwhile is walked.
const TRIES: usize = 3;

/// Handles the requests one by one until there are no more.
#[inline(always)]
fn work<const MOST: usize>(state: *mut Examination, next: impl Fn(*mut Examination) -> u64) -> i32 {
    for _ in 0..MOST {
        if next(state) == 0 {
            break;
        }
    }
    0
}

/// The slabs of the requested pages.
#[raw_tracepoint]
pub(crate) fn examine_slabs(_: RawTracePointContext) -> i32 {
    EXAMINATION.get_ptr_mut(0).map_or(0, |state| work::<EXAMINED_AT_ONCE>(state, |state| slab_examine(state)))
}

/// One CPU's lists of the requested caches.
#[raw_tracepoint]
pub(crate) fn examine_cpu(_: RawTracePointContext) -> i32 {
    let Some(state) = EXAMINATION.get_ptr_mut(0) else { return 0 };
    // SAFETY: points to the value of EXAMINATION. The map's pointers go through memory: the verifier allows no arithmetic
    // with them.
    unsafe {
        // The address of a map's per-CPU value gives the offset of every per-CPU pointer.
        let counters = (&raw const COUNTERS).cast_mut();
        let (key, cpu) = (0u32, (*state).place as u32);
        let value = bpf_map_lookup_percpu_elem(counters.cast(), (&raw const key).cast(), cpu);
        (&raw mut (*state).offset).write_volatile(value as u64);
        (&raw mut (*state).list).write_volatile(counters as u64);
        let map = (&raw const (*state).list).read_volatile();
        let pointer = word(map.wrapping_add(config::ARRAY_POINTERS.load()));
        if value.is_null() || pointer == 0 {
            return 0;
        }
        (*state).offset = (&raw const (*state).offset).read_volatile().wrapping_sub(pointer);
    }
    work::<EXAMINED_AT_ONCE>(state, |state| cpu_examine(state))
}

/// One node's full sheaves of the requested caches.
#[raw_tracepoint]
pub(crate) fn examine_node(_: RawTracePointContext) -> i32 {
    EXAMINATION.get_ptr_mut(0).map_or(0, |state| work::<EXAMINED_AT_ONCE>(state, |state| node_examine(state)))
}

/// Takes objects out of the table of live objects.
#[raw_tracepoint]
pub(crate) fn evict(_: RawTracePointContext) -> i32 {
    EXAMINATION.get_ptr_mut(0).map_or(0, |state| work::<EVICTED_AT_ONCE>(state, |state| evict_next(state)))
}

/// Takes the next object out. 0 at the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evict_next(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; `place` points to a value of PHANTOMS.
    unsafe {
        let done = (*state).done;
        if done >= (*state).requests {
            return 0;
        }
        (*state).done = done + 1;
        if let Some(place) = PHANTOMS.get_ptr_mut(done as u32) {
            let Phantom { key, value } = *place;
            if live::evict(key, value) {
                stacks::evict(value as u32);
            }
        }
    }
    1
}

/// Walks the list of the next page's slab, unless it is the previous one's. 0 at the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn slab_examine(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let address = cursor::request(state);
        if address == 0 {
            return 0;
        }
        if address >= (*state).start && address < (*state).end {
            return 1;
        }
        let page = caches::page(address);
        let cache = caches::of_page(page);
        (*state).start = address;
        (*state).end = address + 4096;
        (*state).cache = 0;
        if caches::known(cache) == NO_CACHE {
            cursor::end(state, true);
            return 1;
        }
        cursor::begin(state, cache);
        (*state).start = caches::address(page);
        (*state).list = page;
        let mut is_whole = false;
        for _ in 0..TRIES {
            if slab_walk(state) != 0 {
                is_whole = true;
                break;
            }
        }
        // The slab turned out not to contain what was requested.
        if address < (*state).start || address >= (*state).end {
            (*state).start = address;
            (*state).end = address + 4096;
            is_whole = false;
        }
        cursor::end(state, is_whole);
    }
    1
}

/// Walks a slab's list: its counters give the number of objects on it. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn slab_walk(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let slab = (*state).list;
        let list = slab.wrapping_add(config::SLAB_FREELIST.load());
        let counters = slab.wrapping_add(config::SLAB_COUNTERS.load());
        let (first, count) = (word(list), word(counters));
        // `inuse` has 16 bits, `objects` 15.
        let (objects, used) = (count >> 16 & 0x7fff, count & 0xffff);
        (*state).end = (*state).start.wrapping_add(objects * caches::object_size((*state).cache));
        let before = (*state).phantoms;
        (*state).next = first;
        let reached = list_walk(state);
        let same = word(list) == first && word(counters) == count;
        if reached != 0 && same && (*state).walked + used == objects {
            return 1;
        }
        (*state).phantoms = before;
    }
    0
}

/// Walks a CPU's list of the next cache. 0 at the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cpu_examine(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let cache = cursor::request(state);
        if cache == 0 {
            return 0;
        }
        (*state).cache = cache;
        sheaves::of_cpu(state);
        if config::CACHE_CPU_SLAB.load() == u64::MAX {
            return 1;
        }
        cursor::begin(state, cache);
        let list = word(cache.wrapping_add(config::CACHE_CPU_SLAB.load()));
        (*state).list = list.wrapping_add((*state).offset);
        for _ in 0..TRIES {
            if cpu_walk(state) != 0 {
                break;
            }
        }
    }
    1
}

/// Looks through a node's full sheaves of the next cache. 0 at the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn node_examine(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let cache = cursor::request(state);
        if cache == 0 {
            return 0;
        }
        (*state).cache = cache;
        sheaves::of_node(state);
    }
    1
}

/// Walks a CPU's list: its transaction number shows whether it has changed. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cpu_walk(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let number = (*state).list.wrapping_add(config::CPU_TRANSACTION.load());
        let transaction = word(number);
        let first = word((*state).list.wrapping_add(config::CPU_FREELIST.load()));
        let slab = word((*state).list.wrapping_add(config::CPU_SLAB.load()));
        let objects = word(slab.wrapping_add(config::SLAB_COUNTERS.load())) >> 16 & 0x7fff;
        (*state).start = caches::address(slab);
        (*state).end = (*state).start.wrapping_add(objects * caches::object_size((*state).cache));
        let before = (*state).phantoms;
        (*state).next = first;
        if list_walk(state) != 0 && word(number) == transaction {
            return 1;
        }
        (*state).phantoms = before;
    }
    0
}

/// Walks the list that begins with `next`; 1 if it reached the end. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn list_walk(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        (*state).walked = 0;
        for _ in 0..MOST_FREE {
            if list_step(state) == 0 {
                break;
            }
        }
        u64::from((&raw const (*state).next).read_volatile() == 0)
    }
}

/// Takes a free object; 0 at the end, or if the list leaves its slab. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn list_step(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; `place` points to a value of PHANTOMS.
    unsafe {
        let object = (*state).next;
        if object == 0 || object < (*state).start || object >= (*state).end {
            return 0;
        }
        (*state).walked += 1;
        cursor::note(state, object);
        let link = object.wrapping_add((*state).link);
        // CONFIG_SLAB_FREELIST_HARDENED.
        let mask = match config::CACHE_RANDOM.load() {
            0 => 0,
            _ => (*state).random ^ link.swap_bytes(),
        };
        (*state).next = word(link) ^ mask;
    }
    1
}
