//! Loading kernel mode's object: maps sized, constants set.

use std::os::fd::AsRawFd as _;

use aya::{
    Ebpf, EbpfLoader,
    maps::{CgroupArray, HashMap, MapData},
};
use memtrace_common::{CACHE_NAME, KernelKind, MAX_CACHES, NAMELESS, OBJECTS_PER_BUCKET};

use super::{calibrate::Learnt, config::KernelConfig, layout::Layout, possible::Possible};
use crate::bpf::shared::error::Error;

/// The eBPF object, as committed and checked by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MEMTRACE_KERNEL_BPF_OBJECT_PATH"));

/// A program, its tracepoints (a kernel has one or more of them), and the kind of memory it is for.
pub(super) struct Probe {
    pub(super) program: &'static str,
    pub(super) tracepoints: &'static [&'static str],
    pub(super) kind: KernelKind,
}

const fn probe(program: &'static str, tracepoints: &'static [&'static str], kind: KernelKind) -> Probe {
    Probe { program, tracepoints, kind }
}

/// Frees before allocations: what is allocated is not to be freed unseen.
pub(super) const PROBES: [Probe; 10] = [
    probe("kfree", &["kfree"], KernelKind::Slab),
    probe("kmem_cache_free", &["kmem_cache_free"], KernelKind::Slab),
    probe("mm_page_free", &["mm_page_free"], KernelKind::Page),
    probe("percpu_free", &["percpu_free_percpu"], KernelKind::Percpu),
    probe("vfree", &["free_vmap_area_noflush"], KernelKind::Vmalloc),
    probe("kmalloc", &["kmalloc", "kmalloc_node"], KernelKind::Slab),
    probe("kmem_cache_alloc", &["kmem_cache_alloc", "kmem_cache_alloc_node"], KernelKind::Slab),
    probe("mm_page_alloc", &["mm_page_alloc"], KernelKind::Page),
    probe("percpu_alloc", &["percpu_alloc_percpu"], KernelKind::Percpu),
    probe("vmalloc", &["alloc_vmap_area"], KernelKind::Vmalloc),
];

/// Table sizes that follow from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Buckets of the table of live objects, a power of two.
    pub(super) buckets: u32,
    /// Entries of its overflow map.
    pub(super) overflow: u32,
    /// Stack slots, a power of two. [`NAMELESS`] more follow.
    pub(super) stacks: u32,
}

impl Sizes {
    /// Buckets hold `max_live` objects at between a half and all of their capacity.
    pub(super) fn new(max_live: u32, max_stacks: u32) -> Self {
        let buckets = (max_live / OBJECTS_PER_BUCKET as u32 + 1).next_power_of_two();
        Self {
            buckets: buckets.max(64),
            overflow: (max_live / 8).max(64),
            stacks: max_stacks.max(64).next_power_of_two(),
        }
    }
}

