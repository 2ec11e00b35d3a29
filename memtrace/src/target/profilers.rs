//! Targets that profile themselves: their profilers look at return addresses, where a pending return probe has put the kernel's
//! trampoline. What they see of a call that is being traced then ends there, or names `[uprobes]` as its caller.

use std::{
    fmt,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileExt as _,
    sync::OnceLock,
};

use super::{modules::Modules, store::StoredFile, threads};

/// Bytes of an environment that are read, and of a configuration in memory.
const MAX_ENVIRONMENT: u64 = 1 << 20;
const MAX_CONFIGURATION: usize = 1 << 10;

/// How a profiler shows itself in a process.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// A library whose file name begins so.
    Library(&'static str),
    /// A function that the program or a library defines.
    Function(&'static str),
    /// An environment variable that is set and not empty.
    Variable(&'static str),
    /// A setting of jemalloc's, in effect wherever it stands.
    Setting(&'static str),
}

/// A profiler that programs bring along.
struct Row {
    name: &'static str,
    /// One of these, ...
    any: &'static [Sign],
    /// ... and, unless there are none, one of these.
    of: &'static [Sign],
    disturbed: Disturbed,
}

/// What of it a return probe disturbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbed {
    /// The stacks of its allocations.
    Allocations,
    /// Stacks that are sampled while an allocating function runs.
    Samples,
    /// The stacks of allocations in its reports of errors and leaks.
    Reports,
}

use Sign::{Function, Library, Setting, Variable};

const JEMALLOC: &[Sign] =
    &[Library("libjemalloc"), Function("mallctl"), Function("je_mallctl"), Function("_rjem_mallctl")];
const GPERFTOOLS_HEAP: &[Sign] = &[
    Library("libtcmalloc.so"),
    Library("libtcmalloc_and_profiler.so"),
    Library("libtcmalloc_debug.so"),
    Function("HeapProfilerStart"),
];
const GPERFTOOLS_CPU: &[Sign] =
    &[Library("libprofiler.so"), Library("libtcmalloc_and_profiler.so"), Function("ProfilerStart")];

const ROWS: &[Row] = &[
    Row {
        name: "jemalloc's heap profiler",
        any: &[Setting("prof:true")],
        of: JEMALLOC,
        disturbed: Disturbed::Allocations,
    },
    Row {
        name: "tcmalloc's heap profiler",
        any: &[Variable("HEAPPROFILE")],
        of: GPERFTOOLS_HEAP,
        disturbed: Disturbed::Allocations,
    },
    Row {
        name: "tcmalloc's leak checker",
        any: &[Variable("HEAPCHECK")],
        of: GPERFTOOLS_HEAP,
        disturbed: Disturbed::Allocations,
    },
    Row {
        name: "gperftools' CPU profiler",
        any: &[Variable("CPUPROFILE")],
        of: GPERFTOOLS_CPU,
        disturbed: Disturbed::Samples,
    },
    Row {
        name: "heaptrack",
        any: &[Library("libheaptrack_preload"), Library("libheaptrack_inject")],
        of: &[],
        disturbed: Disturbed::Allocations,
    },
    Row { name: "bytehound", any: &[Library("libbytehound")], of: &[], disturbed: Disturbed::Allocations },
    Row { name: "memray", any: &[Library("_memray.")], of: &[], disturbed: Disturbed::Allocations },
    Row {
        name: "AddressSanitizer",
        any: &[Library("libasan."), Library("libclang_rt.asan"), Function("__asan_init")],
        of: &[],
        disturbed: Disturbed::Reports,
    },
    Row {
        name: "LeakSanitizer",
        any: &[Library("liblsan."), Library("libclang_rt.lsan"), Function("__lsan_init")],
        of: &[],
        disturbed: Disturbed::Reports,
    },
    Row {
        name: "ThreadSanitizer",
        any: &[Library("libtsan."), Library("libclang_rt.tsan"), Function("__tsan_init")],
        of: &[],
        disturbed: Disturbed::Reports,
    },
    Row { name: "MemorySanitizer", any: &[Function("__msan_init")], of: &[], disturbed: Disturbed::Reports },
];

/// Environment variables that jemalloc reads, by the prefix that it was built with.
const CONFIGURATION_VARIABLES: [&str; 3] = ["MALLOC_CONF", "JE_MALLOC_CONF", "_RJEM_MALLOC_CONF"];
/// Variables of a program that jemalloc reads: each points to a string.
const CONFIGURATION_SYMBOLS: [&str; 3] = ["malloc_conf", "je_malloc_conf", "_rjem_malloc_conf"];
/// A link whose target is a configuration of jemalloc's.
const CONFIGURATION_LINK: &str = "/etc/malloc.conf";

/// A profiler that a target uses on itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfProfiler {
    /// Its name.
    pub name: &'static str,
    /// How it was recognised.
    pub sign: String,
    /// What of it a return probe disturbs.
    pub disturbed: Disturbed,
}

impl fmt::Display for SelfProfiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.sign)
    }
}

