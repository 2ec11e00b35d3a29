//! Stacks whose frames have arrived, and their names.

use memtrace_common::KernelKind;
use rustc_hash::FxHashMap;

use crate::{kernel::Modules, model::Frame, symbolize::KernelSymbolizer};

/// Beginnings of the names of functions that trace or allocate: a stack begins with their caller.
const INNER: [&str; 22] = [
    "bpf_",
    "__bpf_",
    "__traceiter_",
    "trace_",
    "perf_trace_",
    "__alloc_pages",
    "__alloc_frozen_pages",
    "alloc_pages",
    "alloc_frozen_pages",
    "get_free_pages",
    "__get_free_pages",
    "get_zeroed_page",
    "__folio_alloc",
    "folio_alloc",
    "pcpu_alloc",
    "__alloc_percpu",
    "alloc_vmap_area",
    "__get_vm_area_node",
    "__vmalloc",
    "vmalloc",
    "vzalloc",
    "vmap",
];

/// Parts of the names of functions that take pages for what is counted as memory of another kind.
const ELSEWHERE: [(KernelKind, &str); 9] = [
    (KernelKind::Slab, "allocate_slab"),
    (KernelKind::Slab, "new_slab"),
    (KernelKind::Slab, "___slab_alloc"),
    (KernelKind::Slab, "kmalloc_large"),
    (KernelKind::Vmalloc, "vmalloc_area_node"),
    (KernelKind::Vmalloc, "vmalloc_node_range"),
    (KernelKind::Vmalloc, "vm_area_alloc_pages"),
    (KernelKind::Percpu, "pcpu_populate"),
    (KernelKind::Percpu, "pcpu_alloc_pages"),
];

/// A stack's return addresses, innermost first.
struct Stack {
    addresses: Vec<u64>,
    /// Whether the first is the allocating function's caller for certain: the tracepoint has said so.
    is_exact: bool,
}

/// Every stack, by its slot in the kernel side's table.
#[derive(Default)]
pub(super) struct Frames {
    by_slot: FxHashMap<u32, Stack>,
    symbolizer: Option<KernelSymbolizer>,
    modules: Modules,
}

impl Frames {
    /// Takes a stack in, without its first `own` frames.
    pub(super) fn insert(&mut self, slot: u32, own: usize, pcs: &[u64]) {
        let addresses = pcs.get(own..).unwrap_or_default().to_vec();
        self.by_slot.insert(slot, Stack { addresses, is_exact: own > 0 });
    }

    /// The return addresses of a stack; none when they have not arrived.
    pub(super) fn addresses(&self, slot: u32) -> &[u64] {
        self.by_slot.get(&slot).map_or(&[], |stack| stack.addresses.as_slice())
    }

    /// The frames of a stack, beginning with the caller of the allocating function.
    pub(super) fn of(&mut self, slot: u32) -> Vec<Frame> {
        let addresses = self.addresses(slot).to_vec();
        let frames: Vec<Frame> = addresses.into_iter().map(|address| self.frame(address)).collect();
        if self.by_slot.get(&slot).is_some_and(|stack| stack.is_exact) {
            return frames;
        }
        let inner = frames.iter().take_while(|frame| is_inner(frame)).count();
        // A stack of nothing else is shown as it is.
        if inner == frames.len() { frames } else { frames.into_iter().skip(inner).collect() }
    }

    /// Whether the pages that this stack takes are counted as one of these other kinds.
    pub(super) fn is_elsewhere(&mut self, slot: u32, kinds: &[KernelKind]) -> bool {
        self.addresses(slot).to_vec().into_iter().any(|address| {
            let frame = self.frame(address);
            frame.function.is_some_and(|name| {
                ELSEWHERE.iter().any(|(kind, part)| kinds.contains(kind) && name.contains(part))
            })
        })
    }

    fn frame(&mut self, address: u64) -> Frame {
        let symbolizer = self.symbolizer.get_or_insert_with(|| {
            self.modules = Modules::read().unwrap_or_default();
            KernelSymbolizer::default()
        });
        let modules = &self.modules;
        symbolizer.frame(address, |call| modules.find(call).map(|module| (module.name.clone(), module.base)))
    }
}

fn is_inner(frame: &Frame) -> bool {
    frame.function.as_ref().is_some_and(|name| INNER.iter().any(|inner| name.starts_with(inner)))
}
