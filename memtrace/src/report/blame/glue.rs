//! Methods of Rust's allocators, between the program and functions that allocate.

use super::{NAMESPACES, path};
use crate::profile::Frame;

/// Traits of allocators, as a function that implements one has them in its name.
const TRAITS: [&str; 2] = [" as core::alloc::global::GlobalAlloc>::", " as core::alloc::Allocator>::"];

/// What the methods of these traits are called that allocate.
const METHODS: [&str; 8] =
    ["alloc", "alloc_zeroed", "realloc", "allocate", "allocate_zeroed", "grow", "grow_zeroed", "shrink"];

/// Whether a function is a method of an allocator by its name.
pub(super) fn implements(name: &str) -> bool {
    TRAITS.iter().any(|of| name.contains(of))
}

/// Whether a function is the standard library's for a type that has no crate: `<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem`.
pub(super) fn is_of_primitive(name: &str) -> bool {
    let parts = name.strip_prefix('<').and_then(|name| name.split_once(" as "));
    parts.is_some_and(|(of, implemented)| {
        let namespace = implemented.split_once("::").map(|(first, _)| first);
        (of.starts_with('[') || !of.contains("::"))
            && namespace.is_some_and(|first| NAMESPACES.contains(&first))
    })
}

/// Whether a function is a method of an allocator whose name has lost the trait: what calls it is Rust's glue.
pub(super) fn is_called(frame: &Frame<'_>, caller: &Frame<'_>) -> bool {
    let is_method =
        |name: &str| path(name).rsplit_once("::").is_some_and(|(_, name)| METHODS.contains(&name));
    let is_glue = |name: &str| {
        let path = path(name);
        let last = path.rsplit("::").next().unwrap_or_default();
        ["alloc::alloc::", "alloc::raw_vec::"].iter().any(|module| path.starts_with(module))
            || ["__rust_", "__rg_"].iter().any(|prefix| last.starts_with(prefix))
    };
    frame.function.is_some_and(is_method) && caller.function.is_some_and(is_glue)
}

#[cfg(test)]
mod tests {
    use crate::report::{blame::culprit, tests::named};

    #[test]
    fn methods_of_allocators_are_passed_over() {
        for (names, place) in [
            (
                &[
                    "<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc",
                    "alloc::alloc::alloc",
                    "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
                    "app::keep_request",
                    "app::main",
                ][..],
                3,
            ),
            (&["<app::Counting<T> as core::alloc::global::GlobalAlloc>::realloc", "app::keep_request"], 1),
            (&["snmalloc_rs::SnMalloc::alloc_zeroed", "__rustc::__rust_alloc_zeroed", "app::keep"], 2),
            (&["mimalloc::{impl#0}::realloc", "__rg_realloc", "app::keep"], 2),
            (&["rpmalloc::RpMalloc::alloc", "alloc::alloc::Global::alloc_impl", "app::keep"], 2),
            (&["<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem", "app::keep"], 1),
            (&["<[app::Row] as alloc::slice::Join<&str>>::join", "app::keep"], 1),
            (&["<u8 as app::Keep>::keep", "app::keep"], 0),
            (&["<app::Row as core::clone::Clone>::clone", "app::keep"], 0),
            // A pool of the program's.
            (&["app::Pool::alloc", "app::keep"], 0),
            (&["app::serve", "alloc::alloc::alloc", "app::keep"], 0),
        ] {
            let frames: Vec<_> = names.iter().map(|name| named(name, "/srv/app")).collect();
            assert_eq!(culprit(&frames), Some(place), "{names:?}");
        }
    }
}