/// What is known of a process.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// File names of what it has mapped.
    libraries: Vec<String>,
    /// Which of the functions that rows name are defined in it.
    functions: Vec<&'static str>,
    /// Its environment.
    variables: Vec<(String, String)>,
    /// Configurations of jemalloc's that are not in the environment: where from, and what; weakest first.
    configurations: Vec<(&'static str, String)>,
}

/// The profilers that process `pid` uses on itself, as far as they are known.
#[must_use]
pub fn detect(pid: u32, modules: &Modules) -> Vec<SelfProfiler> {
    recognise(&facts(pid, modules))
}

/// What is said before probes are attached to process `pid`; `None` if it does not profile itself.
#[must_use]
pub fn warning(pid: u32, found: &[SelfProfiler]) -> Option<String> {
    let names: Vec<String> = found.iter().map(SelfProfiler::to_string).collect();
    let what = match found.iter().map(|profiler| profiler.disturbed).collect::<Vec<_>>().as_slice() {
        [] => return None,
        [Disturbed::Samples, ..] => "samples taken inside an allocating function",
        [Disturbed::Reports, ..] => "allocation stacks in its reports",
        [Disturbed::Allocations, ..] => "allocation stacks in its profile",
    };
    Some(format!(
        "process {pid} profiles itself with {}: memtrace avoids return probes there, which would show as [uprobes] in place of \
         the caller; {what} may still show it for functions that keep one (`memtrace check --pid {pid}` lists them)",
        names.join(" and ")
    ))
}

fn recognise(facts: &Facts) -> Vec<SelfProfiler> {
    ROWS.iter()
        .filter(|row| row.of.is_empty() || row.of.iter().any(|&sign| facts.show(sign).is_some()))
        .filter_map(|row| {
            let sign = row.any.iter().find_map(|&sign| facts.show(sign))?;
            Some(SelfProfiler { name: row.name, sign, disturbed: row.disturbed })
        })
        .collect()
}

impl Facts {
    /// How a sign shows, in words that hold nothing that the target has chosen.
    fn show(&self, sign: Sign) -> Option<String> {
        match sign {
            Library(prefix) => {
                let is_mapped = self.libraries.iter().any(|name| name.starts_with(prefix));
                is_mapped.then(|| format!("{} is mapped", prefix.trim_end_matches('.')))
            }
            Function(name) => self.functions.contains(&name).then(|| format!("it has {name}")),
            Variable(name) => {
                let is_set = |(key, value): &(String, String)| key == name && !value.is_empty();
                self.variables.iter().any(is_set).then(|| format!("{name} is set"))
            }
            Setting(setting) => self.setting(setting).map(|origin| format!("{setting} in {origin}")),
        }
    }

    /// Where a setting such as `prof:true` stands that nothing stronger takes back.
    fn setting(&self, setting: &str) -> Option<&'static str> {
        let key = setting.split(':').next().unwrap_or_default();
        let of_environment = CONFIGURATION_VARIABLES.iter().filter_map(|&name| {
            let (_, value) = self.variables.iter().find(|(variable, _)| variable == name)?;
            Some((name, value.as_str()))
        });
        self.configurations
            .iter()
            .map(|(origin, text)| (*origin, text.as_str()))
            .chain(of_environment)
            .flat_map(|(origin, text)| text.split(',').map(move |pair| (origin, pair.trim())))
            .rfind(|(_, pair)| pair.split(':').next() == Some(key))
            .filter(|(_, pair)| *pair == setting)
            .map(|(origin, _)| origin)
    }
}

fn facts(pid: u32, modules: &Modules) -> Facts {
    let Some(thread) = threads::living(pid) else { return Facts::default() };
    let mut facts = Facts { variables: environment(thread), ..Facts::default() };
    // The link in the file system is weaker than the program's variable, that than the environment.
    if let Ok(target) = fs::read_link(format!("/proc/{thread}/root{CONFIGURATION_LINK}")) {
        facts.configurations.push((CONFIGURATION_LINK, target.to_string_lossy().into_owned()));
    }
    for (_, bias, module) in modules.mapped() {
        let file_name = module.name.rsplit('/').next().unwrap_or_default();
        if facts.libraries.iter().any(|known| known == file_name) {
            continue;
        }
        facts.libraries.push(file_name.to_owned());
        let Some(file) = module.file() else { continue };
        for &(name, address) in file.findings::<Signs>().0.get_or_init(|| signs_in(file)) {
            match (CONFIGURATION_SYMBOLS.contains(&name), bias) {
                (true, Some(bias)) => {
                    let text = configuration(thread, address.wrapping_add(bias));
                    facts.configurations.extend(text.map(|text| (name, text)));
                }
                (true, None) => {}
                (false, _) => facts.functions.push(name),
            }
        }
    }
    facts
}

