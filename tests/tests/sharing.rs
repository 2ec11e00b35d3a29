//! What processes of one program share in the agent.

use std::collections::BTreeMap;

use memtrace_tests::{Agent, Running, can_trace, fixture, proc, remark};

/// Processes beside the first.
const MORE: u64 = 11;

/// Descriptors of the agent for each process: links, and what tells its end.
const DESCRIPTORS: usize = 12;

/// KiB of memory of the agent for each process.
const MEMORY: u64 = 3 << 10;

/// What the agent has once it has followed some processes of one program at work.
struct Taken {
    files: BTreeMap<String, usize>,
    others: usize,
    anonymous: u64,
}

fn follow(processes: u64) -> Taken {
    let mut targets: Vec<Running> = (0..processes).map(|_| fixture::start("lifecycle", &["many"])).collect();
    let pids: Vec<u32> = targets.iter().map(Running::pid).collect();
    let mut agent = Agent::attach(&pids, &[]);
    for target in &mut targets {
        fixture::work(target);
    }
    let report = agent.fresh_report();
    assert!(report.called_from("keep_before").blocks >= 5000 * processes, "{:?}", report.losses);
    let mut taken = Taken { files: BTreeMap::new(), others: 0, anonymous: 0 };
    for name in proc::open_files(agent.pid()) {
        if name.starts_with('/') && !name.starts_with("/dev/") {
            *taken.files.entry(name).or_default() += 1;
        } else {
            taken.others += 1;
        }
    }
    let anonymous = proc::status(agent.pid(), "RssAnon").expect("the agent's memory");
    taken.anonymous = anonymous.trim_end_matches(" kB").parse().expect("a number of KiB");
    let _ = agent.interrupt();
    for target in targets {
        assert_eq!(target.finish().status, 0);
    }
    taken
}

/// A file is held once, whoever maps it; a process costs its links, and little memory.
#[test]
fn files_are_held_once_for_all_processes() {
    if !can_trace() {
        return;
    }
    let (one, all) = (follow(1), follow(1 + MORE));
    let libc = all.files.iter().find(|(name, _)| name.contains("/libc.so"));
    assert!(libc.is_some(), "{:?}", all.files);
    assert!(all.files.values().all(|&times| times == 1), "{:?}", all.files);
    assert_eq!(one.files, all.files);
    let descriptors = all.others.saturating_sub(one.others) as f64 / MORE as f64;
    let memory = all.anonymous.saturating_sub(one.anonymous) / MORE;
    remark(&format!("each process more takes {descriptors:.1} descriptors and {memory} KiB"));
    assert!(descriptors <= DESCRIPTORS as f64, "{} {}", one.others, all.others);
    assert!(memory <= MEMORY, "{} {}", one.anonymous, all.anonymous);
}
