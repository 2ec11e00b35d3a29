//! Allocators x languages: what stays is known by call site, to the block. docs/allocators.md explains the cells that are
//! not here. What is not installed is skipped and said; beside these, `allocators.rs` has every form of `operator new` of
//! glibc, jemalloc, tcmalloc and mimalloc, preloaded and linked in.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    Agent, CSource, Report, Running, Totals, agent_path, assert_refused, assert_usage, can_trace, compile,
    memtrace, remark, run_tool, shared_directory,
};

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const ROUNDS: u64 = 200;
/// Functions of jemalloc, and functions that its archive defines under the same names.
const JEMALLOC: &[&str] = &[
    "aligned_alloc",
    "calloc",
    "dallocx",
    "free",
    "mallctl",
    "mallctlbymib",
    "mallctlnametomib",
    "malloc",
    "malloc_stats_print",
    "malloc_usable_size",
    "mallocx",
    "memalign",
    "nallocx",
    "posix_memalign",
    "rallocx",
    "realloc",
    "sallocx",
    "sdallocx",
    "valloc",
    "xallocx",
];

/// A file that is there, or a remark.
fn installed(path: impl Into<PathBuf>) -> Option<PathBuf> {
    let path = path.into();
    if !path.exists() {
        remark(&format!("skipped: {} is not installed", path.display()));
        return None;
    }
    Some(path)
}

/// Debian's jemalloc with a prefix before its names, as `--with-jemalloc-prefix` builds it.
fn with_prefix(directory: &Path, prefix: &str) -> Option<PathBuf> {
    let archive = installed(Path::new(LIBRARIES).join("libjemalloc.a"))?;
    let renamed = directory.join(format!("lib{prefix}.a"));
    let mut arguments: Vec<String> =
        JEMALLOC.iter().map(|name| format!("--redefine-sym={name}={prefix}{name}")).collect();
    arguments.extend([archive, renamed.clone()].map(|path| path.display().to_string()));
    run_tool("objcopy", &arguments);
    Some(renamed)
}

/// Runs a program that says "ready", goes on after a line, says "done" and ends with status 4 after another.
fn traced(program: &Path, preload: Option<&Path>, arguments: &[&str], agent: &[&str]) -> Report {
    let mut command = Command::new(program);
    command.args(arguments).env("ASAN_OPTIONS", "detect_leaks=0");
    // GWP-ASan unwinds calls at random, and glibc loads libgcc_s for the first of them: blocks that not every run has.
    command.env("SCUDO_OPTIONS", "GWP_ASAN_Enabled=false");
    command.envs(preload.map(|library| ("LD_PRELOAD", library)));
    let mut target = Running::spawn(&mut command);
    let _ = target.line_with("ready");
    let agent = Agent::attach(&[target.pid()], agent);
    target.write_line("go");
    let _ = target.line_with("done");
    let report = agent.interrupt();
    target.write_line("end");
    let finished = target.finish();
    assert_eq!(finished.status, 4, "{}", finished.stderr);
    report
}

/// Asserts what stays, by function: size and number of the blocks.
fn assert_kept(name: &str, report: &Report, kept: &[(&str, u64, u64)]) {
    for &(function, size, blocks) in kept {
        let found = report.through(function);
        let all = report.callers();
        assert_eq!((found.bytes, found.blocks), (size * blocks, blocks), "{name} {function}: {all:?}");
    }
    assert_eq!(report.through("come_and_go").blocks, 0, "{name}: {:?}", report.callers());
    assert!(report.losses.is_exact(), "{name}: {:?}", report.losses);
    assert!(report.remarks.is_empty(), "{name}: {:?}", report.remarks);
}

const C: &[(&str, u64, u64)] = &[
    ("keep_plain", 400, ROUNDS),
    ("keep_zeroed", 300, ROUNDS),
    ("keep_grown", 900, ROUNDS),
    ("keep_first", 77, ROUNDS),
    ("keep_aligned", 640, ROUNDS),
    ("keep_memalign", 512, ROUNDS),
    ("keep_large", 300_000, ROUNDS / 20),
];

