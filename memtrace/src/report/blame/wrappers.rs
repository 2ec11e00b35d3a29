//! Functions that allocate and do nothing else, by their names.

/// Functions by which an interpreter allocates objects for everyone (CPython).
const RUNTIMES: [&str; 9] = [
    "PyType_GenericAlloc",
    "PyUnicode_New",
    "_PyObject_GC_Alloc",
    "_PyObject_GC_New",
    "_PyObject_GC_NewVar",
    "_PyObject_New",
    "_PyObject_NewVar",
    "_PyType_AllocNoTrack",
    "gc_alloc",
];

/// Words of functions that allocate and do nothing else: one of these, and otherwise only [`FILLERS`].
const WORDS: [&str; 47] = [
    "alloc",
    "allocate",
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "memalign",
    "valloc",
    "pvalloc",
    "palloc",
    "repalloc",
    "zalloc",
    "zmalloc",
    "zcalloc",
    "zrealloc",
    "ztrymalloc",
    "ztrycalloc",
    "ztryrealloc",
    "xmalloc",
    "xmallocz",
    "xcalloc",
    "xrealloc",
    "xstrdup",
    "xstrndup",
    "xmemdup",
    "xmemdupz",
    "strdup",
    "strndup",
    "wcsdup",
    "memdup",
    "emalloc",
    "ecalloc",
    "erealloc",
    "estrdup",
    "kmalloc",
    "mallocx",
    "pymalloc",
    "rallocx",
    "safesysmalloc",
    "safesyscalloc",
    "safesysrealloc",
    "ckalloc",
    "ckrealloc",
    "attemptckalloc",
    "xasprintf",
    "xvasprintf",
    "xstrprintf",
];

/// Words that say whose allocator or what kind of one.
const FILLERS: [&str; 67] = [
    "aligned", "apr", "array", "attempt", "c", "checked", "clear", "context", "crypto", "debug", "default",
    "die", "do", "e", "ex", "extended", "fatal", "g", "gc", "git", "impl", "internal", "je", "js", "k",
    "lib", "libc", "mem", "memory", "mi", "my", "n", "ngx", "nofail", "object", "openssl", "or", "os", "p",
    "perl", "pg", "posix", "py", "raw", "real", "rdl", "rg", "rjem", "rust", "s", "safe", "set", "sqlite",
    "sys", "tc", "tcl", "try", "usable", "util", "uv", "v", "wrap", "wrapper", "x", "z", "zero", "zeroed",
];

/// Whether a function allocates for everyone, as far as its name tells.
pub(super) fn is_wrapper(path: &str) -> bool {
    RUNTIMES.contains(&path) || is_allocators(path)
}

/// Whether a function's name says that it allocates, and nothing else. Methods have other reasons to be called `alloc`.
fn is_allocators(path: &str) -> bool {
    // Each of `WORDS` has one of these in it: most names need not be taken apart.
    let has =
        |part: &str| path.as_bytes().windows(part.len()).any(|at| at.eq_ignore_ascii_case(part.as_bytes()));
    if path.contains(':') || !["alloc", "dup", "memalign", "printf"].into_iter().any(has) {
        return false;
    }
    let mut found = false;
    let mut words = words(path);
    let fits = |word: String| {
        let allocates = WORDS.contains(&word.as_str());
        found |= allocates;
        allocates || FILLERS.contains(&word.as_str())
    };
    words.all(fits) && found
}

/// The words of a name in lower case, without digits: `PyMem_RawMalloc` has `py`, `mem`, `raw`, `malloc`.
fn words(name: &str) -> impl Iterator<Item = String> {
    let is_capital = |c: Option<char>| c.is_some_and(|c| c.is_ascii_uppercase());
    let mut all = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).copied();
        let after = letters.get(at + 1).copied();
        let begins = is_capital(Some(letter))
            && (!is_capital(before) || after.is_some_and(|next| next.is_ascii_lowercase()));
        if begins || !letter.is_ascii_alphabetic() {
            all.push(String::new());
        }
        if (letter.is_ascii_alphabetic() || !letter.is_ascii())
            && let Some(word) = all.last_mut()
        {
            word.push(letter.to_ascii_lowercase());
        }
    }
    all.into_iter().filter(|word| !word.is_empty())
}