/// Creates the maps and prepares the programs; none is loaded yet.
pub(super) fn load(
    config: &KernelConfig,
    layout: &Layout,
    learnt: Learnt,
    sizes: Sizes,
    epoch: u64,
) -> Result<Ebpf, Error> {
    // Kernels before 5.11 charge maps against this limit.
    let _ = nix::sys::resource::setrlimit(
        nix::sys::resource::Resource::RLIMIT_MEMLOCK,
        nix::sys::resource::RLIM_INFINITY,
        nix::sys::resource::RLIM_INFINITY,
    );
    let (bucket_mask, stack_mask) = (sizes.buckets - 1, sizes.stacks - 1);
    let known = layout.page.zip(layout.slab_cache);
    let ((page_struct, compound_head), slab_cache) = known.unwrap_or_default();
    let page_base = if known.is_some() { learnt.page_base } else { 0 };
    let (name, object_size) = layout.cache.unwrap_or_default();
    let [page_struct, compound_head, slab_cache, name, object_size] =
        [page_struct, compound_head, slab_cache, name, object_size].map(u64::from);
    let freelists = layout.freelists.unwrap_or_default();
    let cpus = u64::from(Possible::cpus().count);
    let (namespace_device, namespace) = config.pid_namespace.unwrap_or_default();
    let [with_caches, with_tasks, with_cgroup, with_memo, compound_mask] = [
        config.caches.is_some(),
        !config.tasks.is_empty(),
        config.cgroup.is_some(),
        config.memo,
        layout.compound_mask,
    ]
    .map(u32::from);
    let mut loader = EbpfLoader::new();
    loader
        // Nothing is relocated against the kernel's types, and reading them all takes 20 ms.
        .btf(None)
        .override_global("MIN_SIZE", &config.min_size, true)
        .override_global("MAX_SIZE", &config.max_size, true)
        .override_global("EPOCH", &epoch, true)
        .override_global("BUCKET_MASK", &bucket_mask, true)
        .override_global("STACK_MASK", &stack_mask, true)
        .override_global("AGENT", &learnt.tgid, true)
        .override_global("CACHE_FILTER", &with_caches, true)
        .override_global("TASK_FILTER", &with_tasks, true)
        .override_global("PID_NAMESPACE", &namespace, true)
        .override_global("PID_NAMESPACE_DEVICE", &namespace_device, true)
        .override_global("CGROUP_FILTER", &with_cgroup, true)
        .override_global("WITH_MEMO", &with_memo, true)
        .override_global("CPUS", &cpus, true)
        .override_global("KMALLOC_BYTES", &layout.kmalloc_bytes, true)
        .override_global("CACHE_ALLOC_CACHE", &layout.alloc_cache, true)
        .override_global("CACHE_FREE_CACHE", &layout.free_cache, true)
        .override_global("PERCPU_POINTER", &layout.percpu_pointer, true)
        .override_global("PAGE_BASE", &page_base, true)
        .override_global("PAGE_STRUCT", &page_struct, true)
        .override_global("COMPOUND_HEAD", &compound_head, true)
        .override_global("COMPOUND_MASK", &compound_mask, true)
        .override_global("SLAB_CACHE", &slab_cache, true)
        .override_global("CACHE_NAME_OFFSET", &name, true)
        .override_global("CACHE_SIZE", &object_size, true)
        .map_max_entries("LIVE", sizes.buckets)
        .map_max_entries("OVERFLOW", sizes.overflow)
        .map_max_entries("STACKS", sizes.stacks + NAMELESS);
    let lists = freelists.constants();
    for (name, value) in &lists {
        loader.override_global(name, value, true);
    }
    loader.load(OBJECT).map_err(Error::Load)
}

/// Writes the filters by name, by process and by cgroup.
pub(super) fn fill_filters(ebpf: &mut Ebpf, config: &KernelConfig) -> Result<(), Error> {
    if let Some(caches) = &config.caches {
        let map = ebpf.map_mut("CACHE_NAMES").ok_or(Error::Missing("CACHE_NAMES"))?;
        let mut map: HashMap<&mut MapData, [u8; CACHE_NAME], u32> =
            map.try_into().map_err(Error::map("CACHE_NAMES"))?;
        for (name, wanted) in caches.iter().take(MAX_CACHES as usize) {
            let mut key = [0; CACHE_NAME];
            // The kernel side cuts names likewise, and leaves a zero byte at the end.
            key.iter_mut().zip(name.bytes().take(CACHE_NAME - 1)).for_each(|(place, byte)| *place = byte);
            map.insert(key, u32::from(*wanted), 0).map_err(Error::map("CACHE_NAMES"))?;
        }
    }
    if !config.tasks.is_empty() {
        let map = ebpf.map_mut("TASKS").ok_or(Error::Missing("TASKS"))?;
        let mut map: HashMap<&mut MapData, u32, u32> = map.try_into().map_err(Error::map("TASKS"))?;
        for task in &config.tasks {
            map.insert(task, 1, 0).map_err(Error::map("TASKS"))?;
        }
    }
    if let Some(cgroup) = &config.cgroup {
        let map = ebpf.map_mut("CGROUPS").ok_or(Error::Missing("CGROUPS"))?;
        let mut map: CgroupArray<&mut MapData> = map.try_into().map_err(Error::map("CGROUPS"))?;
        map.set(0, cgroup.as_raw_fd(), 0).map_err(Error::map("CGROUPS"))?;
    }
    Ok(())
}
