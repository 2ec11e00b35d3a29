//! Programs in C and C++, for what cargo does not build.

use std::{
    ffi::OsStr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::running::run;

/// A program of `tests/c` and how to compile it.
#[derive(Clone, Copy, Debug)]
pub struct CSource<'a> {
    /// Its file name.
    pub file: &'a str,
    /// Options of the compiler.
    pub options: &'a [&'a str],
}

/// Compiles a program into a directory and returns its path. `cc` is there: cargo links with it. C++ needs g++.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn compile(directory: &Path, name: &str, source: CSource<'_>) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(source.file);
    let program = directory.join(name);
    let mut arguments: Vec<&OsStr> = source.options.iter().map(OsStr::new).collect();
    arguments.extend([OsStr::new("-o"), program.as_os_str(), file.as_os_str(), OsStr::new("-pthread")]);
    let compiler = if source.file.ends_with(".cpp") { "c++" } else { "cc" };
    run_tool(compiler, &arguments);
    program
}

/// Runs a tool that has to succeed.
///
/// # Panics
/// If it does not.
pub fn run_tool(program: &str, arguments: &[impl AsRef<OsStr>]) {
    let finished = run(program, arguments);
    assert_eq!(finished.status, 0, "{program}: {}{}", finished.stdout, finished.stderr);
}

/// A temporary directory that every user can read.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn shared_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
        .expect("its permissions");
    directory
}
