//! /proc/vmallocinfo: the existing areas of virtually contiguous memory.

use std::{fs, io};

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
    use super::{Areas, parse};

    #[test]
    fn areas_in_use_are_counted() {
        let text = "0x00000000f8c031d0-0x00000000d49a3b50   20480 irq_init_percpu_irqstack+0xca/0x100 vmap\n\
                    0x000000007b9060e4-0x000000005e42038c   12288 kernel_clone+0x94/0x3e0 pages=2 vmalloc N0=2\n\
                    0xffffc90000025000-0xffffc90000027000    8192 unpurged vm_area\n\
                    damaged\n";
        assert_eq!(parse(text), Areas { count: 2, bytes: 32_768 });
    }
}
