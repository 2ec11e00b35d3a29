//! Stacks whose frames have arrived, and their names.

use memtrace_common::KernelKind;
use rustc_hash::FxHashMap;

use crate::{
    kernel::Modules,
    profile::{Dictionary, KERNEL_CODE, Line, LocationId, ModuleId, StackId},
    symbolize::KernelSymbolizer,
};

/// Prefixes of functions that trace or allocate: a stack begins with their caller.
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

/// Parts of the names of functions that allocate pages for memory that counts as another kind.
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

/// A stack whose frames have arrived.
#[derive(Clone, Copy)]
struct Stack {
    /// Every frame.
    whole: StackId,
    /// The frames from the allocating function's caller outwards, once they have names.
    trimmed: Option<StackId>,
    /// Whether the tracepoint named the first frame as the allocating function's caller.
    is_exact: bool,
}

/// Every stack, by its slot in the kernel side's table.
#[derive(Default)]
pub(super) struct Frames {
    by_slot: FxHashMap<u32, Stack>,
    symbolizer: Option<(KernelSymbolizer, Modules)>,
    ids: FxHashMap<String, ModuleId>,
    /// The kernel's addresses of places.
    addresses: FxHashMap<LocationId, u64>,
}

impl Frames {
    /// Adds a stack, without its first `own` frames.
    pub(super) fn insert(&mut self, dictionary: &mut Dictionary, slot: u32, own: usize, pcs: &[u64]) {
        let pcs = pcs.get(own..).unwrap_or_default();
        let frames: Vec<LocationId> = pcs.iter().map(|&pc| self.location(dictionary, pc)).collect();
        let whole = dictionary.add_stack(&frames, None);
        self.by_slot.insert(slot, Stack { whole, trimmed: None, is_exact: own > 0 });
    }

    /// A stack with every frame; `None` if these have not arrived.
    pub(super) fn whole(&self, slot: u32) -> Option<StackId> {
        self.by_slot.get(&slot).map(|stack| stack.whole)
    }

    /// A stack from the allocating function's caller outwards, with the names of its functions.
    pub(super) fn named(&mut self, dictionary: &mut Dictionary, slot: u32) -> Option<StackId> {
        let Stack { whole, trimmed, is_exact } = *self.by_slot.get(&slot)?;
        if trimmed.is_some() {
            return trimmed;
        }
        let frames = dictionary.frames(whole).to_vec();
        for id in &frames {
            self.name(dictionary, *id);
        }
        let is_inner = |id: &&LocationId| dictionary.frames_at(**id).any(|frame| is_inner(frame.function));
        let inner = if is_exact { 0 } else { frames.iter().take_while(is_inner).count() };
        // A stack that consists of nothing else is shown unchanged.
        let named = match frames.get(inner..) {
            Some(outer) if inner > 0 && !outer.is_empty() => dictionary.add_stack(outer, None),
            _ => whole,
        };
        if let Some(stack) = self.by_slot.get_mut(&slot) {
            stack.trimmed = Some(named);
        }
        Some(named)
    }

    /// Whether the pages that this stack allocates count as one of these other kinds.
    pub(super) fn is_elsewhere(
        &mut self,
        dictionary: &mut Dictionary,
        slot: u32,
        kinds: &[KernelKind],
    ) -> bool {
        let Some(whole) = self.whole(slot) else { return false };
        dictionary.frames(whole).to_vec().into_iter().any(|id| {
            self.name(dictionary, id);
            dictionary
                .frames_at(id)
                .filter_map(|frame| frame.function)
                .any(|name| ELSEWHERE.iter().any(|(kind, part)| kinds.contains(kind) && name.contains(part)))
        })
    }

    fn symbolizer(&mut self) -> &mut (KernelSymbolizer, Modules) {
        self.symbolizer
            .get_or_insert_with(|| (KernelSymbolizer::default(), Modules::read().unwrap_or_default()))
    }

    /// The place of a return address. Addresses are relative to the start of the kernel or the module.
    fn location(&mut self, dictionary: &mut Dictionary, address: u64) -> LocationId {
        let (symbolizer, modules) = self.symbolizer();
        let (name, base) = match modules.find(address.saturating_sub(1)) {
            Some(module) => (module.name.clone(), module.base),
            None => (KERNEL_CODE.to_owned(), symbolizer.text()),
        };
        let id = *self
            .ids
            .entry(name)
            .or_insert_with_key(|name| dictionary.add_module(&name.as_str().into(), None));
        let location = dictionary.add_location(id, address.wrapping_sub(base), true);
        self.addresses.insert(location, address);
        location
    }

    /// Names a place, unless it has a name.
    fn name(&mut self, dictionary: &mut Dictionary, id: LocationId) {
        let is_named = dictionary.location(id).is_none_or(|location| location.lines.is_some());
        let Some(address) = self.addresses.get(&id).copied().filter(|_| !is_named) else { return };
        let line = self.symbolizer().0.name(address).map(|(name, start)| {
            let name = dictionary.add_shared_text(&name);
            let function = Some(dictionary.add_function(name, None));
            Line { function, file: None, line: None, offset: address.saturating_sub(start), inlined: false }
        });
        dictionary.name(id, line.into_iter().collect());
    }
}

fn is_inner(function: Option<&str>) -> bool {
    function.is_some_and(|name| INNER.iter().any(|inner| name.starts_with(inner)))
}
