//! /proc/slabinfo: what each slab cache holds, whoever allocated or freed it.

use std::{fs, io, path::Path};

use rustc_hash::FxHashMap;

/// One cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slab {
    /// Objects in use. SLUB counts what CPUs keep at hand as in use.
    pub active: u64,
    /// Bytes of an object.
    pub size: u64,
    /// Objects in a slab.
    pub per_slab: u64,
}

/// Caches by name. Several of one name are added up.
pub type Slabs = FxHashMap<String, Slab>;

/// The caches of the running kernel.
///
/// # Errors
/// The file cannot be read (that takes root), or lists nothing.
pub fn read() -> io::Result<Slabs> {
    let slabs = parse(&fs::read_to_string("/proc/slabinfo")?);
    if slabs.is_empty() { Err(io::Error::other("it lists no caches")) } else { Ok(slabs) }
}

/// `name active_objs num_objs objsize objperslab …`, after two lines of heading.
fn parse(text: &str) -> Slabs {
    let mut slabs = Slabs::default();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("slabinfo")) {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.next() else { continue };
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (Some(active), Some(_), Some(size), Some(per_slab)) = (number(), number(), number(), number())
        else {
            continue;
        };
        let slab = slabs.entry(name.to_owned()).or_default();
        *slab = Slab { active: slab.active.saturating_add(active), size, per_slab };
    }
    slabs
}

/// Other names of caches: caches of equal objects are one, which /proc/slabinfo lists by one of their names.
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

/// How many objects /proc/slabinfo can be off by: those in slabs that CPUs keep at hand count as in use, whether they are
/// or not.
#[must_use]
pub fn slack(name: &str, slab: Slab) -> u64 {
    let directory = Path::new("/sys/kernel/slab").join(name);
    let number =
        |file: &str| -> Option<u64> { fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok() };
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    // mm/slub.c, set_cpu_partial: the fewer the larger.
    let partial = number("cpu_partial").unwrap_or(match slab.size {
        4096.. => 6,
        1024.. => 24,
        256.. => 52,
        _ => 120,
    });
    let sheaves = number("sheaf_capacity").unwrap_or(0).saturating_mul(2);
    cpus.saturating_mul(slab.per_slab.saturating_add(partial).saturating_add(sheaves))
}

#[cfg(test)]
mod tests {
    use super::{Slab, parse, slack};

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
        assert_eq!(slabs["eventpoll_epi"], Slab { active: 352, size: 128, per_slab: 32 });
        assert_eq!(slabs["twice"].active, 3);
    }

    #[test]
    fn small_objects_can_be_off_by_more() {
        let of = |size| slack("no such cache", Slab { active: 0, size, per_slab: 10 });
        assert!(of(64) > of(512) && of(512) > of(8192));
    }
}
