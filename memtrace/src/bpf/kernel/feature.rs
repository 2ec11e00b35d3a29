//! Whether kernel mode works here, found out by trying.

use super::{config::KernelConfig, tracer::KernelTracer};
use crate::bpf::shared::{error::Error, feature::Feature};

/// Loads kernel mode's programs with small tables, and lets them go again.
pub(in super::super) fn feature() -> Feature {
    let config = KernelConfig { max_live: 1, max_stacks: 1, ..KernelConfig::default() };
    let attempt = KernelTracer::load(&config);
    let (detail, advice) = match &attempt {
        Ok(tracer) => {
            let caches = if tracer.knows_caches() { "every cache known" } else { "kmalloc's caches unknown" };
            let unannounced =
                if tracer.examines_slabs() { "found in their slabs" } else { "told by /proc/slabinfo" };
            let bulk = if tracer.sees_bulk() { ", frees in bulk seen" } else { "" };
            (format!("by tracepoints, {caches}{bulk}, objects freed unseen {unannounced}"), "")
        }
        Err(Error::NoBtf) => ("not without BTF".to_owned(), "boot a kernel with CONFIG_DEBUG_INFO_BTF"),
        Err(error) => (error.to_string(), "`memtrace -v kernel` tells more"),
    };
    Feature { name: "kernel mode", available: attempt.is_ok(), required: false, detail, advice }
}
