//! Who allocated: the innermost function of a stack that is the program's own.

mod generated;
mod glue;
mod linked;
mod wrappers;

use std::borrow::Cow;

use super::names::path;
use crate::profile::Frame;

/// What a function of a stack belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An allocator, or a function that only calls one (`xmalloc`).
    Allocator,
    /// The language's libraries: containers, `strdup`, closures' wrappers.
    Library,
    /// A runtime that generates the code of others, and what comes with it.
    Runtime,
    /// What starts a program or a thread, before `main`.
    Startup,
    /// Anything else: the program and the libraries that it chose.
    Code,
}

/// Files of C and C++ libraries and loaders.
const LIBRARIES: [&str; 11] = [
    "libc.",
    "libc-",
    "libstdc++.",
    "libc++.",
    "libc++abi.",
    "libgcc_s.",
    "ld-linux",
    "ld-musl",
    "ld.so",
    "libpthread",
    "libdl",
];

/// Files of allocators.
const ALLOCATORS: [&str; 5] = ["libjemalloc", "libtcmalloc", "libmimalloc", "libsnmalloc", "libscudo"];

/// Where C++ libraries have their templates. Instances with a lambda are local to a function: their names do not say `std`.
const HEADERS: [&str; 2] = ["/include/c++/", "/c++/v1/"];
/// How names in `std` and `__gnu_cxx` begin, if they could not be demangled.
const MANGLED: [&str; 5] = ["_ZSt", "_ZNSt", "_ZNKSt", "_ZN9__gnu_cxx", "_ZNK9__gnu_cxx"];

/// The same of functions that are compiled into a program, by the path's first part.
const NAMESPACES: [&str; 8] =
    ["std", "__gnu_cxx", "__cxxabiv1", "alloc", "core", "hashbrown", "__rustc", "__libc"];

/// Functions that start a program or a thread: glibc, musl, libstdc++, Rust.
const STARTUP: [&str; 19] = [
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "libc_start_main_stage2",
    "start_thread",
    "clone3",
    "__clone",
    "__clone3",
    "execute_native_thread_routine",
    "std::rt::",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::sys::thread::",
    "std::sys::pal::unix::thread::",
    "std::thread::",
    "std::panic::",
    "std::panicking::",
    "core::panic::unwind_safe::",
    "std::__invoke_impl",
];

