//! /proc/slabinfo: the objects of each slab cache, however they were allocated or freed.

use std::{fs, io, path::Path};

use rustc_hash::FxHashMap;

/// One cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slab {
    /// Objects in use. SLUB counts objects that CPUs cache as in use.
    pub active: u64,
    /// Bytes of an object.
    pub size: u64,
    /// Bytes of the slabs, free objects included.
    pub bytes: u64,
}

/// Caches by name. Several of one name are added up.
pub type Slabs = FxHashMap<String, Slab>;

/// The caches of the running kernel.
///
/// # Errors
/// The file cannot be read (this needs root), or lists nothing.
pub fn read() -> io::Result<Slabs> {
    let slabs = parse(&fs::read_to_string("/proc/slabinfo")?);
    if slabs.is_empty() { Err(io::Error::other("it lists no caches")) } else { Ok(slabs) }
}

/// `name active_objs num_objs objsize objperslab pagesperslab …`, after two lines of heading.
pub(super) fn parse(text: &str) -> Slabs {
    let mut slabs = Slabs::default();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("slabinfo")) {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.next() else { continue };
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (Some(active), Some(objects), Some(size)) = (number(), number(), number()) else {
            continue;
        };
        // Of pages only as many as slabs take; where those are missing, the objects without rounding.
        let (each, pages) = (number().unwrap_or_default(), number().unwrap_or_default());
        let bytes = match objects.checked_div(each) {
            Some(slabs) => slabs.saturating_mul(pages).saturating_mul(4096),
            None => objects.saturating_mul(size),
        };
        let slab = slabs.entry(name.to_owned()).or_default();
        *slab = Slab {
            active: slab.active.saturating_add(active),
            size,
            bytes: slab.bytes.saturating_add(bytes),
        };
    }
    slabs
}

/// Aliases of caches: caches of similar objects are merged, and /proc/slabinfo lists them under one of their names.
///
/// Returns pairs of a name and the one in `slabs`.
#[must_use]
pub fn aliases(slabs: &Slabs) -> Vec<(String, String)> {
    const DIRECTORY: &str = "/sys/kernel/slab";
    let target = |name: &str| fs::read_link(Path::new(DIRECTORY).join(name)).ok();
    let listed: FxHashMap<_, &String> = slabs.keys().filter_map(|name| Some((target(name)?, name))).collect();
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !slabs.contains_key(name))
        .filter_map(|name| Some((listed.get(&target(&name)?)?.to_string(), name)))
        .map(|(listed, name)| (name, listed))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Slab, parse};

    #[test]
    fn caches_are_read() {
        let text = "slabinfo - version: 2.1\n\
            # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n\
            eventpoll_epi        352    352    128   32    1 : tunables    0    0    0 : slabdata     11     11      0\n\
            twice 1 2 8 512 1\n\
            twice 2 2 8 512 1\n\
            damaged x\n";
        let slabs = parse(text);
        assert_eq!(slabs.len(), 2);
        assert_eq!(slabs["eventpoll_epi"], Slab { active: 352, size: 128, bytes: 11 * 4096 });
        assert_eq!((slabs["twice"].active, slabs["twice"].bytes), (3, 0));
    }
}
