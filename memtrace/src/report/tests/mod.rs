//! What the formats have in common to be tested with.

mod balance;
mod curves;
mod endings;
mod firefox;
mod formats;
mod heap;
mod json;
mod kernel;
mod mappings;
mod memleak;
mod recorded;
mod remarks;
mod screen;
mod text;
mod triage;
mod verdicts;

use std::io;
use std::time::Duration;

use jiff::tz::TimeZone;

use self::recorded::{Frame, Mapped, Recorded, StackRow, traced};
use super::losses::sentences;
use super::{Json, Memleak, MemleakOptions, Reporter, Style, Text, escape};
use crate::profile::{
    Age, Allocation, Amount, Attachment, By, Curves, Dictionary, Filter, Holder, LeakCheck, Leaked,
    LiveBlock, Losses, Marks, Moment, Overhead, Reached, Reason, Remark, Root, Since, StackMethod,
    Uncertainty,
};

/// A function, a module and a file name that would clear the screen, retitle it, reorder and break lines.
const HOSTILE: &str =
    "evil\x1b[2J\x1b]0;owned\x07\r\nroot# \u{202e}txt\u{2066}\u{9b}31m\u{7f}\u{2028}\u{e0041}";

/// The namespace of SVG.
const SVG: &str = "http://www.w3.org/2000/svg";

/// A frame of a function, or of none if the name is empty.
pub(super) fn named<'a>(function: &'a str, module: &'a str) -> crate::profile::Frame<'a> {
    let function = Some(function).filter(|name| !name.is_empty());
    crate::profile::Frame { function, module, ..crate::profile::Frame::default() }
}

fn amount(bytes: u64, blocks: u64) -> Amount {
    Amount { bytes, blocks }
}

/// An ordinary report: two stacks of five.
fn report() -> Recorded {
    let main = Frame {
        function: Some("main".into()),
        function_offset: 0x6d,
        module: "/srv/api-server".into(),
        module_offset: 0x13ad,
        file: Some("src/main.c".into()),
        line: Some(7),
        inlined: false,
    };
    let leak = Frame {
        function: Some("leak_small".into()),
        function_offset: 0x1e,
        module_offset: 0x1167,
        file: Some("src/api.c".into()),
        line: Some(42),
        ..main.clone()
    };
    let inlined = Frame { function: Some("handle<'_>".into()), inlined: true, line: None, ..leak.clone() };
    let unknown = Frame { module: "/usr/lib/libplugin.so".into(), module_offset: 0x4f0, ..Frame::default() };
    Recorded {
        elapsed: Duration::from_millis(5004),
        last: false,
        pids: vec![4123],
        comm: "api-server".into(),
        allocators: vec!["glibc".into()],
        untraced: Vec::new(),
        sample_bytes: None,
        sampling: false,
        exact: true,
        attached: Attachment { share: 1.0, gaps: 0, windows: None, open: false },
        stacks_by: StackMethod::FramePointer,
        filter: Filter::default(),
        outstanding: amount(1_048_576, 1024),
        uncertainty: None,
        unknown_frees: 12,
        overhead: None,
        bytes_per_second: 1_572_864.0,
        stacks_found: 5,
        stacks: vec![
            StackRow {
                id: 0x9f0c_0000_dead_beef,
                pid: 4123,
                outstanding: amount(65_536, 64),
                uncertainty: None,
                allocated: amount(70_000, 67),
                freed: amount(4464, 3),
                bytes_per_second: 13_107.2,
                oldest: Age { age: Duration::from_millis(4200), exact: true },
                incomplete: None,
                leaked: None,
                held_by: Vec::new(),
                verdict: None,
                frames: vec![inlined, leak, main],
                blocks: Vec::new(),
                kernel: None,
            },
            StackRow {
                id: 0x17,
                pid: 4123,
                outstanding: amount(640, 1),
                uncertainty: None,
                allocated: amount(640, 1),
                freed: amount(0, 0),
                bytes_per_second: -20_480.0,
                oldest: Age { age: Duration::from_secs(192), exact: false },
                incomplete: Some(Reason::NoFramePointer),
                leaked: None,
                held_by: Vec::new(),
                verdict: None,
                frames: vec![unknown],
                blocks: Vec::new(),
                kernel: None,
            },
        ],
        mapped: Some(Vec::new()),
        leak_check: None,
        balances: Vec::new(),
        curves: Curves::default(),
        kernel: None,
        caches_found: 0,
        by: By::Stack,
        losses: Losses::default(),
        remarks: Vec::new(),
        marks: Marks::default(),
    }
}