/// What a file defines of what rows and configurations are known by: names, and ELF virtual addresses.
#[derive(Default)]
struct Signs(OnceLock<Vec<(&'static str, u64)>>);

fn signs_in(file: &StoredFile) -> Vec<(&'static str, u64)> {
    let names: Vec<&str> = ROWS
        .iter()
        .flat_map(|row| row.any.iter().chain(row.of))
        .filter_map(|sign| if let Function(name) = sign { Some(*name) } else { None })
        .chain(CONFIGURATION_SYMBOLS)
        .collect();
    let symbols = file.image().and_then(|image| image.symbols(&names).ok()).unwrap_or_default();
    symbols.iter().map(|symbol| (symbol.name, symbol.address)).collect()
}

/// The environment that a process began with.
fn environment(thread: u32) -> Vec<(String, String)> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{thread}/environ"));
    if file.and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut bytes)).is_err() {
        return Vec::new();
    }
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let text = String::from_utf8_lossy(entry);
            text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The string that the pointer at `address` points to.
fn configuration(thread: u32, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut pointer = [0; 8];
    memory.read_exact_at(&mut pointer, address).ok()?;
    let mut text = vec![0; MAX_CONFIGURATION];
    let length = memory.read_at(&mut text, u64::from_ne_bytes(pointer)).ok()?;
    let text = text.get(..length)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Disturbed, Facts, SelfProfiler, recognise, warning};

    fn facts(libraries: &[&str], variables: &[(&str, &str)]) -> Facts {
        Facts {
            libraries: libraries.iter().map(|&name| name.to_owned()).collect(),
            variables: variables.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..Facts::default()
        }
    }

    fn found(facts: &Facts) -> Vec<String> {
        recognise(facts).iter().map(SelfProfiler::to_string).collect()
    }

    #[test]
    fn a_variable_counts_where_its_reader_is() {
        let heap = [("HEAPPROFILE", "/tmp/heap"), ("CPUPROFILE", "/tmp/cpu")];
        assert_eq!(found(&facts(&["libc.so.6"], &heap)), [""; 0]);
        assert_eq!(
            found(&facts(&["libtcmalloc.so.4"], &heap)),
            ["tcmalloc's heap profiler (HEAPPROFILE is set)"]
        );
        assert_eq!(found(&facts(&["libtcmalloc_minimal.so.4"], &heap)), [""; 0]);
        assert_eq!(
            found(&facts(&["libprofiler.so.0"], &heap)),
            ["gperftools' CPU profiler (CPUPROFILE is set)"]
        );
        assert_eq!(found(&facts(&["libtcmalloc_and_profiler.so.4"], &heap)).len(), 2);
        assert_eq!(found(&facts(&["libtcmalloc.so.4"], &[("HEAPPROFILE", "")])), [""; 0]);
    }

    #[test]
    fn the_last_of_jemallocs_settings_counts() {
        let library = &["libjemalloc.so.2"];
        for (value, is_on) in [
            ("prof:true", true),
            ("background_thread:true,prof:true,lg_prof_sample:19", true),
            ("prof:true,prof:false", false),
            ("prof_active:true", false),
            ("prof:false", false),
        ] {
            let said = found(&facts(library, &[("MALLOC_CONF", value)]));
            assert_eq!(!said.is_empty(), is_on, "{value}: {said:?}");
        }
        let mut facts = facts(library, &[]);
        facts.configurations.push(("malloc_conf", "prof:true".to_owned()));
        assert_eq!(found(&facts), ["jemalloc's heap profiler (prof:true in malloc_conf)"]);
        facts.variables.push(("MALLOC_CONF".to_owned(), "prof:false".to_owned()));
        assert_eq!(found(&facts), [""; 0]);
        facts.variables.push(("_RJEM_MALLOC_CONF".to_owned(), "prof:true".to_owned()));
        assert_eq!(found(&facts), ["jemalloc's heap profiler (prof:true in _RJEM_MALLOC_CONF)"]);
        facts.libraries.clear();
        assert_eq!(found(&facts), [""; 0]);
        facts.functions.push("_rjem_mallctl");
        assert_eq!(found(&facts).len(), 1);
    }

    #[test]
    fn libraries_and_functions_show_others() {
        assert_eq!(
            found(&facts(&["libheaptrack_preload.so"], &[])),
            ["heaptrack (libheaptrack_preload is mapped)"]
        );
        assert_eq!(found(&facts(&["libasan.so.8"], &[])), ["AddressSanitizer (libasan is mapped)"]);
        let built_in = Facts { functions: vec!["__asan_init"], ..Facts::default() };
        assert_eq!(found(&built_in), ["AddressSanitizer (it has __asan_init)"]);
    }

    #[test]
    fn the_warning_is_one_line_of_memtraces_own_words() {
        assert_eq!(warning(7, &[]), None);
        let profilers = recognise(&facts(&["libheaptrack_preload\n.so", "libasan.so.8"], &[]));
        assert_eq!(profilers[0].disturbed, Disturbed::Allocations);
        let text = warning(7, &profilers).unwrap();
        assert!(
            text.starts_with("process 7 profiles itself with heaptrack (") && text.contains(" and Address"),
            "{text}"
        );
        assert!(!text.contains('\n') && text.contains("allocation stacks in its profile"), "{text}");
    }
}
