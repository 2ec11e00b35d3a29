//! The balance of a process in text.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{empty, recorded::Recorded, verdicts::judged};
use crate::profile::{
    Amount, Balance, Child, Course, Grounds, Knowledge, Limit, LimitKind, Parts, Resident, Selection,
    Standing, View,
};
use crate::report::{Style, Text, balance::lines};

/// What the memory of the process grows by comes before everything else.
#[test]
fn the_balance_comes_first() {
    let rate = Parts { total: 2_310_000.0, blocks: 2_202_010.0, kept: 107_990.0, ..Parts::default() };
    let balance = Balance {
        pid: 4123,
        resident: Resident { anon: 1 << 31, swap: 1 << 20, ..Resident::default() },
        rate,
        grown: rate,
        course: Course::Growing,
        standing: Standing::Leak,
        limit: Some(Limit {
            kind: LimitKind::CgroupMax("/a".into()),
            bytes: 4 << 30,
            used: 2 << 30,
            reached_in: Some(Duration::from_secs(1040)),
        }),
        ..Balance::default()
    };
    let of = |balance: Balance| {
        let text = Recorded { balances: vec![balance], ..empty() }
            .written(Text::new(Style::default(), TimeZone::UTC));
        text.lines().skip(1).take(2).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(of(balance.clone()), @r"
    RSS 2 GiB and 1 MiB swapped out +2.2 MiB/s = blocks +2.1, mapped 0, thread stacks 0, allocator keeps +0.1, files and shared 0, unexplained 0
    LEAK: live blocks grow by 2.1 MiB/s, 95 % of the growth; its cgroup's limit of 4 GiB is reached in 17m20s
    ");
    // Who leaks is named: the first of the stacks that do, and how many more there are.
    let mut guilty = Recorded { balances: vec![balance.clone()], stacks_found: 2, ..judged() };
    let second = |guilty: &Recorded| {
        let text = guilty.written(Text::new(Style::default(), TimeZone::UTC));
        text.lines().nth(2).map(|line| line.split_once(':').map_or("", |(who, _)| who).to_owned())
    };
    assert_eq!(second(&guilty).as_deref(), Some("LEAK in handle"));
    guilty.stacks[1].verdict = guilty.stacks[0].verdict;
    assert_eq!(second(&guilty).as_deref(), Some("LEAK in handle and 1 more stack"));
    let child = Child { pid: 9, comm: "wor\u{1b}ker".into(), rss: 5 << 20, grown: 3 << 20 };
    let kept = Balance {
        rate: Parts::default(),
        grown: Parts {
            total: 140.0 * 1048576.0,
            blocks: 2097152.0,
            kept: 138.0 * 1048576.0,
            ..Parts::default()
        },
        standing: Standing::KeptByAllocator,
        knowledge: Knowledge::AtMost,
        allocators: vec!["glibc".into()],
        children: vec![child],
        children_found: 1,
        children_grown: 3 << 20,
        limit: None,
        ..balance
    };
    insta::assert_snapshot!(of(kept), @r"
    RSS 2 GiB and 1 MiB swapped out 0 B/s; since the start 140 MiB = blocks about +2.0 (from windows), mapped 0, thread stacks 0, allocator keeps +138, files and shared 0, unexplained 0
    MOST LIKELY NOT A LEAK IN THIS CODE: the process grew by 140 MiB, its live blocks by about 2 MiB; glibc keeps about 138 MiB of freed memory: MALLOC_ARENA_MAX=2, malloc_trim(0) from time to time, or another allocator would help; its 1 child (9: wor\x1bker; 5 MiB) is not traced and GROWS, by 3 MiB so far: `memtrace attach --follow 4123`
    ");
}

/// Of what the process does, and of what its stacks do, one may show before the other.
#[test]
fn the_sentence_and_the_rows_agree() {
    let growing = Amount { bytes: 4096, blocks: 40 };
    let of = |balance: Balance, pids: Vec<u32>| {
        let report = Recorded { balances: vec![balance], pids, stacks_found: 2, ..judged() };
        let (dictionary, profile) = report.profile();
        lines(&View::new(&dictionary, &profile, &Selection::default()))
    };
    let leak = Balance { pid: 4123, growing, standing: Standing::Leak, ..Balance::default() };
    let one = || vec![4123];
    assert_eq!(of(leak.clone(), one())[1], "LEAK in handle: 4 KiB in 40 blocks that stay");
    let young = Balance { span: Duration::from_secs(60), ..leak.clone() };
    assert!(of(young, one())[1].ends_with(" that stay; a cache that fills looks the same at first"));
    let hidden = Balance { leaking: 2048.0, ..leak.clone() };
    assert_eq!(
        of(hidden, one())[1],
        "LEAK in handle: its blocks grow by 2 KiB/s, which RSS does not show so far"
    );
    let mapped = Balance { standing: Standing::Mappings, leaking: 2048.0, ..leak.clone() };
    assert_eq!(
        of(mapped, one())[1],
        "MAPPINGS: what the program maps itself (mmap) grows by 0 B/s: 0 B of address space in 0 ranges; besides, LEAK in handle: \
         its blocks grow by 2 KiB/s, which RSS does not show so far"
    );
    // Its stacks leak, and nothing is known of its memory.
    let parent = Balance { pid: 1, standing: Standing::NoLeak, ..Balance::default() };
    let all = of(parent, vec![1, 4123]);
    let ends: Vec<&str> = all.iter().filter_map(|line| line.split_once(": ")).map(|(_, rest)| rest).collect();
    assert_eq!(ends[1..3], ["NO LEAK SEEN: memory is flat", "RSS was not looked at"], "{all:#?}");
    assert!(ends[3].starts_with("LEAK in handle: ") && ends[3].ends_with(" that stay"), "{all:#?}");
}

/// Of a leak that no stack is found guilty of, the stack that holds most of it is a suspect.
#[test]
fn a_suspect_is_named_where_nobody_is_guilty() {
    let mut report = Recorded { stacks_found: 2, ..judged() };
    let held = report.stacks[0].outstanding.bytes;
    let mut sentence = |kind: Grounds, grown: u64| {
        let grown = Parts { blocks: grown as f64, ..Parts::default() };
        let rate = Parts { total: 2048.0, blocks: 2048.0, ..Parts::default() };
        report.balances =
            vec![Balance { pid: 4123, standing: Standing::Leak, grown, rate, ..Balance::default() }];
        for stack in &mut report.stacks {
            if let Some(verdict) = &mut stack.verdict {
                verdict.grounds = kind;
            }
        }
        let (dictionary, profile) = report.profile();
        lines(&View::new(&dictionary, &profile, &Selection::default())).remove(1)
    };
    let few = Grounds::Few { blocks: 1, until: None };
    assert_eq!(
        sentence(few, held),
        "LEAK, perhaps in handle: live blocks grow by 2 KiB/s, 100 % of the growth"
    );
    assert_eq!(sentence(few, 3 * held), "LEAK: live blocks grow by 2 KiB/s, 100 % of the growth");
    let steady = Grounds::Turnover { freed: 9 };
    assert_eq!(sentence(steady, held), "LEAK: live blocks grow by 2 KiB/s, 100 % of the growth");
}

#[test]
fn page_tables_and_memory_that_is_filled_have_words() {
    let of = |balance: Balance| {
        let balance = Balance { pid: 4123, span: Duration::from_secs(30), ..balance };
        let (dictionary, profile) = Recorded { balances: vec![balance], ..empty() }.profile();
        lines(&View::new(&dictionary, &profile, &Selection::default()))
    };
    let resident = Resident { anon: 1 << 20, size: 1 << 40, ..Resident::default() };
    let tables =
        Balance { standing: Standing::Unseen, page_tables_grown: 40 << 20, resident, ..Balance::default() };
    assert_eq!(
        of(tables)[1],
        "PAGE TABLES: they grew by 40 MiB in 30.0 s, the process itself by 0 B: memory is used here and there in 1 TiB of address \
         space; `memtrace kernel --pid 4123 --pages` shows by which code"
    );
    let rate = Parts { total: 2048.0, blocks: 0.0, kept: 2048.0, ..Parts::default() };
    let filling = Balance { standing: Standing::NoLeak, course: Course::Filling, rate, ..Balance::default() };
    assert_eq!(
        of(filling)[1],
        "NO LEAK SEEN: it grows by 2 KiB/s, but its blocks and mappings hardly do: most likely it uses memory that it had before"
    );
    let early = Balance { lacks: Duration::from_secs(4), resident, ..Balance::default() };
    assert_eq!(of(early)[0], "RSS 1 MiB, too early for its growth");
}

#[test]
fn too_early_says_what_is_missing() {
    let of = |lacks| {
        let balance = Balance { pid: 4123, span: Duration::from_secs(6), lacks, ..Balance::default() };
        let (dictionary, profile) = Recorded { balances: vec![balance], ..empty() }.profile();
        lines(&View::new(&dictionary, &profile, &Selection::default())).remove(1)
    };
    let early = "TOO EARLY TO TELL about this process: its memory has been looked at for 6.0 s, and the verdict needs";
    assert_eq!(of(Duration::from_millis(3200)), format!("{early} about 4 s more"));
    assert_eq!(of(Duration::ZERO), format!("{early} 10 s"));
}

/// Memory from before tracing began grows without a call.
#[test]
fn what_is_used_only_now_is_said_to_be() {
    let of = |filled| {
        let grown = Parts { total: 3145728.0, unexplained: 2097152.0, blocks: 1048576.0, ..Parts::default() };
        let standing = Standing::Unseen;
        let balance = Balance { pid: 4123, grown, standing, filled, ..Balance::default() };
        let (dictionary, profile) = Recorded { balances: vec![balance], ..empty() }.profile();
        lines(&View::new(&dictionary, &profile, &Selection::default())).remove(1)
    };
    assert_eq!(
        of(2 << 20),
        "UNSEEN: the process grew by 3 MiB, 2 MiB of that in memory that it had mapped or allocated before tracing began and has used only \
         since, which takes no call"
    );
    let unknown = of(4096);
    assert!(
        unknown.contains("or memory from before tracing began that is used only now; `memtrace check"),
        "{unknown}"
    );
}

/// It has neither a rate nor commands to look at it.
#[test]
fn what_has_exited_does_not_grow() {
    let of = |standing, left: Amount, growing: Amount| {
        let grown = Parts { total: 3145728.0, blocks: 2097152.0, kept: 1048576.0, ..Parts::default() };
        let grown = match standing {
            Standing::Unseen => Parts { kept: 0.0, unexplained: 1048576.0, ..grown },
            _ => grown,
        };
        let balance = Balance {
            pid: 4123,
            span: Duration::from_secs(40),
            resident: Resident { anon: 1 << 24, ..Resident::default() },
            grown,
            standing,
            ended: Some(left),
            growing,
            children: vec![Child { pid: 9, comm: "sh".into(), rss: 4096, grown: 0 }],
            children_found: u64::from(standing == Standing::Unseen),
            ..Balance::default()
        };
        let report = Recorded { balances: vec![balance], ..empty() };
        let text = report.written(Text::new(Style::default(), TimeZone::UTC));
        text.lines().skip(1).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let (none, some) = (Amount::default(), Amount { bytes: 2048, blocks: 1 });
    let all = [
        (Standing::NoLeak, none, none),
        (Standing::NoLeak, some, none),
        (Standing::Leak, some, none),
        (Standing::Leak, some, some),
        (Standing::KeptByAllocator, some, none),
        (Standing::Mappings, some, none),
        (Standing::SharedMemory, some, none),
        (Standing::Unseen, some, none),
        (Standing::TooEarly, some, none),
    ];
    let sentences = all.map(|(standing, left, growing)| of(standing, left, growing).remove(1));
    insta::assert_snapshot!(sentences.join("\n"), @r"
    NO LEAK SEEN: it has exited, and nothing that it allocated since the start was left
    NO LEAK SEEN: it has exited with 2 KiB in 1 block not freed, and no stack was seen to keep growing
    LEAK: live blocks grew by 2 MiB, and 2 KiB in 1 block not freed by its end
    LEAK: 2 KiB in 1 block not freed by its end, of stacks that kept growing
    NOT A LEAK IN THIS CODE: the process grew by 3 MiB, its live blocks by 2 MiB; the allocator kept about 1 MiB of freed memory
    MAPPINGS: what the program mapped itself (mmap) grew by 0 B: 0 B of address space in 0 ranges before its end
    SHARED MEMORY: shared memory and tmpfs that the process had mapped grew, 0 B before its end
    UNSEEN: the process grew by 3 MiB, of which 1 MiB are no blocks, no mappings and not what its allocator keeps: bare system calls, code that is not traced, or memory from before tracing began that is used only now; its 1 child (9: sh; 4 KiB) is not traced
    TOO EARLY TO TELL about this process: its memory has been looked at for 40.0 s, and the verdict needs 10 s; it has exited, with 2 KiB in 1 block not freed
    ");
    insta::assert_snapshot!(of(Standing::NoLeak, none, none).remove(0), @"RSS 16 MiB before its end; since the start 3 MiB = blocks +2.0, mapped 0, thread stacks 0, allocator keeps +1.0, files and shared 0, unexplained 0");
}

/// Who is meant, and whether it lives.
#[test]
fn of_several_processes_each_has_a_name() {
    let of = |pid, ended| Balance { pid, ended, standing: Standing::NoLeak, ..Balance::default() };
    let balances = vec![of(1, None), of(2, Some(Amount::default())), of(3, None)];
    let (dictionary, profile) =
        Recorded { balances, pids: vec![1, 2], comm: "wor\u{1b}ker".into(), ..empty() }.profile();
    let lines = lines(&View::new(&dictionary, &profile, &Selection::default()));
    let names: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let first = ["Process 1 (wor\\x1bker)"; 2];
    assert_eq!(names[..2], first);
    assert_eq!(names[2..4], ["Process 2 (wor\\x1bker, exited)"; 2]);
    // One of which nothing else is known.
    assert_eq!(names[4..], ["Process 3"; 2]);
}

#[test]
fn of_many_processes_those_that_grew_most_are_shown() {
    let of = |pid: u32| Balance {
        pid,
        resident: Resident { anon: 1 << 20, ..Resident::default() },
        grown: Parts { total: f64::from(pid) * 1024.0, ..Parts::default() },
        ..Balance::default()
    };
    let (dictionary, profile) = Recorded { balances: (1..=7).map(of).collect(), ..empty() }.profile();
    let report = |selection: Selection| lines(&View::new(&dictionary, &profile, &selection));
    let all = report(Selection::default());
    assert_eq!(all.iter().filter(|line| line.starts_with("Process ")).count(), 14);
    let few = report(Selection { hide_settled: true, ..Selection::default() });
    let named: Vec<&str> =
        few.iter().filter_map(|line| line.split_once(": RSS").map(|(name, _)| name)).collect();
    assert_eq!(named, ["Process 7", "Process 6", "Process 5", "Process 4", "… and 3 more processes"]);
    assert_eq!(few.last().unwrap(), "… and 3 more processes: RSS 3 MiB, grown by 6 KiB (--all shows them)");
}