/// The same with blocks.
fn with_blocks() -> Recorded {
    let mut report = report();
    let block = |address, size, seconds| LiveBlock { address, size, age: Duration::from_secs(seconds) };
    report.stacks[0].blocks = vec![block(0x0094_8cd0, 1024, 4), block(0x0094_90f0, 48, 3)];
    report.stacks[1].blocks = vec![block(0x7fff_0000_1000, 640, 192)];
    report.mapped = Some(vec![Mapped {
        id: 0xabc,
        pid: 4123,
        mapped: amount(2 << 20, 2),
        resident: None,
        oldest: Duration::from_secs(61),
        verdict: None,
        frames: Vec::new(),
    }]);
    report
}

/// The ordinary report, had it been sampled, and in windows.
fn sampled() -> Recorded {
    let mut sampled = report();
    sampled.sample_bytes = Some(524_288);
    sampled.mapped = None;
    sampled.sampling = true;
    sampled.exact = false;
    sampled.attached =
        Attachment { share: 0.020_987, gaps: 12, windows: Some((102_345, 102_100)), open: false };
    sampled.uncertainty = Some(Uncertainty { bytes: 104_858, blocks: 512, samples: 31 });
    sampled.stacks[0].uncertainty = Some(Uncertainty { bytes: 65_000, blocks: 12, samples: 3 });
    sampled.stacks[1].uncertainty = Some(Uncertainty { bytes: 0, blocks: 0, samples: 1 });
    sampled.overhead = Some(Overhead {
        spent: Duration::from_millis(156),
        cpu: Duration::from_secs(5),
        elapsed: sampled.elapsed,
        calls: 123_456,
        limit: Some(0.05),
        least: Some(0.005),
    });
    sampled
}

/// Nothing outstanding, nothing found.
fn empty() -> Recorded {
    Recorded {
        outstanding: Amount::default(),
        bytes_per_second: 0.0,
        stacks_found: 0,
        stacks: Vec::new(),
        ..report()
    }
}

/// A report that is limited to the time between two marks, in half of which allocations were seen.
fn marked() -> Recorded {
    let seconds = Duration::from_secs;
    let mut marks = Marks { since: Since::BetweenMarks, seen: seconds(5), ..Marks::default() };
    marks.add(seconds(1), seconds(1));
    marks.add(seconds(3), seconds(2));
    Recorded { marks, ..report() }
}

/// Every loss there is, each with its own figure.
fn losses() -> Losses {
    Losses {
        live_map_full: 1203,
        live_map_full_bytes: 4_718_592,
        in_flight_lost: 1,
        ring_full: 3,
        no_walk_slot: 4,
        no_thread_slot: 5,
        stack_table_full: 6,
        missed_frees: 7,
        kernel_missed: 8,
        mappings_full: 10,
        mappings_full_bytes: 40_960,
        names_given_up: 11,
        children_not_traced: 9,
        stacks_incomplete: vec![
            (Reason::TooDeep, 0),
            (Reason::NoFramePointer, 10),
            (Reason::StackUnreadable, 2000),
        ],
    }
}

/// Target-derived strings, all of them hostile.
fn hostile() -> Recorded {
    let mut report = report();
    report.comm = HOSTILE.into();
    report.allocators = vec![HOSTILE.into()];
    let at = Duration::from_secs(1);
    report.remarks =
        vec![Remark::Exec { pid: 4123, comm: HOSTILE.to_owned(), times: 1, at, by_thread: false }];
    let mut row = report.stacks.remove(0);
    row.frames = vec![
        Frame {
            function: Some(HOSTILE.into()),
            module: format!("/srv/{HOSTILE}"),
            file: Some(HOSTILE.into()),
            ..Frame::default()
        },
        Frame { module: HOSTILE.into(), ..Frame::default() },
    ];
    report.stacks = vec![row];
    report.stacks_found = 1;
    report
}