const CXX: &[(&str, u64, u64)] = &[
    ("keep_new", 800, ROUNDS),
    ("keep_array", 1500, ROUNDS),
    ("keep_aligned", 640, ROUNDS),
    ("keep_nothrow", 700, ROUNDS),
    ("keep_malloc", 400, ROUNDS),
    ("keep_calloc", 300, ROUNDS),
    ("keep_grown", 900, ROUNDS),
    ("keep_large", 300_000, ROUNDS / 20),
];

const RUST: &[(&str, u64, u64)] = &[
    ("global::keep_boxed", 500, ROUNDS),
    ("global::keep_zeroed", 300, ROUNDS),
    ("global::keep_grown", 900, ROUNDS),
    ("global::keep_aligned", 640, ROUNDS),
];

/// C programs that call an allocator by its own names, or that have it linked in.
#[test]
fn c_by_the_allocators_own_names() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let library = |file: &str| installed(Path::new(LIBRARIES).join(file));
    let build = |name: &'static str, names: &str, link: &[&str]| {
        let names = format!("-DP(name)={names}");
        let mut options = vec!["-O2", "-g", "-fno-builtin", "-Wl,--no-as-needed", &names];
        options.extend(link);
        (name, compile(directory.path(), name, CSource { file: "own_names.c", options: &options }))
    };
    let whole = |archive: &Path| {
        [
            "-Wl,--whole-archive",
            &archive.display().to_string(),
            "-Wl,--no-whole-archive",
            "-lstdc++",
            "-lm",
            "-ldl",
        ]
        .map(str::to_owned)
    };
    let mut programs = vec![build("glibc", "name", &[]), build("libc (static)", "name", &["-static"])];
    if let Some(archive) = with_prefix(directory.path(), "je_") {
        let link = whole(&archive);
        programs.push(build("jemalloc (je_)", "je_##name", &link.each_ref().map(String::as_str)));
    }
    if let Some(archive) = library("libtcmalloc_minimal.a") {
        let link = whole(&archive);
        programs.push(build("tcmalloc (static)", "tc_##name", &link.each_ref().map(String::as_str)));
    }
    if library("libmimalloc.so").is_some() {
        programs.push(build("mimalloc", "mi_##name", &["-lmimalloc"]));
    }
    for (name, program) in programs {
        let report = traced(&program, None, &[], &[]);
        assert!(report.target.allocators.iter().any(|known| known == name), "{name}: {:?}", report.target);
        assert_kept(name, &report, C);
    }
}

/// A static program of musl.
#[test]
fn static_programs_of_musl() {
    let Some(compiler) = installed("/usr/bin/musl-gcc").filter(|_| can_trace()) else { return };
    let directory = shared_directory();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/own_names.c").display().to_string();
    let whole = at("whole");
    let compiler = compiler.display().to_string();
    run_tool(
        &compiler,
        &["-static", "-O2", "-g", "-fno-builtin", "-Wl,--build-id", "-DP(name)=name", "-o", &whole, &source],
    );
    let report = traced(Path::new(&whole), None, &[], &[]);
    assert_eq!(report.target.allocators, ["libc (static)"]);
    assert_kept("musl", &report, C);
}

/// Where the names of an allocator are gone, the operators that C++ programs export are enough.
#[test]
fn cxx_in_unusual_builds() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let build = |name: &str, options: &[&str]| {
        let options = [&["-O2", "-g"], options].concat();
        compile(directory.path(), name, CSource { file: "forms.cpp", options: &options })
    };
    if let Some(archive) = installed(Path::new(LIBRARIES).join("libjemalloc.a")) {
        let archive = archive.display().to_string();
        let link = ["-Wl,--whole-archive", &archive, "-Wl,--no-whole-archive", "-lm", "-ldl"];
        let program = build("stripped", &link);
        let path = program.display().to_string();
        run_tool("strip", &["-w", "-K", "*keep_*", "-K", "*come_and_go*", &path]);
        assert_kept("stripped jemalloc", &traced(&program, None, &[], &[]), CXX);
    }
    // Here a request that fails ends the process, and the tool's warning is a remark of standard error, not of the report.
    let program = build("asan", &["-fsanitize=address"]);
    let report = traced(&program, None, &["without-failures"], &[]);
    assert!(report.target.allocators.iter().any(|name| name == "AddressSanitizer"), "{:?}", report.target);
    assert_kept("AddressSanitizer", &report, CXX);
}

