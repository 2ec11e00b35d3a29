//! Functions of a C library that was linked into a program, where no file tells them from the program's own.

use super::{Part, is_of_library};
use crate::profile::Frame;

/// Functions of C and POSIX that allocate and that do not call back. Those whose names say so are known anyway (`strdup`).
const ENTRIES: [&str; 62] = [
    "asprintf",
    "backtrace_symbols",
    "canonicalize_file_name",
    "dlopen",
    "duplocale",
    "fclose",
    "fdopen",
    "fdopendir",
    "fflush",
    "fgetc",
    "fgets",
    "fmemopen",
    "fopen",
    "fopen64",
    "fprintf",
    "fputc",
    "fputs",
    "fread",
    "freopen",
    "fscanf",
    "fwrite",
    "get_current_dir_name",
    "getaddrinfo",
    "getcwd",
    "getdelim",
    "getgrgid",
    "getgrnam",
    "gethostbyname",
    "getifaddrs",
    "getline",
    "getpwnam",
    "getpwuid",
    "glob",
    "hcreate",
    "hcreate_r",
    "iconv_open",
    "if_nameindex",
    "localtime",
    "mktime",
    "newlocale",
    "open_memstream",
    "opendir",
    "openlog",
    "popen",
    "printf",
    "pthread_create",
    "putenv",
    "puts",
    "re_compile_pattern",
    "re_search",
    "realpath",
    "regcomp",
    "regexec",
    "scanf",
    "setenv",
    "setlocale",
    "setvbuf",
    "sscanf",
    "syslog",
    "tempnam",
    "vasprintf",
    "wordexp",
];

/// Functions that call back: what is inside them may be the program's.
const CALLERS: [&str; 8] = [
    "qsort",
    "qsort_r",
    "__qsort_r",
    "bsearch",
    "pthread_once",
    "__pthread_once",
    "___pthread_once",
    "__pthread_once_slow",
];

/// How many of the innermost frames are a linked C library's. Its functions have no lines. Where the program's own have some, all
/// frames inside a function that is known by name are the library's (`re_dfa_add_node` in `regcomp`); where not, only those that are
/// known themselves.
pub(super) fn innermost(frames: &[Frame<'_>]) -> usize {
    let Some(module) = frames.first().map(|frame| frame.module) else { return 0 };
    if frames.iter().any(is_of_library) {
        return 0;
    }
    let has_line = |frame: &Frame<'_>| frame.file.is_some() && frame.module == module;
    let is_bare = |frame: &&Frame<'_>| frame.file.is_none() && frame.module == module && !is_caller(frame);
    let bare = frames.get(..frames.iter().take_while(is_bare).count()).unwrap_or_default();
    if frames.iter().any(has_line) {
        return bare.iter().rposition(is_known).map_or(0, |at| at + 1);
    }
    bare.iter().take_while(|frame| is_known(frame) || Part::of(frame) == Part::Allocator).count()
}

fn is_caller(frame: &Frame<'_>) -> bool {
    frame.function.is_some_and(|name| CALLERS.contains(&name))
}

/// Names with `__` are reserved for C's implementation, those with `_IO_` are glibc's.
fn is_known(frame: &Frame<'_>) -> bool {
    let is_libc = |name: &str| name.starts_with("__") || name.starts_with("_IO_") || ENTRIES.contains(&name);
    frame.function.is_some_and(|name| !name.contains(':') && is_libc(name))
}

#[cfg(test)]
mod tests {
    use crate::profile::Frame;
    use crate::report::{blame::culprit, tests::named};

    #[test]
    fn a_linked_library_is_passed_over() {
        // Names; those of the program's own, with lines, begin with a dot.
        let stack = |names: &'static [&'static str]| -> Vec<Frame<'static>> {
            let frame = |name: &&'static str| match name.strip_prefix('.') {
                Some(name) => Frame { file: Some("app.c"), line: Some(1), ..named(name, "/srv/app") },
                None => named(name, "/srv/app"),
            };
            names.iter().map(frame).collect()
        };
        for (names, place) in [
            (&["__vasprintf_internal", "asprintf", ".keep_label", ".main", "__libc_start_call_main"][..], 2),
            (&["realpath", ".keep_path", ".main"], 1),
            (&["re_dfa_add_node", "parse_reg_exp", "re_compile_internal", "regcomp", ".keep", ".main"], 4),
            (&["_IO_mem_finish", "_IO_new_fclose", ".keep", ".main"], 2),
            // A library without lines, linked too, is to blame as ever.
            (&["png_read", ".main"], 0),
            (&["__vasprintf_internal", "asprintf", "png_error", ".main"], 2),
            (&["compare", "__qsort_r", ".main"], 0),
            // With lines it is the program's, whatever its name.
            (&[".__keep", ".main"], 0),
            // No lines at all: names alone.
            (&["__vasprintf_internal", "asprintf", "keep_label", "main", "__libc_start_call_main"], 2),
            (&["png_read", "__png", "main"], 0),
        ] {
            assert_eq!(culprit(&stack(names)), Some(place), "{names:?}");
        }
        // Where a C library is a file of its own, such a name is the program's.
        let mut shared = stack(&["__keep", "main"]);
        shared.push(named("__libc_start_call_main", "/usr/lib/libc.so.6"));
        assert_eq!(culprit(&shared), Some(0));
    }
}