/// An allocation of 16 bytes, with frames, and its free.
fn trace() -> [(Vec<Frame>, Allocation); 2] {
    let allocation = Allocation {
        elapsed: Duration::from_micros(4_213),
        pid: 4123,
        tid: 4125,
        freed: false,
        address: 0x0094_8cd0,
        size: 16,
        id: 0x9f0c_0000_dead_beef,
        stack: None,
    };
    let free = Allocation { elapsed: Duration::from_secs(94_769), freed: true, ..allocation.clone() };
    [(report().stacks.remove(0).frames, allocation), (Vec::new(), free)]
}

/// What a reporter writes for [`trace`], a text each.
fn trace_lines(reporter: impl Reporter + Clone) -> [String; 2] {
    trace().map(|(frames, event)| traced(reporter.clone(), &frames, event))
}

/// Nothing in `text` steers a terminal; lines end where the reporter ends them.
fn assert_harmless(text: &str) {
    for line in text.split('\n').map(|line| line.trim_start_matches('\t')) {
        assert_eq!(escape(line), line);
    }
}

/// A pipe that closes after some bytes.
struct Closing(usize);

impl io::Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_an_error_wherever_it_closes() {
    let options = MemleakOptions { top: 10, show_allocs: true, combined_only: false, zone: TimeZone::UTC };
    let reporters: [Box<dyn Reporter>; 3] = [
        Box::new(Text::new(Style { colour: true, ..Style::default() }, TimeZone::UTC)),
        Box::new(Json),
        Box::new(Memleak::new(options)),
    ];
    let report = Recorded { losses: losses(), ..with_blocks() };
    let [(_, event), _] = trace();
    let dictionary = Dictionary::default();
    for mut reporter in reporters {
        let mut check = |write: &dyn Fn(&mut dyn Reporter, &mut dyn io::Write) -> io::Result<()>| {
            let mut whole = Vec::new();
            write(&mut *reporter, &mut whole).unwrap();
            assert!(write(&mut *reporter, &mut Closing(whole.len())).is_ok());
            for room in 0..whole.len() {
                let error = write(&mut *reporter, &mut Closing(room)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
        };
        check(&|reporter, out| report.write(reporter, out));
        check(&|reporter, out| reporter.allocation(out, &dictionary, &event));
    }
}

#[test]
fn losses_are_said_only_when_there_are_any() {
    assert_eq!(sentences(&Losses::default()), [""; 0]);
    let one = Losses { missed_frees: 1, ..Losses::default() };
    insta::assert_snapshot!(sentences(&one).join("\n"), @r#"1 block still live here when the address was handed out again: a free was missed, and the old block no longer counts."#);
}

#[test]
fn losses_never_look_like_a_stack_of_memleak() {
    let all = sentences(&losses());
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|sentence| !sentence.contains("byte")), "{all:?}");
}

/// A report with a leak check: the first row has lost blocks, the second is held by a variable.
fn checked() -> Recorded {
    let mut report = report();
    report.leak_check = Some(LeakCheck {
        moment: Moment::Running,
        at: Duration::from_secs(4),
        scans: 3,
        read: 20 << 20,
        skipped: 0,
        took: Duration::from_millis(120),
        cpu: Duration::from_millis(110),
        reached: Reached {
            reachable: amount(640, 1),
            possibly: amount(2048, 2),
            directly: amount(1024, 1),
            indirectly: amount(30_720, 30),
            suppressed: amount(0, 0),
        },
        undecided: 33,
        before: None,
        complete: true,
        pid: Some(4123),
    });
    if let [lost, held, ..] = report.stacks.as_mut_slice() {
        lost.leaked = Some(Leaked {
            checked: 40,
            lost: amount(31_744, 31),
            indirectly: amount(30_720, 30),
            through: 30_720,
            possibly: amount(2048, 2),
        });
        held.leaked = Some(Leaked { checked: 1, ..Leaked::default() });
        let root = Root::data("/srv/api-server", Some(("g_registry", 0)), None);
        held.held_by = vec![Holder { root, steps: 3, share: 0.97, looked_at: 512 }];
    }
    report
}