impl Part {
    /// What each frame of a stack belongs to.
    pub(super) fn all(frames: &[Frame<'_>]) -> impl Iterator<Item = Self> {
        let of_libc = linked::innermost(frames);
        let runtime = generated::Runtime::of(frames);
        frames.iter().enumerate().map(move |(at, frame)| match Self::of(frame) {
            Self::Code if at < of_libc => Self::Library,
            Self::Code | Self::Library if runtime.has(frame) => Self::Runtime,
            Self::Code if frames.get(at + 1).is_some_and(|caller| glue::is_called(frame, caller)) => {
                Self::Allocator
            }
            Self::Code if is_inside(frames.get(at..).unwrap_or_default()) => Self::Allocator,
            part => part,
        })
    }

    /// What a frame belongs to, by the name of its function, else by its file.
    fn of(frame: &Frame<'_>) -> Self {
        let is_in = |files: &[&str]| is_in(frame, files);
        if frame.function.is_some_and(glue::implements) {
            return Self::Allocator;
        }
        if frame.function.is_some_and(glue::is_of_primitive) {
            return Self::Library;
        }
        let named = frame.function.map(path).as_deref().and_then(Self::of_path);
        match named {
            Some(part) => part,
            None if is_in(&ALLOCATORS) => Self::Allocator,
            // Elsewhere this is a name like any other.
            None if is_in(&LIBRARIES) && frame.function == Some("clone") => Self::Startup,
            None if is_in(&LIBRARIES) || is_of_cpp(frame) => Self::Library,
            None => Self::Code,
        }
    }

    fn of_path(path: &str) -> Option<Self> {
        let path = path.trim_start_matches(['&', '*', '[']);
        let path = path.strip_prefix("dyn ").or(path.strip_prefix("mut ")).unwrap_or(path);
        let starts = |name: &&str| {
            if name.ends_with("::") { path.starts_with(*name) } else { path == *name }
        };
        if STARTUP.iter().any(starts) {
            return Some(Self::Startup);
        }
        let name = path.rsplit_once("::").map_or(path, |(_, name)| name);
        if name.starts_with("operator new") || wrappers::is_wrapper(path) {
            return Some(Self::Allocator);
        }
        let (first, is_scoped) = path.split_once("::").map_or((path, false), |(first, _)| (first, true));
        // `<T as Into<U>>::into`: generic code of a library.
        let is_parameter = first.len() == 1 && first.chars().all(|c| c.is_ascii_uppercase());
        let is_library = is_scoped && (NAMESPACES.contains(&first) || is_parameter);
        is_library.then_some(Self::Library)
    }
}

/// Whether the innermost of these functions has no name and is part of a wrapper: that calls it, or another one without a name.
fn is_inside(frames: &[Frame<'_>]) -> bool {
    let Some(frame) = frames.first().filter(|frame| frame.function.is_none()) else { return false };
    let mut callers =
        frames.iter().skip(1).skip_while(|caller| caller.function.is_none() && caller.module == frame.module);
    callers.next().is_some_and(|caller| frame.module == caller.module && Part::of(caller) == Part::Allocator)
}

fn is_in(frame: &Frame<'_>, files: &[&str]) -> bool {
    files.iter().any(|name| frame.file_name().starts_with(name))
}

/// Whether a frame is in a file of a C or C++ library.
fn is_of_library(frame: &Frame<'_>) -> bool {
    is_in(frame, &LIBRARIES)
}

/// Whether a function is of a C++ library's templates, by its source file or its mangled name.
fn is_of_cpp(frame: &Frame<'_>) -> bool {
    frame.file.is_some_and(|file| HEADERS.iter().any(|part| file.contains(part)))
        || frame.function.is_some_and(|name| MANGLED.iter().any(|begin| name.starts_with(begin)))
}

/// The place of the frame to blame: the innermost of the program's own. If there is none, the outermost function of a
/// library, which is what was called. `None` for an empty stack.
#[must_use]
pub(super) fn culprit(frames: &[Frame<'_>]) -> Option<usize> {
    let own = Part::all(frames).position(|part| part == Part::Code);
    let last = |is_it: &dyn Fn(Part) -> bool| {
        Part::all(frames).enumerate().filter(|(_, part)| is_it(*part)).last().map(|(at, _)| at)
    };
    let of_library = || last(&|part| part == Part::Library);
    let any = || last(&|part| part != Part::Startup);
    own.or_else(of_library).or_else(any).or((!frames.is_empty()).then_some(0))
}

/// What frames that are folded are part of.
pub(super) fn folded<'a>(part: Part, frames: &'a [Frame<'a>]) -> Cow<'a, str> {
    match part {
        Part::Runtime => Cow::Borrowed(generated::name(frames)),
        _ => frames.last().map_or(Cow::Borrowed(""), library),
    }
}

/// What a frame of a library is part of, for people: `std::vector`, `alloc::vec::Vec`, `libc.so.6`.
fn library<'a>(frame: &Frame<'a>) -> Cow<'a, str> {
    let of_file = || Cow::Borrowed(frame.file_name());
    match frame.function.map(path) {
        Some(path) => match path.rsplit_once("::") {
            Some((of, _)) => Cow::Owned(of.to_owned()),
            None if is_of_library(frame) => of_file(),
            None => Cow::Borrowed("libc, linked statically"),
        },
        None => of_file(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, culprit, library};
    use crate::report::tests::named as frame;

    #[test]
    fn functions_belong_to_allocators_libraries_and_code() {
        for (part, names) in [
            (
                Part::Allocator,
                &[
                    "malloc",
                    "operator new(unsigned long)",
                    "v8::internal::Malloced::operator new(unsigned long)",
                    "_PyType_AllocNoTrack",
                    "xmalloc",
                    "g_malloc0",
                    "PyMem_RawMalloc",
                    "__rust_alloc",
                    "ztrymalloc_usable_internal",
                    "CRYPTO_malloc",
                    "sqlite3Malloc",
                    "xstrdup",
                    "MemoryContextAlloc",
                    "_PyObject_Malloc",
                    "palloc0",
                    "__libc_calloc",
                    "Perl_safesysmalloc",
                    "Tcl_AttemptRealloc",
                    "xasprintf",
                ][..],
            ),
            (
                Part::Library,
                &[
                    "std::vector<int>::push_back(int const&)",
                    "void std::vector<A<B>>::_M_realloc_insert<int>(int&&)",
                    "<alloc::vec::Vec<T> as core::iter::Extend<T>>::extend",
                    "<T as core::convert::Into<U>>::into",
                    "hashbrown::raw::RawTable<T,A>::reserve_rehash",
                    "__gnu_cxx::new_allocator<int>::allocate(unsigned long)",
                    "core::ops::function::FnOnce::call_once",
                ],
            ),
            (
                Part::Startup,
                &[
                    "_start",
                    "__libc_start_call_main",
                    "start_thread",
                    "clone3",
                    "std::rt::lang_start::{{closure}}",
                    "std::thread::Builder::spawn_unchecked_::{{closure}}",
                ],
            ),
            (
                Part::Code,
                &[
                    "main",
                    "alloc_session",
                    "Pool::alloc(int)",
                    "handle_request",
                    "<app::Cache as core::fmt::Debug>::fmt",
                    "stdio_open",
                    "forget_session(int)",
                    "void serve<std::string>(std::string)",
                    "mallocator",
                    "printf",
                    "x",
                    "",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(Part::of(&frame(name, "/srv/app")), part, "{name}");
            }
        }
        assert_eq!(Part::of(&frame("getaddrinfo", "/usr/lib/libc.so.6")), Part::Library);
        let in_file = |name, file| Part::of(&super::Frame { file: Some(file), ..frame(name, "/srv/app") });
        let local = "_M_create<subscribe(int)::{lambda()#1}>";
        assert_eq!(in_file(local, "/usr/include/c++/12/bits/std_function.h"), Part::Library);
        assert_eq!(in_file(local, "/srv/src/app.cc"), Part::Code);
        let undemangled = "_ZSt11make_sharedI4PeerJEESt10shared_ptrINSt9enable_ifIXntsrSt8is_arrayIT_E5valueES3_E4typeEEDpOT0_";
        assert_eq!(in_file(undemangled, "/srv/src/app.cc"), Part::Library);
        assert_eq!(Part::of(&frame("", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")), Part::Allocator);
        assert_eq!(Part::of(&frame("png_read", "/usr/lib/libpng.so")), Part::Code);
    }

    #[test]
    fn the_innermost_function_of_the_program_is_to_blame() {
        let stack = |names: &[(&'static str, &'static str)]| {
            names.iter().map(|(name, module)| frame(name, module)).collect::<Vec<_>>()
        };
        let (app, libc) = ("/srv/app", "/usr/lib/libc.so.6");
        for (frames, place) in [
            (
                &[
                    ("operator new(unsigned long)", "/usr/lib/libstdc++.so.6"),
                    ("std::list<int>::push_back(int)", app),
                    ("keep(int)", app),
                    ("main", app),
                ][..],
                Some(2),
            ),
            (&[("strdup", libc), ("", app), ("main", app)], Some(1)),
            (&[("xmalloc", app)], Some(0)),
            (&[("", app), ("", app), ("MemoryContextAlloc", app), ("copy", app)], Some(3)),
            (&[("", app), ("MemoryContextAllocZero", app), ("copy", app), ("main", app)], Some(2)),
            (
                &[("", app), ("operator new(unsigned long)", "/usr/lib/libstdc++.so.6"), ("main", app)],
                Some(0),
            ),
            (&[("", libc), ("getaddrinfo", libc), ("__libc_start_main", libc)], Some(1)),
            (&[("_start", app)], Some(0)),
            (&[], None),
        ] {
            assert_eq!(culprit(&stack(frames)), place, "{frames:?}");
        }
    }

    #[test]
    fn a_library_is_named_by_its_type_or_file() {
        for (name, module, of) in [
            ("std::vector<int, std::allocator<int> >::push_back(int&&)", "/srv/app", "std::vector"),
            ("<alloc::vec::Vec<T> as Extend>::extend", "/srv/app", "alloc::vec::Vec"),
            ("fopen", "/usr/lib/libc.so.6", "libc.so.6"),
            ("", "/usr/lib/libstdc++.so.6", "libstdc++.so.6"),
            ("regcomp", "/srv/app", "libc, linked statically"),
        ] {
            assert_eq!(library(&frame(name, module)), of);
        }
    }
}
