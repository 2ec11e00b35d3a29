use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use crate::profile::{
    CacheNumber, Dictionary, FileProblem, LeftOut, MemoryKind, OutOfMemory, Pace, RanOut, Remark, Renewal,
    Runtime, Share, Sign, Unread,
};
use crate::report::remarks::{object, sentence};

/// Builds a list with an example of each variant. A variant that is missing from the list is a compile error.
macro_rules! every_remark {
    ($($variant:ident $({ $($field:ident: $value:expr),* })?;)*) => {
        fn every_remark() -> Vec<Remark> {
            vec![$(Remark::$variant $({ $($field: $value),* })?),*]
        }

        const _: fn(&Remark) = |remark| match remark {
            $(Remark::$variant { .. } => {})*
        };
    };
}

const PACE: Pace = Pace { sample_bytes: Some(1 << 19), windows: true };
const SHARE: Share = Share { share: 0.01, of_processor: true };
const TIME: Duration = Duration::from_millis(1500);

fn text() -> String {
    "text".to_owned()
}

fn caches() -> Vec<CacheNumber> {
    vec![CacheNumber { cache: None, number: 3, all: 4 }]
}

fn out_of_memory() -> OutOfMemory {
    OutOfMemory {
        constraint: RanOut::Cgroup,
        cgroup: Some("/x".to_owned()),
        limit_bytes: Some(64 << 20),
        rss_bytes: Some(60 << 20),
        anon_bytes: Some(59 << 20),
        shmem_bytes: Some(0),
    }
}

#[test]
fn how_a_process_ended_is_told() {
    let told = |signal, core, out_of_memory| {
        let remark = Remark::Killed { pid: 7, comm: text(), at: TIME, signal, core, out_of_memory };
        sentence(&Dictionary::default(), &remark)
    };
    assert_eq!(
        told(11, true, None),
        "process 7 (text) was killed at 1.5 s by signal 11 (SIGSEGV, core dumped)"
    );
    assert_eq!(told(40, false, None), "process 7 (text) was killed at 1.5 s by signal 40");
    assert_eq!(
        told(9, false, Some(out_of_memory())),
        "process 7 (text) was killed at 1.5 s by the OOM killer: cgroup /x was at its limit of 64 MiB; its RSS was 60 MiB, 59 MiB of \
         it anonymous"
    );
    let shared = OutOfMemory { shmem_bytes: Some(50 << 20), ..out_of_memory() };
    assert!(told(9, false, Some(shared)).ends_with("; shared memory and tmpfs took 50 MiB of the limit"));
    let unknown = told(9, false, Some(OutOfMemory::default()));
    assert_eq!(unknown, "process 7 (text) was killed at 1.5 s by the OOM killer");
}

every_remark! {
    FramePointersOnly;
    PricesUnknown { error: text() };
    PaceChanged { since: TIME, pace: PACE, limit: SHARE };
    Detached { at: TIME, took: SHARE, limit: SHARE, pace: PACE };
    OverBudget { limit: 0.001 };
    FunctionsUntraced { pid: 7, functions: vec![text()] };
    FunctionsNotFound { pid: 7, functions: vec![text()] };
    AllocatorsUntraced { pid: 7, functions: vec![text()], more: 1 };
    HeapOfRuntime { pid: 7, runtime: Runtime::Python };
    AttachRefused { pid: 7, what: text(), error: text(), tries: 3, retried: true };
    AttachedLate { pid: 7, what: text(), error: text(), since: TIME };
    AgesLimited { days: 208 };
    Exited { pids: vec![7] };
    CheckedAlone { pid: 7, others: 2 };
    NoAllocator { pid: 7 };
    Followed { followed: 5, exited: 2, refused: 1, without_allocator: 1 };
    RangesJoined;
    WindowOpen { watch: TIME };
    NoWindow;
    Exec { pid: 7, comm: text(), times: 2, at: TIME, by_thread: true };
    ProbesUnheld { pid: 7, error: text() };
    BreakpointsMissing { pid: 7, missing: 1, all: 9 };
    CodeCopied { pid: 7, copied: 1, all: 9 };
    AttachedAnew { pid: 7, times: 2, at: TIME, why: Renewal::Removed, gap: TIME };
    MappingsTooFrequent { at: TIME };
    LeakCheckDeclined { pid: 7, bytes: 62 << 30, cpu: TIME };
    LeakCheckFailed { pid: 7, error: text() };
    NoLeakCheckInWindows { pid: 7 };
    RootMissing { pid: 7, lost: 3, checked: 4 };
    EarlySign { pid: 7, at: TIME, sign: Sign::NearLimit, cgroup: Some(text()), used: Some(0.9), limit_bytes: Some(64 << 20), pressure_of: Some(text()) };
    Killed { pid: 7, comm: text(), at: TIME, signal: 9, core: false, out_of_memory: Some(out_of_memory()) };
    AnotherKilled { pid: 7, comm: text(), at: TIME, out_of_memory: out_of_memory() };
    AgentInCgroup { pid: 7, cgroup: text(), limit_bytes: 64 << 20 };
    LostFreedLater { pid: 7, blocks: 1 };
    NoUnwindTable { file: text() };
    MappingsLeftOut { mappings: 5 };
    FileUnread { file: text(), unread: Unread::DebugFile, problem: FileProblem::TooSlow { seconds: 20 } };
    TooManyNames;
    NoNameThread { error: text() };
    NameThreadEnded;
    NoReader { error: text() };
    ReaderPrivileged { kept: text() };
    NamesLate { frames: 12 };
    LeftOut { what: LeftOut::Pages, grown: 5 << 20, also: None, option: Some(text()) };
    KindUntraced { kind: MemoryKind::Vmalloc };
    CachesUnknown;
    SlabsUnreadable;
    AddressesHidden;
    SlabinfoUnreadable { error: text() };
    FreedUnseen { caches: caches(), more: 1 };
    FreedByNumber { caches: caches(), more: 1 };
    Unverified { caches: caches(), more: 1 };
}

/// The rows of docs/losses.md: what is in their first and in their second column.
fn documented() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/losses.md")).unwrap();
    let row = |line: &str| {
        let mut columns = line.strip_prefix("| `")?.split(" | ");
        Some((columns.next()?.strip_suffix('`')?.to_owned(), columns.next()?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn every_remark_is_documented_with_its_values() {
    let documented = documented();
    let mut missing = Vec::new();
    for remark in every_remark() {
        let Value::Object(object) = object(&Dictionary::default(), &remark) else { panic!("{remark:?}") };
        let key = object["key"].as_str().unwrap();
        let Some((_, values)) = documented.iter().find(|(name, _)| name == key) else {
            missing.push(key.to_owned());
            continue;
        };
        let own = object.keys().filter(|name| !["key", "text"].contains(&name.as_str()));
        missing.extend(
            own.filter(|name| !values.contains(&format!("`{name}`"))).map(|name| format!("{key}.{name}")),
        );
    }
    assert!(missing.is_empty(), "not in docs/losses.md: {missing:?}");
}

#[test]
fn every_remark_has_a_key_and_a_sentence_of_its_own() {
    let remarks = every_remark();
    let (mut keys, mut sentences) = (BTreeSet::new(), BTreeSet::new());
    for remark in &remarks {
        let key = object(&Dictionary::default(), remark)["key"].as_str().unwrap().to_owned();
        let sentence = sentence(&Dictionary::default(), remark);
        assert!(sentence.contains(' '), "{key}: {sentence}");
        keys.insert(key);
        sentences.insert(sentence);
    }
    assert_eq!((keys.len(), sentences.len()), (remarks.len(), remarks.len()));
}
