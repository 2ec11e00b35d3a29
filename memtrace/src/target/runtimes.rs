//! Language runtimes that keep objects in a heap of their own, recognized by the files that a process has mapped.

use std::io::Read as _;

use super::Modules;
use crate::profile::Runtime;

/// The most bytes read of an environment.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// The runtimes of process `pid` whose objects an allocator does not see one by one.
#[must_use]
pub fn hidden(pid: u32, modules: &Modules) -> Vec<Runtime> {
    let names = modules.iter().map(|module| module.name.rsplit('/').next().unwrap_or_default().to_owned());
    let mut found = of_files(names);
    if found.contains(&Runtime::Python) && is_python_plain(&environment(pid)) {
        found.retain(|runtime| *runtime != Runtime::Python);
    }
    found
}

fn of_files(names: impl Iterator<Item = String>) -> Vec<Runtime> {
    let mut found: Vec<Runtime> = names.filter_map(|name| of_file(&name)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn of_file(name: &str) -> Option<Runtime> {
    // `python3.11`, `libpython3.so.1.0`, but not `python-wrapper`.
    let is_release = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let is = |program: &str, library: &str| {
        let of_program = name.strip_prefix(program).is_some_and(|rest| rest.is_empty() || is_release(rest));
        of_program || name.strip_prefix(library).is_some_and(is_release)
    };
    if is("python", "libpython") {
        Some(Runtime::Python)
    } else if matches!(name, "node" | "nodejs" | "electron") || name.starts_with("libnode.so") {
        Some(Runtime::V8)
    } else if name == "libjvm.so" {
        Some(Runtime::Jvm)
    } else if is("ruby", "libruby") || name.starts_with("libruby-") {
        Some(Runtime::Ruby)
    } else {
        None
    }
}

fn environment(pid: u32) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) {
        // What was read of an environment that cannot be read to its end counts.
        let _ = file.take(MAX_ENVIRONMENT).read_to_end(&mut text);
    }
    text
}

/// Whether Python takes each object from malloc: `PYTHONMALLOC` (Python/preconfig.c).
fn is_python_plain(environment: &[u8]) -> bool {
    environment
        .split(|byte| *byte == 0)
        .any(|variable| matches!(variable, b"PYTHONMALLOC=malloc" | b"PYTHONMALLOC=malloc_debug"))
}

#[cfg(test)]
mod tests {
    use super::{is_python_plain, of_files};
    use crate::profile::Runtime;

    #[test]
    fn runtimes_are_recognized_by_files() {
        let of = |names: &[&str]| of_files(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(of(&["python3.11", "libc.so.6", "libpython3.11.so.1.0"]), [Runtime::Python]);
        assert_eq!(of(&["node", "libjvm.so", "ruby3.1"]), [Runtime::V8, Runtime::Jvm, Runtime::Ruby]);
        assert_eq!(of(&["libruby-3.1.so.3.1", "python"]), [Runtime::Python, Runtime::Ruby]);
        assert_eq!(of(&["python-wrapper", "nodemon", "libjvm.so.debug", "rubygems", "[heap]", ""]), []);
    }

    #[test]
    fn python_says_where_its_objects_come_from() {
        assert!(is_python_plain(b"PATH=/bin\0PYTHONMALLOC=malloc\0"));
        assert!(!is_python_plain(b"PATH=/bin\0PYTHONMALLOC=pymalloc\0XPYTHONMALLOC=malloc\0"));
        assert!(!is_python_plain(b""));
    }
}
