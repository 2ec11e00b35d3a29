//! Remarks as sentences, and as objects for scripts.

use std::time::Duration;

use serde_json::{Map, Value};

use super::plan::{pace, part};
use super::{endings, following, kernel, runtimes, unseen};
use crate::profile::units::{format_age, format_bytes, format_count, format_number, format_percent};
use crate::profile::{CacheNumber, Dictionary, FileProblem, Remark, Renewal, Unread};

/// The remark as one sentence. Text from the target is not escaped in it.
pub(super) fn sentence(dictionary: &Dictionary, remark: &Remark) -> String {
    of_cost(remark)
        .or_else(|| of_targets(remark))
        .or_else(|| unseen::sentence(remark))
        .or_else(|| endings::sentence(remark))
        .or_else(|| of_files(remark))
        .or_else(|| of_kernel(dictionary, remark))
        .unwrap_or_else(|| key_and_values(remark).0)
}

/// What tracing costs, and how memtrace reacted.
fn of_cost(remark: &Remark) -> Option<String> {
    Some(match remark {
        Remark::FramePointersOnly => {
            "this kernel rejects the programs that unwind stacks by call frame information (they need Linux 5.17): frame \
             pointers are used instead"
                .to_owned()
        }
        Remark::PricesUnknown { error } => {
            format!("the cost of a probe could not be measured, so no budget is kept: {error}")
        }
        Remark::PaceChanged { since, pace: how, limit } => {
            format!("from {} on, {}, to stay within {}", seconds(*since), pace(*how), part(*limit))
        }
        Remark::Detached { at, took, limit, pace: how } => format!(
            "tracing took {}, far more than allowed ({}): detached at {}; from then on, {}",
            part(*took),
            part(*limit),
            seconds(*at),
            pace(*how)
        ),
        Remark::OverBudget { limit } => format!(
            "detached: {} of the target's CPU time is not enough to trace it, even in short windows; raise --max-overhead",
            format_percent(*limit)
        ),
        Remark::LeakCheckDeclined { pid, bytes, cpu } => format!(
            "process {pid} is not checked for leaks; --leak-check always: about {} of one core for {}",
            format_age(*cpu),
            format_bytes(*bytes)
        ),
        Remark::LeakCheckFailed { pid, error } => format!("process {pid} could not be checked for leaks: {error}"),
        Remark::NoLeakCheckInWindows { pid } => format!(
            "process {pid} could not be checked for leaks: its memory cannot be scanned three times within a window; \
             raise --max-overhead"
        ),
        Remark::RootMissing { pid, lost, checked } => format!(
            "no verdict on leaks of process {pid}: {} of {} seem lost, from most stacks, so something that holds them was \
             overlooked (encoded pointers, or memory that cannot be read)",
            format_number(*lost),
            format_count(*checked, "block")
        ),
        Remark::LostFreedLater { pid, blocks } => format!(
            "{} of process {pid} seemed lost and {} freed later: the program hides pointers, and the stacks concerned are \
             no longer checked",
            format_count(*blocks, "block"),
            if *blocks == 1 { "was" } else { "were" }
        ),
        Remark::WindowOpen { watch } => {
            format!("a window is open: blocks allocated in it less than {} ago are left out", format_age(*watch))
        }
        Remark::MappingsTooFrequent { at } => format!(
            "memory that the program maps itself is no longer followed from {} on: such calls are so frequent that tracing them takes \
             half of what is allowed",
            seconds(*at)
        ),
        Remark::NoWindow => "no window has opened since the previous report: the figures have not changed".to_owned(),
        _ => return None,
    })
}