/// LLVM's allocator, preloaded.
#[test]
fn cxx_with_scudo() {
    let versions = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| {
        let version = entry.ok()?.path().join("lib/clang");
        std::fs::read_dir(version).ok()?.next()?.ok().map(|entry| entry.path())
    });
    let library = versions
        .map(|version| version.join("lib/linux/libclang_rt.scudo_standalone-x86_64.so"))
        .find(|library| library.exists());
    let Some(library) = library.filter(|_| can_trace()) else {
        remark("skipped: scudo (libclang-rt-dev) is not installed");
        return;
    };
    let directory = shared_directory();
    let program = compile(directory.path(), "forms", CSource { file: "forms.cpp", options: &["-O2", "-g"] });
    let report = traced(&program, Some(&library), &["without-failures"], &[]);
    assert!(report.target.allocators.iter().any(|name| name == "scudo"), "{:?}", report.target);
    assert_kept("scudo", &report, CXX);
}

/// Rust's global allocator, under a prefix.
#[test]
fn rust_with_a_global_allocator() {
    let directory = shared_directory();
    let Some(archive) = with_prefix(directory.path(), "_rjem_").filter(|_| can_trace()) else { return };
    let program = directory.path().join("global");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/global.rs");
    let path = |path: &Path| path.display().to_string();
    let link = ["-Clink-arg=-lstdc++", "-Clink-arg=-lm", "-Clink-arg=-ldl"].map(str::to_owned);
    let mut arguments = vec!["--edition=2024".to_owned(), "-Copt-level=2".to_owned(), "-g".to_owned()];
    arguments.extend([format!("-Clink-arg={}", path(&archive))].into_iter().chain(link));
    arguments.extend(["-o".to_owned(), path(&program), path(&source)]);
    run_tool("rustc", &arguments);
    let report = traced(&program, None, &[], &[]);
    assert!(report.target.allocators.iter().any(|name| name == "jemalloc (_rjem_)"), "{:?}", report.target);
    assert_kept("_rjem_", &report, RUST);
}

/// Rust's global allocator from a crate, of which the linker leaves a few functions.
#[test]
fn rust_with_mimalloc_from_its_crate() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/global.rs");
    let manifest = format!(
        "[package]\nname = \"global\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[[bin]]\nname = \"global\"\npath = {source:?}\n\
         [features]\nof_crate = []\n[dependencies]\nmimalloc = {{ version = \"0.1\", default-features = false }}\n\
         [profile.release]\ndebug = true\n"
    );
    std::fs::write(directory.path().join("Cargo.toml"), manifest).expect("a manifest");
    let target = directory.path().join("target");
    let build = Command::new("cargo")
        .args(["build", "--release", "--offline", "--features", "of_crate", "--target-dir"])
        .arg(&target)
        .current_dir(directory.path())
        .output()
        .expect("cargo runs");
    if !build.status.success() {
        let reason = String::from_utf8_lossy(&build.stderr);
        remark(&format!("skipped: cargo cannot build with the crate mimalloc offline: {reason}"));
        return;
    }
    let report = traced(&target.join("release/global"), None, &[], &[]);
    assert!(report.target.allocators.iter().any(|name| name == "mimalloc (static)"), "{:?}", report.target);
    assert_kept("mimalloc's crate", &report, RUST);
}

