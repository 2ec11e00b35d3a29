//! Load-time constants. The agent sets them before loading; the map is then frozen, the verifier knows the
//! values and removes what they switch off.

use crate::base::globals;

globals! {
    /// Smallest object in bytes that is tracked.
    MIN_SIZE: u64 = 0;
    /// Largest object in bytes that is tracked.
    MAX_SIZE: u64 = u64::MAX;
    /// ktime in ns from which object times count.
    EPOCH: u64 = 0;
    /// Number of buckets of `LIVE`, a power of two, minus 1.
    BUCKET_MASK: u32 = 0;
    /// Number of slots of `STACKS`, a power of two, minus 1.
    STACK_MASK: u32 = 0;
    /// The agent's pid: what it causes the kernel to allocate is not tracked.
    AGENT: u32 = 0;
    /// Whether some caches are filtered out by name.
    CACHE_FILTER: u32 = 0;
    /// Whether only the processes in `TASKS` are tracked.
    TASK_FILTER: u32 = 0;
    /// Inode of the PID namespace that PIDs in `TASKS` are of; 0: the initial one.
    PID_NAMESPACE: u64 = 0;
    /// Device of that inode.
    PID_NAMESPACE_DEVICE: u64 = 0;
    /// Whether tracking is limited to the cgroup in `CGROUPS`.
    CGROUP_FILTER: u32 = 0;
    /// Whether stacks are recognised without walking them.
    WITH_MEMO: u32 = 1;
    /// Number of CPUs, for per-CPU allocations whose tracepoint gives the bytes of one.
    CPUS: u64 = 1;
    /// `___GFP_MOVABLE`: set for user memory and page cache.
    GFP_MOVABLE: u32 = 0x08;

    /// Place of `bytes_alloc` among `kmalloc`'s arguments: 3, or 4 after a cache.
    KMALLOC_BYTES: u32 = 3;
    /// Place of the cache among `kmem_cache_alloc`'s arguments: 2, or 0 if it is not one of them.
    CACHE_ALLOC_CACHE: u32 = 2;
    /// The same for `kmem_cache_free`.
    CACHE_FREE_CACHE: u32 = 2;
    /// Place of `ptr` among `percpu_alloc_percpu`'s arguments: 7, or 6 without a call site.
    PERCPU_POINTER: u32 = 7;

    /// `struct page` of address 0, if it were memory; 0 if unknown. Then an object's cache is known only if the tracepoint
    /// gives it.
    PAGE_BASE: u64 = 0;
    /// Bytes of a `struct page`.
    PAGE_STRUCT: u64 = 64;
    /// Offset of `page.compound_head`.
    COMPOUND_HEAD: u64 = 8;
    /// Whether that may be a mask.
    COMPOUND_MASK: u32 = 0;
    /// Offset of `slab.slab_cache`.
    SLAB_CACHE: u64 = 8;
    /// Offset of `kmem_cache.name`.
    CACHE_NAME_OFFSET: u64 = 0;
    /// Offset of `kmem_cache.size`.
    CACHE_SIZE: u64 = 0;

    /// Offset of `slab.freelist`.
    SLAB_FREELIST: u64 = 32;
    /// Offset of `slab.counters`.
    SLAB_COUNTERS: u64 = 40;
    /// Offset of `kmem_cache.offset`.
    CACHE_LINK: u64 = 0;
    /// Offset of `kmem_cache.random`; 0 without it.
    CACHE_RANDOM: u64 = 0;
    /// Offset of `kmem_cache.cpu_slab`; all ones without it.
    CACHE_CPU_SLAB: u64 = 0;
    /// Offset of `kmem_cache.cpu_sheaves`; 0 without it.
    CACHE_SHEAVES: u64 = 0;
    /// Offset of `kmem_cache_cpu.freelist`.
    CPU_FREELIST: u64 = 0;
    /// Offset of `kmem_cache_cpu.tid`.
    CPU_TRANSACTION: u64 = 8;
    /// Offset of `kmem_cache_cpu.slab`.
    CPU_SLAB: u64 = 16;
    /// Offset of `bpf_array.pptrs`.
    ARRAY_POINTERS: u64 = 0;

    /// Offset of `slub_percpu_sheaves.main`.
    SHEAF_MAIN: u64 = 0;
    /// Offset of `slub_percpu_sheaves.spare`.
    SHEAF_SPARE: u64 = 0;
    /// Offset of `slub_percpu_sheaves.rcu_free`.
    SHEAF_RCU_FREE: u64 = 0;
    /// Offset of `slab_sheaf.cache`.
    SHEAF_CACHE: u64 = 0;
    /// Offset of `slab_sheaf.size`.
    SHEAF_SIZE: u64 = 0;
    /// Offset of `slab_sheaf.objects`; 0 when sheaves cannot be examined.
    SHEAF_OBJECTS: u64 = 0;
    /// Offset of `slab_sheaf.barn_list`.
    SHEAF_LINK: u64 = 0;
    /// Offset of what a cache has per node.
    CACHE_NODES: u64 = 0;
    /// Its bytes.
    NODE_STRIDE: u64 = 8;
    /// Whether that is a pointer to what `barn` is in, not `barn` itself.
    NODE_POINTER: u64 = 1;
    /// Offset of `barn`.
    NODE_BARN: u64 = 0;
    /// Offset of `node_barn.sheaves_full`.
    BARN_FULL: u64 = 0;
}

/// Whether objects of a size are tracked.
#[inline(always)]
pub(crate) fn is_tracked(size: u64) -> bool {
    size >= MIN_SIZE.load() && size <= MAX_SIZE.load()
}
