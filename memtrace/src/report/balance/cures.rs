//! What makes an allocator keep less of what was freed.

use std::borrow::Cow;

/// Names of C libraries' allocators. A process has one of these in any case: another one takes its place.
const LIBC: [&str; 3] = ["glibc", "musl", "libc (static)"];

/// The allocator that keeps memory, of those of a process, if there is one only.
pub(super) fn keeper(allocators: &[String]) -> Option<&str> {
    let is_libc = |name: &&String| LIBC.contains(&name.as_str());
    let mut others = allocators.iter().filter(|name| !is_libc(name));
    match (others.next(), others.next(), allocators) {
        (Some(other), None, _) => Some(other),
        (None, None, [libc]) => Some(libc),
        _ => None,
    }
}

/// Settings of an allocator that make it keep less; `None` where none are known.
pub(super) fn cure(allocator: &str) -> Option<Cow<'static, str>> {
    const CURES: [(&str, &str); 7] = [
        // mallopt(3), malloc_trim(3).
        ("glibc", "MALLOC_ARENA_MAX=2, malloc_trim(0) from time to time, or another allocator"),
        ("musl", "another allocator"),
        ("libc", "another allocator"),
        // docs/tcmalloc.html of gperftools.
        ("tcmalloc", "TCMALLOC_RELEASE_RATE=10 or MallocExtension::ReleaseFreeMemory()"),
        // docs/tuning.md of Google's.
        ("google tcmalloc", "tcmalloc::MallocExtension::ReleaseMemoryToSystem() from time to time"),
        // Environment options in mimalloc's readme.
        ("mimalloc", "MIMALLOC_PURGE_DELAY=0 or mi_collect(true)"),
        // TUNING.md of jemalloc.
        ("jemalloc", "MALLOC_CONF=background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0"),
    ];
    let (name, how) = allocator.split_once(" (").unwrap_or((allocator, "static)"));
    let (_, cure) = CURES.into_iter().find(|(of, _)| *of == name)?;
    // The variable has the prefix too: `_RJEM_MALLOC_CONF`.
    match how.strip_suffix(')') {
        Some(prefix) if name == "jemalloc" && prefix != "static" => {
            Some(Cow::Owned(format!("{}{cure}", prefix.to_ascii_uppercase())))
        }
        _ => Some(Cow::Borrowed(cure)),
    }
}

#[cfg(test)]
mod tests {
    use super::{cure, keeper};

    #[test]
    fn each_allocator_has_its_own_cure() {
        for (allocators, name, part) in [
            (&["glibc"][..], Some("glibc"), Some("MALLOC_ARENA_MAX")),
            (&["glibc", "jemalloc"], Some("jemalloc"), Some("MALLOC_CONF=background_thread:true")),
            (&["glibc", "jemalloc (_rjem_)"], Some("jemalloc (_rjem_)"), Some("_RJEM_MALLOC_CONF=")),
            (&["jemalloc (static)", "glibc"], Some("jemalloc (static)"), Some("MALLOC_CONF=")),
            (&["glibc", "tcmalloc"], Some("tcmalloc"), Some("TCMALLOC_RELEASE_RATE")),
            (
                &["google tcmalloc (static)"],
                Some("google tcmalloc (static)"),
                Some("tcmalloc::MallocExtension"),
            ),
            (&["glibc", "mimalloc"], Some("mimalloc"), Some("MIMALLOC_PURGE_DELAY")),
            (&["musl"], Some("musl"), Some("another allocator")),
            (&["libc (static)"], Some("libc (static)"), Some("another allocator")),
            (&["glibc", "libpool.so"], Some("libpool.so"), None),
            (&["glibc", "jemalloc", "mimalloc"], None, None),
            (&[], None, None),
        ] {
            let all: Vec<String> = allocators.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(keeper(&all), name, "{allocators:?}");
            let cure = keeper(&all).and_then(cure);
            assert_eq!(cure.is_some(), part.is_some(), "{allocators:?}: {cure:?}");
            assert!(cure.unwrap_or_default().starts_with(part.unwrap_or_default()), "{allocators:?}");
        }
    }
}
