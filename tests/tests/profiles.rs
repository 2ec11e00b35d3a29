//! A target that profiles its own heap has the same call sites in its profile whether it is traced or not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{Agent, CSource, Running, can_trace, compile, remark, shared_directory};

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// An allocator that can write a profile: its library, and the variable that makes it do so, with the place of the files.
struct Profiler {
    library: &'static str,
    variable: &'static str,
    value: fn(&Path) -> String,
}

const PROFILERS: [Profiler; 2] = [
    Profiler {
        library: "libjemalloc.so.2",
        variable: "MALLOC_CONF",
        value: |place| format!("prof:true,prof_final:true,lg_prof_sample:0,prof_prefix:{}", place.display()),
    },
    Profiler {
        library: "libtcmalloc.so.4",
        variable: "HEAPPROFILE",
        value: |place| place.display().to_string(),
    },
];

impl Profiler {
    fn path(&self) -> PathBuf {
        Path::new(LIBRARIES).join(self.library)
    }

    /// Runs the program, traced or not, and returns the stacks in the last profile that it wrote.
    fn stacks(&self, program: &Path, traced: Option<&[&str]>) -> BTreeSet<String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // At the same addresses each time.
        let mut command = Command::new("setarch");
        command.arg("-R").arg(program).arg("without-failures").env("LD_PRELOAD", self.path());
        command.env(self.variable, (self.value)(&directory.path().join("heap")));
        let mut target = Running::spawn(&mut command);
        let _ = target.line_with("ready");
        let agent = traced.map(|options| Agent::attach_with(&[target.pid()], options));
        target.write_line("go");
        let _ = target.line_with("done");
        if let Some(agent) = agent {
            let report = agent.interrupt();
            assert!(report.outstanding.blocks > 0 || !report.mode.exact, "{:?}", report.remarks);
        }
        target.write_line("end");
        assert_eq!(target.finish().status, 4);
        let mut profiles: Vec<PathBuf> = fs::read_dir(directory.path())
            .expect("the directory")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        profiles.sort();
        let last = profiles.last().expect("a profile");
        let text = fs::read_to_string(last).expect("the profile");
        let stack = |line: &str| Some(line.split_once("@ 0x")?.1.to_owned());
        text.lines().filter_map(stack).collect()
    }
}

#[test]
fn a_traced_profile_has_the_same_call_sites() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let source = CSource { file: "forms.cpp", options: &["-O2", "-g"] };
    let program = compile(directory.path(), "forms", source);
    for profiler in PROFILERS {
        if !profiler.path().exists() {
            remark(&format!("skipped: {} is not installed", profiler.library));
            continue;
        }
        let untraced = profiler.stacks(&program, None);
        assert!(untraced.len() >= 7, "{}: {untraced:?}", profiler.library);
        assert_eq!(profiler.stacks(&program, None), untraced, "{}", profiler.library);
        for options in [&["--max-overhead", "off"][..], &["--sample", "1KiB"], &["--max-overhead", "0.01%"]] {
            let traced = profiler.stacks(&program, Some(options));
            assert_eq!(traced, untraced, "{} {options:?}", profiler.library);
        }
        // With return probes they differ: this test can fail.
        let disturbed = profiler.stacks(&program, Some(&["--max-overhead", "off", "--return-probes"]));
        assert_ne!(disturbed, untraced, "{}", profiler.library);
    }
}