/// Targets, and probes on them.
fn of_targets(remark: &Remark) -> Option<String> {
    Some(match remark {
        Remark::FunctionsUntraced { pid, functions } => format!(
            "process {pid}: not traced: {}. What they allocate is missing here, except what they get from traced functions. \
             A return probe on them could kill the process, and their exits could not be determined; \
             `memtrace check --pid {pid}` lists what is traced",
            functions.join("; ")
        ),
        Remark::HeapOfRuntime { pid, runtime } => runtimes::sentence(*pid, *runtime),
        Remark::AttachRefused { pid, what, error, retried: true, .. } => {
            format!("{what} of process {pid} is not traced yet, and memtrace will try again: {error}")
        }
        Remark::AttachRefused { pid, what, error, tries, .. } => {
            format!("{what} of process {pid} is not traced after {tries} failed attempts: {error}")
        }
        Remark::AttachedLate { pid, what, error, since } => {
            format!("{what} of process {pid} was not traced before {}: {error}", seconds(*since))
        }
        Remark::AgesLimited { days } => {
            format!("tracing has gone on for over {days} days: older blocks are shown as {days} days younger")
        }
        Remark::Exited { pids } => following::exited(pids),
        Remark::CheckedAlone { pid, others } => following::checked_alone(*pid, *others),
        Remark::NoAllocator { pid } => format!(
            "process {pid} has no allocator that memtrace knows: nothing that it allocates itself is in the figures, nor was it \
             checked for leaks"
        ),
        Remark::Followed { followed, exited, refused, without_allocator } => {
            following::followed(*followed, *exited, *refused, *without_allocator)
        }
        Remark::RangesJoined => {
            "a process has mapped so many ranges that neighbours were joined: some may be younger than shown"
                .to_owned()
        }
        Remark::Exec { pid, comm, times, at, by_thread } => {
            let often = if *times > 1 { format!(" {times} times, the last time") } else { String::new() };
            let thread = if *by_thread {
                "; the call came from a thread other than the main one, and allocations before the probes were back are unknown"
            } else {
                ""
            };
            format!(
                "process {pid} called exec{often} after {} and is now {comm}: its count was restarted{thread}",
                seconds(*at)
            )
        }
        Remark::ProbesUnheld { pid, error } => format!(
            "probes of process {pid} do not stay in place: {error}; memtrace keeps trying, and calls may go unseen until it succeeds"
        ),
        Remark::BreakpointsMissing { pid, missing, all } => format!(
            "breakpoints are missing from the code of process {pid}, {missing} of {all}, and the kernel does not restore them: calls there are \
             not seen"
        ),
        Remark::CodeCopied { pid, copied, all } => format!(
            "process {pid} runs from a copy of its code in anonymous memory (programs do this to use huge pages), \
             which cannot be probed: calls at {copied} of {all} probed places are not seen"
        ),
        Remark::AttachedAnew { pid, times, at, why, gap } => {
            let often = if *times > 1 { format!(" {times} times, the last time") } else { String::new() };
            let why = match why {
                Renewal::ThreadEnded => format!(
                    "the thread that they depended on had ended: calls went unseen for {} ms",
                    gap.as_millis() + 1
                ),
                Renewal::Removed => format!(
                    "breakpoints had been removed from its code: calls went unseen for up to {}",
                    seconds(*gap)
                ),
                Renewal::Rewritten => format!(
                    "a file with an allocator had been rewritten: calls went unseen, for up to {}",
                    seconds(*gap)
                ),
            };
            format!("probes of process {pid} were reattached{often} at {}: {why}", seconds(*at))
        }
        _ => return None,
    })
}

