//! Free objects in sheaves (Linux 6.18): arrays of them that a CPU keeps at hand, or collects for `kfree_rcu`, or that wait in a
//! node's barn. To a slab they count as in use.
//!
//! An array changes while it is read. That does no harm: an object that was in it is free or has been handed out since,
//! and then its value among the live ones is that of a later time, which the agent takes for no phantom. Only the
//! array's memory may have gone to something else: it has to belong to the cache before and after.

use memtrace_common::Examination;

use crate::{
    caches::word,
    config,
    cursor::{self, MOST_IN_SHEAF},
};

/// Full sheaves in a barn at most: MAX_FULL_SHEAVES is 10.
const FULL: usize = 16;

/// Looks through what a CPU has at hand.
///
/// # Safety
/// `state` points to the value of EXAMINATION.
#[inline(always)]
pub(crate) unsafe fn of_cpu(state: *mut Examination) {
    if config::SHEAF_OBJECTS.load() == 0 {
        return;
    }
    // SAFETY: by the contract above.
    unsafe {
        let of_cache = word((*state).cache.wrapping_add(config::CACHE_SHEAVES.load()));
        if of_cache != 0 {
            let here = of_cache.wrapping_add((*state).offset);
            sheaf_walk(state, word(here.wrapping_add(config::SHEAF_MAIN.load())));
            sheaf_walk(state, word(here.wrapping_add(config::SHEAF_SPARE.load())));
            // What was given to `kfree_rcu`: it stays here until there is enough of it, however long that takes.
            sheaf_walk(state, word(here.wrapping_add(config::SHEAF_RCU_FREE.load())));
        }
    }
}

/// Looks through the barn of the node that is examined.
///
/// # Safety
/// As for [`of_cpu`].
#[inline(always)]
pub(crate) unsafe fn of_node(state: *mut Examination) {
    // SAFETY: by the contract above.
    unsafe {
        let nodes = (*state).cache.wrapping_add(config::CACHE_NODES.load());
        let mut node = nodes.wrapping_add(config::NODE_STRIDE.load().wrapping_mul((*state).place));
        if config::NODE_POINTER.load() != 0 {
            node = word(node);
        }
        let barn = word(node.wrapping_add(config::NODE_BARN.load()));
        if node == 0 || barn == 0 {
            return;
        }
        let head = barn.wrapping_add(config::BARN_FULL.load());
        (*state).list = head;
        for _ in 0..FULL {
            let link = word((*state).list);
            if link == 0 || link == head {
                break;
            }
            (*state).list = link;
            sheaf_walk(state, link.wrapping_sub(config::SHEAF_LINK.load()));
        }
    }
}

/// Looks through a sheaf. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sheaf_walk(state: *mut Examination, sheaf: u64) -> u64 {
    if state.is_null() || sheaf == 0 {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let owner = sheaf.wrapping_add(config::SHEAF_CACHE.load());
        if word(owner) != (*state).cache {
            return 0;
        }
        let before = (*state).phantoms;
        let size = word(sheaf.wrapping_add(config::SHEAF_SIZE.load())) & 0xffff_ffff;
        (*state).next = sheaf.wrapping_add(config::SHEAF_OBJECTS.load());
        for index in 0..MOST_IN_SHEAF {
            if index as u64 >= size {
                break;
            }
            sheaf_step(state);
        }
        if word(owner) != (*state).cache {
            (*state).phantoms = before;
        }
    }
    0
}

/// Takes the next object of a sheaf. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sheaf_step(state: *mut Examination) -> u64 {
    if state.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size.
    unsafe {
        let place = (*state).next;
        cursor::note(state, word(place));
        (*state).next = place.wrapping_add(8);
    }
    0
}