/// A pool that the user names: its blocks are counted, not those it gets from `malloc`.
#[test]
fn functions_that_the_user_names() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let options = ["-O2", "-g", "-fno-builtin"];
    let program = compile(directory.path(), "pool", CSource { file: "pool.c", options: &options });
    let report = traced(&program, None, &[], &[]);
    assert_eq!(report.through("keep_entry").blocks, 0, "{:?}", report.callers());
    let named = ["--alloc", "pool_get:size=2", "--alloc", "pool_none", "--free", "pool_put"];
    let report = traced(&program, None, &[], &named);
    let kept = report.through("keep_entry");
    assert_eq!(kept, Totals::kept(300 * ROUNDS, ROUNDS), "{:?}", report.callers());
    assert_eq!(report.through("come_and_go").blocks, 0, "{:?}", report.callers());
    let missing = report.remark("functions_not_found").expect("a remark");
    assert_eq!(missing.texts("functions").collect::<Vec<_>>(), ["pool_none"]);
    // Only what was asked for.
    let report = traced(&program, None, &[], &["--object", "pool", "--symbol-prefix", "own_"]);
    assert_eq!(report.through("keep_own").blocks, ROUNDS, "{:?}", report.callers());
    assert_eq!(report.through("keep_plain").blocks, 0, "{:?}", report.callers());
    let report = traced(&program, None, &[], &["--allocator", "glibc"]);
    assert_eq!(report.through("keep_plain").blocks, ROUNDS, "{:?}", report.callers());
}

/// Memory that a process gets by system calls of its own is said to be unseen, with the functions that may be behind it.
#[test]
fn untraced_allocators_are_named() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let program = compile(directory.path(), "unseen", CSource { file: "unseen.c", options: &["-O2", "-g"] });
    let mut target = Running::spawn(&mut Command::new(&program));
    let _ = target.line_with("ready");
    let mut agent = Agent::attach(&[target.pid()], &[]);
    let report = agent.report_when(|report| report.says("allocators_untraced"));
    let remark = report.remark("allocators_untraced").expect("a remark");
    assert_eq!(remark.texts("functions").collect::<Vec<_>>(), ["arena_alloc in unseen"]);
    let _ = agent.interrupt();
    let named = ["--alloc", "arena_alloc", "--free", "arena_free"];
    let mut agent = Agent::attach(&[target.pid()], &named);
    let report = agent.report_when(|report| report.through("main").blocks >= 400);
    assert_eq!(report.through("main").bytes, 1600 * report.through("main").blocks);
    assert!(
        !report.says("allocators_untraced") && !report.says("functions_not_found"),
        "{:?}",
        report.remarks
    );
    let _ = agent.interrupt();
}

/// bcc's options for where functions are do what they say, or are refused.
#[test]
fn memleaks_object_and_prefix() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let options = ["-O2", "-g", "-fno-builtin"];
    let program = compile(directory.path(), "pool", CSource { file: "pool.c", options: &options });
    let mut target = Running::spawn(&mut Command::new(&program));
    let _ = target.line_with("ready");
    let pid = target.pid().to_string();
    for wrong in [["-O", "nosuch"], ["--symbols-prefix", "je_"]] {
        assert_refused(&memtrace(["memleak", "-p", &pid, wrong[0], wrong[1], "1", "1"]), 1, "select");
    }
    assert_usage(&memtrace(["memleak", "-O", "c", "1", "1"]));
    let mut command = Command::new(agent_path());
    let mut agent = Running::spawn(command.args([
        "memleak",
        "-p",
        &pid,
        "-o",
        "0",
        "--symbols-prefix",
        "own_",
        "1",
        "2",
    ]));
    let _ = agent.line_with("Attaching");
    target.write_line("go");
    let _ = target.line_with("done");
    let mut lines = Vec::new();
    while let Some(line) = agent.line() {
        lines.push(line);
    }
    assert_eq!(agent.finish().status, 0);
    let says = |name: &str| lines.iter().any(|line| line.contains(name));
    assert!(says("keep_own") && says("8000 bytes in 200 allocations") && !says("keep_plain"), "{lines:?}");
    target.write_line("end");
    assert_eq!(target.finish().status, 4);
}