/// Files of targets, and names in them.
fn of_files(remark: &Remark) -> Option<String> {
    Some(match remark {
        Remark::NoUnwindTable { file } => format!(
            "{file}: its unwind table did not fit: stacks through it end there, unless it keeps frame pointers"
        ),
        Remark::MappingsLeftOut { mappings } => {
            format!(
                "{mappings} executable mappings did not fit into the table: stacks through them end there"
            )
        }
        Remark::FileUnread { file, unread, problem } => {
            let unread = match (unread, problem) {
                (Unread::DebugFile, FileProblem::OtherBuild { path }) => {
                    format!("its debug file {path} is not used")
                }
                (Unread::DebugFile, _) => "its debug file is not used".to_owned(),
                (Unread::DebugInfo, _) => "its debug information is not used".to_owned(),
                (Unread::PartOfDebugInfo, _) => "parts of its debug information are not used".to_owned(),
                (Unread::Symbols, _) => "its symbols are not used".to_owned(),
            };
            let problem = match problem {
                FileProblem::TooSlow { seconds } => format!("reading it takes longer than {seconds} s"),
                FileProblem::ReaderEnded => "the symbolizer ended while reading it".to_owned(),
                FileProblem::OtherBuild { .. } => "it belongs to another build".to_owned(),
                FileProblem::Unreadable { error } => format!("it cannot be read ({error})"),
                FileProblem::Refused { error } => error.clone(),
            };
            format!("{file}: {unread}: {problem}")
        }
        Remark::TooManyNames => "too many names: code seen from now on has none".to_owned(),
        Remark::NoNameThread { error } => {
            format!("no function has a name: the thread that looks them up cannot be started ({error})")
        }
        Remark::NameThreadEnded => {
            "the thread that looks up names has ended: code seen from now on has none".to_owned()
        }
        Remark::NoReader { error } => {
            format!("functions lack names: the symbolizer cannot be started ({error})")
        }
        Remark::ReaderPrivileged { kept } => {
            format!(
                "the symbolizer, which reads files of the target, is not fully sandboxed; this failed: {kept}"
            )
        }
        Remark::NamesLate { frames } => format!(
            "looking up functions is slow: {} of this report could not be named in time",
            format_count(*frames, "frame")
        ),
        _ => return None,
    })
}

/// What this kernel does not show.
fn of_kernel(dictionary: &Dictionary, remark: &Remark) -> Option<String> {
    Some(match remark {
        Remark::LeftOut { what, grown, also, option } => kernel::grown(*what, *grown, *also, option.as_deref()),
        Remark::KindUntraced { kind } => {
            format!("this kernel has no tracepoints for {} memory: none of it is traced", kind.name())
        }
        Remark::CachesUnknown => {
            "the caches of kmalloc's objects cannot be determined on this kernel: they are not compared with /proc/slabinfo"
                .to_owned()
        }
        Remark::SlabsUnreadable => {
            "this kernel's slabs cannot be searched: unannounced frees are determined from /proc/slabinfo alone"
                .to_owned()
        }
        Remark::AddressesHidden => {
            "the kernel hides its addresses (kernel.kptr_restrict): frames have no names; `sysctl kernel.kptr_restrict=1` shows \
             them to root"
                .to_owned()
        }
        Remark::SlabinfoUnreadable { error } => {
            format!("/proc/slabinfo cannot be read ({error}): unannounced frees go unnoticed")
        }
        Remark::FreedUnseen { caches, more } => format!(
            "some frees are not announced by this kernel (kfree_rcu, in bulk): {} were found free and are left out",
            list(dictionary, caches, *more)
        ),
        Remark::FreedByNumber { caches, more } => format!(
            "according to /proc/slabinfo, {} are gone and are left out; that is too many if older objects were freed unseen",
            list(dictionary, caches, *more)
        ),
        Remark::Unverified { caches, more } => {
            format!("objects that could not be looked up may be gone: {}", list(dictionary, caches, *more))
        }
        _ => return None,
    })
}

