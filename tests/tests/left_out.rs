//! Kernel mode says how much memory grew that the traced kinds leave out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use memtrace_tests::{Agent, can_trace, fixture};

const MB: u64 = 1 << 20;

/// Tests take turns: the figures are of the whole machine. `None` where nothing can be traced.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    can_trace().then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A program that makes memory grow by so much, what the report says has grown, and the option that shows by whom. Others use
/// the machine, too: three quarters of it suffice.
fn check((kind, count): (&str, u64), what: &str, grown: u64, option: Option<&str>) {
    let Some(_alone) = alone() else { return };
    let mut target = fixture::start("kernel_leaks", &[kind, &count.to_string()]);
    let mut agent = Agent::kernel(&["--pid", &target.pid().to_string()]);
    let _: String = fixture::work(&mut target);
    let report = agent.report_when(|report| {
        let about = report.remarks.iter().filter(|remark| remark.key == "left_out");
        about.into_iter().any(|remark| {
            remark.value("what") == what
                && remark.value("grown").as_u64().is_some_and(|found| found >= grown / 4 * 3)
        })
    });
    let about = report.remarks.iter().find(|remark| remark.key == "left_out" && remark.value("what") == what);
    assert_eq!(about.and_then(|remark| remark.value("option").as_str()), option, "{:#?}", report.remarks);
}

#[test]
fn tmpfs() {
    check(("tmpfs", 64), "shared_memory", 64 * MB, None);
}

#[test]
fn segments_of_system_v() {
    check(("segments", 48), "segments", 48 * MB, None);
}

#[test]
fn pages_of_pipes() {
    check(("full-pipes", 800), "pages", 50 * MB, Some("--pages"));
}

#[test]
fn payload_of_sockets() {
    check(("unread", 400), "sockets", 25 * MB, Some("--pages"));
}
