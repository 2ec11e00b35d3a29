//! The balance of a process in text.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{empty, recorded::Recorded, verdicts::judged};
use crate::profile::{
    Balance, Child, Course, Knowledge, Limit, LimitKind, Parts, Resident, Selection, Standing, View,
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
    RSS 2 GiB and 1 MiB swapped out 0 B/s; since the start 140 MiB = blocks up to +2.0, mapped 0, thread stacks 0, allocator keeps +138, files and shared 0, unexplained 0
    NOT A LEAK IN THIS CODE: the process grew by 140 MiB, its live blocks by at most 2 MiB; glibc keeps about 138 MiB of freed memory: MALLOC_ARENA_MAX=2, malloc_trim(0) from time to time, or another allocator would help; its 1 child (9: wor\x1bker; 5 MiB) is not traced and GROWS, by 3 MiB so far: `memtrace attach --follow 4123`
    ");
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
