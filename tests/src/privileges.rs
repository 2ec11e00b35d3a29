//! Whether the agent can trace here.

use std::io::Write as _;

/// Capability numbers (include/uapi/linux/capability.h).
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Whether tests can trace. If not they are to return, having passed; with `MEMTRACE_TEST_BPF=require` in the
/// environment that is a failure instead.
///
/// # Panics
/// If tracing is required and not possible.
#[must_use]
pub fn can_trace() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 == 1;
    let can = has(CAP_SYS_PTRACE) && (has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON));
    let required = std::env::var_os("MEMTRACE_TEST_BPF").is_some_and(|value| value == "require");
    assert!(
        can || !required,
        "MEMTRACE_TEST_BPF=require, but this process has no CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE"
    );
    if !can {
        remark("skipped: needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE");
    }
    can
}

/// Prints a remark on a passing test: what it measured, or why it could not.
pub fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