/// `21 of 40 in dentry, 3 of 3 in inode_cache and those in 2 more caches`.
fn list(dictionary: &Dictionary, caches: &[CacheNumber], more: usize) -> String {
    let one = |number: &CacheNumber| {
        let name = number.cache.map_or("kmalloc without a cache", |name| dictionary.text(name));
        format!("{} of {} in {name}", format_number(number.number), format_number(number.all))
    };
    let mut all: Vec<String> = caches.iter().map(one).collect();
    if more > 0 {
        all.push(format!("those in {}", format_count(more as u64, "more cache")));
    }
    match all.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// A time since tracing began: `12.3 s`.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The remark as an object: its key, its values and its sentence.
pub(super) fn object(dictionary: &Dictionary, remark: &Remark) -> Value {
    let (key, mut values) = key_and_values(remark);
    if let Some(Value::Array(values)) = values.get_mut("caches") {
        // Ids are internal.
        *values = remark
            .caches()
            .iter()
            .map(|one| {
                let cache = one.cache.map(|name| dictionary.text(name));
                let fields =
                    [("cache", Value::from(cache)), ("number", one.number.into()), ("all", one.all.into())];
                Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
            })
            .collect();
    }
    let mut object = Map::new();
    object.insert("key".to_owned(), key.into());
    object.extend(values);
    object.insert("text".to_owned(), sentence(dictionary, remark).into());
    Value::Object(object)
}

/// The name of the variant in snake case, and its fields.
fn key_and_values(remark: &Remark) -> (String, Map<String, Value>) {
    let (name, values) = match serde_json::to_value(remark) {
        Ok(Value::String(name)) => (name, Map::new()),
        Ok(Value::Object(object)) => match object.into_iter().next() {
            Some((name, Value::Object(values))) => (name, values),
            _ => (String::new(), Map::new()),
        },
        _ => (String::new(), Map::new()),
    };
    (snake_case(&name), values.into_iter().map(|(key, value)| readable(key, value)).collect())
}

/// Durations in seconds, as everywhere in JSON; kinds by name.
fn readable(key: String, value: Value) -> (String, Value) {
    match &value {
        Value::Object(time) if time.len() == 2 && time.contains_key("secs") && time.contains_key("nanos") => {
            let of = |key| time.get(key).and_then(Value::as_u64).unwrap_or_default();
            (format!("{key}_s"), Value::from(of("secs") as f64 + (of("nanos") / 1_000_000) as f64 / 1e3))
        }
        Value::String(name) if key == "kind" => (key, snake_case(name).into()),
        _ => (key, value),
    }
}

fn snake_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (at, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{object, sentence};
    use crate::profile::{CacheNumber, Dictionary, MemoryKind, Pace, Remark, Renewal, Share};

    #[test]
    fn keys_values_and_text() {
        let dictionary = Dictionary::default();
        let remark = Remark::AttachedAnew {
            pid: 7,
            times: 2,
            at: Duration::from_millis(1500),
            why: Renewal::ThreadEnded,
            gap: Duration::from_millis(3),
        };
        let text = "probes of process 7 were reattached 2 times, the last time at 1.5 s: the thread that they depended on had ended: calls went unseen for 4 ms";
        assert_eq!(
            object(&dictionary, &remark),
            json!({ "key": "attached_anew", "pid": 7, "times": 2, "at_s": 1.5, "why": "thread_ended", "gap_s": 0.003, "text": text })
        );
        let remark = Remark::KindUntraced { kind: MemoryKind::Vmalloc };
        assert_eq!(object(&dictionary, &remark)["kind"], "vmalloc");
        assert_eq!(object(&dictionary, &Remark::NoWindow)["key"], "no_window");
    }

    #[test]
    fn caches_are_named() {
        let mut dictionary = Dictionary::default();
        let dentry = Some(dictionary.add_text("dentry"));
        let caches = vec![
            CacheNumber { cache: dentry, number: 2100, all: 4000 },
            CacheNumber { cache: None, number: 1, all: 1 },
        ];
        let remark = Remark::Unverified { caches, more: 2 };
        assert_eq!(
            sentence(&dictionary, &remark),
            "objects that could not be looked up may be gone: 2,100 of 4,000 in dentry, 1 of 1 in kmalloc without a cache and those in 2 more caches"
        );
        assert_eq!(
            object(&dictionary, &remark)["caches"][0],
            json!({ "cache": "dentry", "number": 2100, "all": 4000 })
        );
    }

    #[test]
    fn paces_are_worded() {
        let limit = Share { share: 0.01, of_processor: true };
        let pace = Pace { sample_bytes: Some(1 << 19), windows: true };
        let remark = Remark::PaceChanged { since: Duration::from_secs(2), pace, limit };
        assert_eq!(
            sentence(&Dictionary::default(), &remark),
            "from 2.0 s on, one allocation per 512 KiB is counted, but only in short windows, to stay within 1 % of one CPU"
        );
    }
}
