//! /proc/vmallocinfo: the existing areas of virtually contiguous memory.

use std::{fs, io};

use rustc_hash::FxHashMap;

/// Callers that are told apart; the areas of others are summed up under an empty name.
const MAX_CALLERS: usize = 1024;

/// Areas, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// How many.
    pub count: u64,
    /// Bytes of address space, with their guard pages.
    pub bytes: u64,
}

/// Those of the running kernel.
///
/// # Errors
/// The file cannot be read: this needs root.
pub fn read() -> io::Result<Areas> {
    fs::read_to_string("/proc/vmallocinfo").map(|text| parse(&text))
}

/// Pages of areas by the function that made them, without its module; only of areas that have pages of their own.
pub(super) fn by_caller(text: &str) -> FxHashMap<String, Areas> {
    let mut callers: FxHashMap<String, Areas> = FxHashMap::default();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let Some(caller) = fields.next().and_then(|caller| caller.split('+').next()) else { continue };
        let pages = fields.find_map(|field| field.strip_prefix("pages=")?.parse::<u64>().ok());
        let Some(pages) = pages else { continue };
        let is_new = !callers.contains_key(caller);
        let name = if is_new && callers.len() >= MAX_CALLERS { "" } else { caller };
        let areas = callers.entry(name.to_owned()).or_default();
        areas.count += 1;
        areas.bytes = areas.bytes.saturating_add(pages.saturating_mul(4096));
    }
    callers
}

/// `start-end bytes caller …`; areas in use are followed by freed ones that have not been returned yet. Addresses may be
/// hashed.
fn parse(text: &str) -> Areas {
    text.lines().filter(|line| !line.contains("unpurged vm_area")).fold(Areas::default(), |areas, line| {
        match line.split_ascii_whitespace().nth(1).and_then(|bytes| bytes.parse::<u64>().ok()) {
            Some(bytes) => Areas { count: areas.count + 1, bytes: areas.bytes.saturating_add(bytes) },
            None => areas,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Areas, by_caller, parse};

    #[test]
    fn areas_in_use_are_counted() {
        let text = "0x00000000f8c031d0-0x00000000d49a3b50   20480 irq_init_percpu_irqstack+0xca/0x100 vmap\n\
                    0x000000007b9060e4-0x000000005e42038c   12288 kernel_clone+0x94/0x3e0 pages=2 vmalloc N0=2\n\
                    0xffffc90000025000-0xffffc90000027000    8192 unpurged vm_area\n\
                    damaged\n";
        assert_eq!(parse(text), Areas { count: 2, bytes: 32_768 });
    }
    #[test]
    fn pages_are_counted_by_caller() {
        let text = "0x1-0x2 20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4\n\
                    0x2-0x3 20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4\n\
                    0x3-0x4 8192 pci_map+0x1/0x2 phys=0x0000 ioremap\n\
                    0x4-0x5 8192 unpurged vm_area\n";
        let callers = by_caller(text);
        assert_eq!(callers.len(), 1);
        assert_eq!(callers["kernel_clone"], Areas { count: 2, bytes: 32_768 });
        let many: String = (0..2000).map(|at| format!("0-1 8192 f{at}+0x1/0x2 pages=1 vmalloc\n")).collect();
        assert_eq!((by_caller(&many).len(), by_caller(&many)[""].count), (1025, 976));
    }
}
