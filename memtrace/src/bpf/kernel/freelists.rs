//! Where SLUB keeps free objects, as offsets of members in this kernel's structures.

use super::types::Types;

/// Lists of free objects, and the offsets to find them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Freelists {
    /// `slab.freelist` and `.counters`.
    slab: (u32, u32),
    /// `kmem_cache.offset`: of the link in a free object.
    link: u32,
    /// `kmem_cache.random`, which obfuscates links (CONFIG_SLAB_FREELIST_HARDENED).
    random: Option<u32>,
    /// `bpf_array.pptrs`: per-CPU pointers of values.
    array_pointers: Option<u32>,
    /// A CPU's list.
    cpu: Option<CpuFreelist>,
    /// `kmem_cache.cpu_sheaves`, from Linux 6.18 on.
    of_cache: Option<u32>,
    /// Sheaves.
    sheaves: Option<Sheaves>,
}

/// A CPU's list of free objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuFreelist {
    /// `kmem_cache.cpu_slab`.
    of_cache: u32,
    /// `kmem_cache_cpu.freelist`.
    freelist: u32,
    /// `kmem_cache_cpu.tid`.
    transaction: u32,
    /// `kmem_cache_cpu.slab`.
    slab: u32,
}

/// Arrays of free objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sheaves {
    /// `slub_percpu_sheaves.main`, `.spare` and `.rcu_free`.
    cpu: [u32; 3],
    /// `slab_sheaf.cache`, `.size`, `.objects`, `.barn_list`.
    sheaf: [u32; 4],
    /// A cache's per-node data, and `barn` in it.
    node: Nodes,
    /// `node_barn.sheaves_full`.
    full: u32,
}

/// A cache's data per memory node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nodes {
    /// `kmem_cache.per_node`; before Linux 7 `kmem_cache.node`.
    of_cache: u32,
    /// Bytes per entry.
    stride: u32,
    /// Whether the entries are pointers to the structure that contains `barn`.
    is_pointer: bool,
    /// Offset of `barn` there.
    barn: u32,
}

impl Freelists {
    /// `None` for an allocator other than SLUB.
    pub(super) fn new(types: &Types<'_>) -> Option<Self> {
        // `struct slab` was a part of `struct page` before 5.17.
        let of_slab = |member| types.offset("slab", member).or_else(|| types.offset("page", member));
        types.offset("kmem_cache", "oo")?;
        let array_pointers = types.offset("bpf_array", "pptrs");
        Some(Self {
            slab: of_slab("freelist").zip(of_slab("counters"))?,
            link: types.offset("kmem_cache", "offset")?,
            random: types.offset("kmem_cache", "random"),
            array_pointers,
            cpu: CpuFreelist::new(types),
            of_cache: types.offset("kmem_cache", "cpu_sheaves"),
            // Without the sheaves of CPUs, those of nodes would say little.
            sheaves: array_pointers.and_then(|_| Sheaves::new(types)),
        })
    }

    /// Whether CPUs cache free objects, and these can be searched.
    pub(super) fn sees_cpus(&self) -> bool {
        self.array_pointers.is_some() && (self.cpu.is_some() || self.sheaves.is_some())
    }

    /// Whether nodes have full sheaves, and these can be searched.
    pub(super) fn sees_nodes(&self) -> bool {
        self.sheaves.is_some()
    }

    /// The load-time constants for all this.
    pub(super) fn constants(&self) -> Vec<(&'static str, u64)> {
        let offset = |offset: Option<u32>| offset.map_or(0, u64::from);
        let mut constants = vec![
            ("SLAB_FREELIST", self.slab.0.into()),
            ("SLAB_COUNTERS", self.slab.1.into()),
            ("CACHE_LINK", self.link.into()),
            ("CACHE_RANDOM", offset(self.random)),
            ("ARRAY_POINTERS", offset(self.array_pointers)),
            ("CACHE_CPU_SLAB", self.cpu.map_or(u64::MAX, |cpu| cpu.of_cache.into())),
            ("CPU_FREELIST", offset(self.cpu.map(|cpu| cpu.freelist))),
            ("CPU_TRANSACTION", offset(self.cpu.map(|cpu| cpu.transaction))),
            ("CPU_SLAB", offset(self.cpu.map(|cpu| cpu.slab))),
            ("CACHE_SHEAVES", offset(self.of_cache)),
        ];
        if let Some(Sheaves { cpu, sheaf, node, full }) = self.sheaves {
            let names = [
                "SHEAF_MAIN",
                "SHEAF_SPARE",
                "SHEAF_RCU_FREE",
                "SHEAF_CACHE",
                "SHEAF_SIZE",
                "SHEAF_OBJECTS",
                "SHEAF_LINK",
                "CACHE_NODES",
                "NODE_STRIDE",
                "NODE_POINTER",
                "NODE_BARN",
                "BARN_FULL",
            ];
            let of_node = [node.of_cache, node.stride, node.is_pointer.into(), node.barn, full];
            let offsets = cpu.into_iter().chain(sheaf).chain(of_node).map(u64::from);
            constants.extend(names.into_iter().zip(offsets));
        }
        constants
    }
}

impl CpuFreelist {
    fn new(types: &Types<'_>) -> Option<Self> {
        let of_cpu = |member| types.offset("kmem_cache_cpu", member);
        Some(Self {
            of_cache: types.offset("kmem_cache", "cpu_slab")?,
            freelist: of_cpu("freelist")?,
            transaction: of_cpu("tid")?,
            // It was called `page`.
            slab: of_cpu("slab").or_else(|| of_cpu("page"))?,
        })
    }
}

impl Sheaves {
    fn new(types: &Types<'_>) -> Option<Self> {
        let of_cpu = |member| types.offset("slub_percpu_sheaves", member);
        let of_sheaf = |member| types.offset("slab_sheaf", member);
        Some(Self {
            cpu: [of_cpu("main")?, of_cpu("spare")?, of_cpu("rcu_free")?],
            sheaf: [of_sheaf("cache")?, of_sheaf("size")?, of_sheaf("objects")?, of_sheaf("barn_list")?],
            node: Nodes::new(types)?,
            full: types.offset("node_barn", "sheaves_full")?,
        })
    }
}

impl Nodes {
    fn new(types: &Types<'_>) -> Option<Self> {
        const PAIR: &str = "kmem_cache_per_node_ptrs";
        let Some(of_cache) = types.offset("kmem_cache", "per_node") else {
            return Some(Self {
                of_cache: types.offset("kmem_cache", "node")?,
                stride: size_of::<u64>() as u32,
                is_pointer: true,
                barn: types.offset("kmem_cache_node", "barn")?,
            });
        };
        let (stride, barn) = (types.size(PAIR)?, types.offset(PAIR, "barn")?);
        Some(Self { of_cache, stride, is_pointer: false, barn })
    }
}
