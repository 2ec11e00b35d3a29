//! Scanned heaps as metrics.

use super::Page;
use crate::profile::{Finding, Heap, Profile};
use crate::report::{escape::short, heap::HeapView};

/// A figure of a heap; `None`: unknown.
type Value = fn(&Heap) -> Option<u64>;

/// Its metrics, the unit, what they are, and the figures.
const FAMILIES: [(&str, &str, &str, Value); 7] = [
    ("heap_in_use_bytes", "bytes", "Bytes of blocks in use, by the allocator's records.", |heap| {
        Some(heap.in_use.bytes)
    }),
    ("heap_in_use_blocks", "blocks", "Blocks in use, by the allocator's records.", |heap| {
        Some(heap.in_use.blocks)
    }),
    ("heap_kept_bytes", "bytes", "Free memory that the allocator keeps.", |heap| Some(heap.kept().bytes())),
    ("heap_trimmable_bytes", "bytes", "The part of it that the allocator could give back.", |heap| {
        Some(heap.kept().trimmable)
    }),
    ("heap_lost_bytes", "bytes", "Bytes of blocks that nothing points to; none without a verdict.", |heap| {
        decided(heap).then(|| heap.check.reached.lost().bytes)
    }),
    ("heap_lost_blocks", "blocks", "Blocks that nothing points to; none without a verdict.", |heap| {
        decided(heap).then(|| heap.check.reached.lost().blocks)
    }),
    (
        "heap_complete",
        "",
        "1 if all blocks were found and everything that may point to them was read.",
        |heap| Some(u64::from(heap.is_complete())),
    ),
];

fn decided(heap: &Heap) -> bool {
    heap.verdict == Finding::Decided
}

/// Adds the heaps of a report.
pub(super) fn heaps(page: &mut Page, profile: &Profile, heaps: &[HeapView<'_>]) {
    page.gauge("report_timestamp_seconds", "seconds", "When the report was made, as Unix time.");
    page.value("report_timestamp_seconds", &[], profile.time.as_second());
    for (family, unit, help, value) in FAMILIES {
        page.gauge(family, unit, help);
        for HeapView { heap, .. } in heaps {
            let Some(value) = value(heap) else { continue };
            let pid = heap.process.pid.to_string();
            let labels =
                [("pid", pid.as_str()), ("comm", &heap.process.comm), ("allocator", &heap.allocator)];
            page.value(family, &labels, value);
        }
    }
    page.gauge("heap_size_lost_blocks", "blocks", "Lost blocks of a size and C++ type.");
    for view in heaps.iter().filter(|view| decided(view.heap)) {
        let pid = view.heap.process.pid.to_string();
        for class in view.heap.classes.iter().filter(|class| class.lost > 0).take(super::STACKS) {
            let (size, name) = (class.size.to_string(), class.type_name.as_deref().map(short));
            let mut labels = vec![("pid", pid.as_str()), ("size", &size)];
            labels.extend(name.as_deref().map(|name| ("type", name)));
            page.value("heap_size_lost_blocks", &labels, class.lost);
        }
    }
}
