//! What an allocation and a free do to the counts.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_ns_current_pid_tgid, bpf_ktime_get_ns},
    },
};
use memtrace_common::{
    KernelCounter, KernelKind, NO_CACHE, STACK_TABLE_FULL, TIME_SHIFT, object_key, object_value,
};

use crate::{
    caches, config,
    live::{self, Inserted},
    maps::{CGROUPS, TASKS, count},
    memo, stacks,
    types::Origin,
    walk,
};

/// The current time, in object time.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_ns() }.wrapping_sub(config::EPOCH.load()) >> TIME_SHIFT) as u32
}

/// The current process.
#[inline(always)]
fn tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The current process by its PID in the namespace of `TASKS`; `None` if it is in another one.
#[inline(always)]
fn named_tgid(tgid: u32) -> Option<u32> {
    let (device, inode) = (config::PID_NAMESPACE_DEVICE.load(), config::PID_NAMESPACE.load());
    if inode == 0 {
        return Some(tgid);
    }
    let mut named = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: writes to a local variable of that size.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(device, inode, &raw mut named, size_of::<bpf_pidns_info>() as u32)
    };
    (failed == 0).then_some(named.tgid)
}

/// Whether the current task is one of those that tracking is limited to.
#[inline(always)]
fn is_wanted_task(tgid: u32) -> bool {
    // SAFETY: entries do not change while programs run.
    let is_named = |tgid| unsafe { TASKS.get(tgid) }.is_some();
    (config::TASK_FILTER.load() == 0 || named_tgid(tgid).is_some_and(is_named))
        && (config::CGROUP_FILTER.load() == 0 || CGROUPS.current_task_under_cgroup(0) == Ok(true))
}

/// The index of the cache that an event is about, determined only if a filter needs it.
#[inline(always)]
fn cache_index(origin: &Origin) -> u32 {
    if origin.kind != KernelKind::Slab as u32 {
        return NO_CACHE;
    }
    let cache = if origin.cache != 0 {
        origin.cache
    } else if origin.size <= 8192 {
        caches::of(origin.address)
    } else {
        0
    };
    if cache == 0 { NO_CACHE } else { caches::index(cache) }
}

/// An object was allocated.
#[inline(always)]
pub(crate) fn allocated(context: *mut c_void, origin: &Origin) {
    let tgid = tgid();
    if tgid == config::AGENT.load() {
        count(KernelCounter::Own, 1);
        return forget(origin);
    }
    let size = origin.size;
    if size != 0 && !config::is_tracked(size) {
        return forget(origin);
    }
    let filtered = config::TASK_FILTER.load() != 0 || config::CGROUP_FILTER.load() != 0;
    // If the tracepoint does not give the size, the cache does.
    let by_size = size == 0 && (config::MIN_SIZE.load() != 0 || config::MAX_SIZE.load() != u64::MAX);
    if config::CACHE_FILTER.load() != 0 || by_size {
        let index = cache_index(origin);
        // An object in no cache matches no name.
        if index == NO_CACHE || caches::is_excluded(index) {
            return forget(origin);
        }
    }
    if filtered && !is_wanted_task(tgid) {
        caches::count_allocation(cache_index(origin));
        return forget(origin);
    }
    let slot = stack(context, origin);
    let key = object_key(origin.address, origin.kind == KernelKind::Percpu as u32);
    match live::insert(key, object_value(slot, now())) {
        Inserted::New => stacks::add(slot),
        Inserted::Instead(missed) => {
            stacks::miss(missed as u32);
            stacks::add(slot);
        }
        Inserted::Full => stacks::untracked(slot),
    }
}

/// An object is not tracked. One that was tracked at its address is gone: its free was not seen.
#[inline(always)]
fn forget(origin: &Origin) {
    object_forget(object_key(origin.address, origin.kind == KernelKind::Percpu as u32));
}

/// Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn object_forget(key: u64) -> u64 {
    let missed = live::take(key);
    if missed != 0 {
        stacks::miss(missed as u32);
    }
    missed
}

/// The slot of the current stack.
#[inline(always)]
fn stack(context: *mut c_void, origin: &Origin) -> u32 {
    let Some(scratch) = walk::claim() else { return STACK_TABLE_FULL };
    // SAFETY: `scratch` was claimed, and is not used after its release.
    unsafe {
        (*scratch).origin = *origin;
        let mut slot = memo::find(context, scratch);
        if slot == STACK_TABLE_FULL {
            walk::walk(context, scratch);
            slot = stacks::intern(scratch);
            memo::learn(context, scratch, slot);
        }
        walk::release(scratch);
        slot
    }
}

/// An object was freed. `cache`: its `struct kmem_cache`, if the tracepoint gives it.
#[inline(always)]
pub(crate) fn freed(address: u64, kind: KernelKind, cache: u64) {
    if address == 0 {
        return;
    }
    let value = live::take(object_key(address, kind as u32 == KernelKind::Percpu as u32));
    if value != 0 {
        stacks::subtract(value as u32);
        return;
    }
    if kind as u32 != KernelKind::Slab as u32 || tgid() == config::AGENT.load() {
        return;
    }
    // `kfree` also frees memory of no cache: then what is found is not a known cache.
    let index = if cache != 0 { caches::index(cache) } else { caches::known(caches::of(address)) };
    caches::count_free(index);
}
