//! Where this kernel stores what kernel mode's programs read: one object works on all kernels.

use std::fs;

use super::{freelists::Freelists, types::Types};

/// Structures whose layout is needed.
const STRUCTURES: [&str; 10] = [
    "page",
    "slab",
    "kmem_cache",
    "kmem_cache_cpu",
    "kmem_cache_node",
    "kmem_cache_per_node_ptrs",
    "slub_percpu_sheaves",
    "slab_sheaf",
    "node_barn",
    "bpf_array",
];

/// Tracepoints that [`Layout`] covers.
pub(super) const TRACEPOINTS: [&str; 12] = [
    "kmalloc",
    "kmalloc_node",
    "kmem_cache_alloc",
    "kmem_cache_alloc_node",
    "kfree",
    "kmem_cache_free",
    "mm_page_alloc",
    "mm_page_free",
    "percpu_alloc_percpu",
    "percpu_free_percpu",
    "alloc_vmap_area",
    "free_vmap_area_noflush",
];

/// Places of arguments and members. The default is that of Linux 6.1 and newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Which of `TRACEPOINTS` exist.
    pub(super) tracepoints: Vec<&'static str>,
    /// Place of `bytes_alloc` among `kmalloc`'s arguments.
    pub(super) kmalloc_bytes: u32,
    /// Place of the cache among `kmem_cache_alloc`'s arguments; 0: not among them.
    pub(super) alloc_cache: u32,
    /// The same for `kmem_cache_free`.
    pub(super) free_cache: u32,
    /// Place of the pointer among `percpu_alloc_percpu`'s arguments.
    pub(super) percpu_pointer: u32,
    /// `struct page`: its size, and the offset of `compound_head`.
    pub(super) page: Option<(u32, u32)>,
    /// Whether that is `compound_info` (Linux 7.2), which may hold a mask in place of an address.
    pub(super) compound_mask: bool,
    /// Offset of `slab.slab_cache` (`page.slab_cache` before 5.17).
    pub(super) slab_cache: Option<u32>,
    /// Offsets of `kmem_cache.name` and `.size`.
    pub(super) cache: Option<(u32, u32)>,
    /// Lists of free objects.
    pub(super) freelists: Option<Freelists>,
}

impl Layout {
    /// The layout of the running kernel; `None` if it has no BTF.
    pub(super) fn of_this_kernel() -> Option<Self> {
        let btf = fs::read("/sys/kernel/btf/vmlinux").ok()?;
        let types = Types::read(&btf, |name| name.starts_with("btf_trace_") || STRUCTURES.contains(&name))?;
        Some(Self::new(&types))
    }

    fn new(types: &Types<'_>) -> Self {
        let place = |tracepoint: &str, is: &dyn Fn(&str) -> bool, nth: usize| {
            let arguments = types.arguments(tracepoint)?;
            let mut places = (0u32..).zip(&arguments).filter(|(_, one)| is(one)).map(|(place, _)| place);
            places.nth(nth)
        };
        let is_cache = |one: &str| one == "*kmem_cache";
        let percpu = types.arguments("percpu_alloc_percpu").unwrap_or_default();
        Self {
            tracepoints: TRACEPOINTS
                .into_iter()
                .filter(|tracepoint| types.arguments(tracepoint).is_some())
                .collect(),
            // bytes_req, bytes_alloc.
            kmalloc_bytes: place("kmalloc", &|one| one == "size_t", 1).unwrap_or(3),
            alloc_cache: place("kmem_cache_alloc", &is_cache, 0).unwrap_or(0),
            free_cache: place("kmem_cache_free", &is_cache, 0).unwrap_or(0),
            // The first is the call site, or whether the reserve is used.
            percpu_pointer: if percpu.first().is_some_and(|one| one == "bool") { 6 } else { 7 },
            page: types
                .size("page")
                .zip(types.offset("page", "compound_head").or_else(|| types.offset("page", "compound_info"))),
            compound_mask: types.offset("page", "compound_info").is_some(),
            slab_cache: types.offset("slab", "slab_cache").or_else(|| types.offset("page", "slab_cache")),
            cache: types.offset("kmem_cache", "name").zip(types.offset("kmem_cache", "size")),
            freelists: Freelists::new(types),
        }
    }

    /// Whether a tracepoint exists.
    pub(super) fn has(&self, tracepoint: &str) -> bool {
        self.tracepoints.contains(&tracepoint)
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn the_running_kernel_is_understood() {
        if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            return;
        }
        let layout = Layout::of_this_kernel().unwrap();
        assert!(layout.has("kmalloc") && layout.has("kfree"), "{layout:?}");
        assert!(matches!(layout.kmalloc_bytes, 3 | 4), "{layout:?}");
        assert!(layout.page.is_some() && layout.slab_cache.is_some() && layout.cache.is_some(), "{layout:?}");
    }
}
