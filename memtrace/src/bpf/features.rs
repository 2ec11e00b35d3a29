//! What this kernel and these privileges allow, found out by trying.

use std::{num::NonZeroU32, path::Path};

use memtrace_common::WalkMethod;

use crate::model::{ProbeSpec, Results, Role, Site};

use super::{
    kernel,
    process::{Config, Method, Tracer, file_offset},
    shared::{error::Error, feature::Feature, system::kernel_version},
};

/// Tries what tracing needs, with small tables.
#[must_use]
pub fn features() -> Vec<Feature> {
    let version = kernel_version();
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let small = Config { max_live: 1, max_stacks: 1, skips: true, ..Config::default() };
    let mut attempt = Tracer::load(&small);
    // Walks by call frame information are what a kernel before 5.17 refuses.
    let cfi = attempt.is_ok();
    if !cfi {
        attempt = Tracer::load(&Config { method: WalkMethod::FramePointer, ..small });
    }
    let attached = attempt.as_mut().ok().map(attach_to_self);
    let method = attempt.as_ref().ok().map(Tracer::method);
    vec![
        Feature {
            name: "kernel 5.15 or newer",
            available: version.is_some_and(|version| version >= (5, 15)),
            required: true,
            detail: release,
            advice: "boot a newer kernel: probes carry cookies, which came with 5.15",
        },
        programs(&attempt),
        probes(attached),
        Feature {
            name: "complete stacks",
            available: cfi,
            required: false,
            detail: match method {
                None => "not tried",
                Some(_) if cfi => "by call frame information",
                Some(_) => "by frame pointers only",
            }
            .to_owned(),
            advice: if method.is_none() {
                ""
            } else {
                "stacks are short where code was built without frame pointers; from kernel 5.17 they are complete"
            },
        },
        Feature {
            name: "multi-uprobes",
            available: matches!(method, Some(Method::Multi | Method::Session)),
            required: false,
            detail: match method {
                None => "not tried",
                Some(Method::Multi | Method::Session) => "many probes attach and detach at once",
                Some(Method::Perf) => "not on this kernel",
            }
            .to_owned(),
            advice: if method.is_none() {
                ""
            } else {
                "perf uprobes are used instead: attaching and detaching take longer; they come with kernel 6.10"
            },
        },
        Feature {
            name: "uprobe sessions",
            available: method == Some(Method::Session),
            required: false,
            detail: match method {
                None => "not tried",
                Some(Method::Session) => "calls that are not sampled cost one trap less",
                Some(_) => "not on this kernel",
            }
            .to_owned(),
            advice: if method.is_none() {
                ""
            } else {
                "sampling saves less without; they come with kernel 6.13"
            },
        },
        Feature {
            name: "kernel BTF",
            available: Path::new("/sys/kernel/btf/vmlinux").exists(),
            required: false,
            detail: "/sys/kernel/btf/vmlinux".to_owned(),
            advice: "little is lost: a stack taken inside another traced call may end there (CONFIG_DEBUG_INFO_BTF brings it)",
        },
        kernel::feature(),
    ]
}

fn programs(attempt: &Result<Tracer, Error>) -> Feature {
    let (detail, advice) = match attempt {
        Ok(_) => ("loaded".to_owned(), ""),
        Err(error) if error.is_permission() => (
            chain(error),
            "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; in a container, with --privileged \
             --pid=host; if you are root already, look for kernel lockdown in /sys/kernel/security/lockdown",
        ),
        Err(error) if error.is_out_of_files() => {
            (chain(error), "raise the limit of open files: `ulimit -n 65536`")
        }
        Err(error) => (chain(error), "this kernel lacks a piece of eBPF: boot a newer one"),
    };
    Feature { name: "eBPF programs and maps", available: attempt.is_ok(), required: true, detail, advice }
}

/// Whether a probe can be attached.
fn probes(attached: Option<Result<(), Error>>) -> Feature {
    let (available, detail) = match &attached {
        None => (false, "not tried".to_owned()),
        Some(Ok(())) => (true, "attached to this process, and detached".to_owned()),
        Some(Err(error)) => (false, chain(error)),
    };
    let advice =
        if attached.is_none() { "" } else { "uprobes need CAP_PERFMON, and a kernel with CONFIG_UPROBES" };
    Feature { name: "probes in processes", available, required: true, detail, advice }
}

/// Attaches to a function of this program, which nobody calls meanwhile.
fn attach_to_self(tracer: &mut Tracer) -> Result<(), Error> {
    let function = attach_to_self as *const () as u64;
    let probe = ProbeSpec {
        function: "check".to_owned(),
        file: "/proc/self/exe".into(),
        offset: file_offset(function)?,
        site: Site { delta: 0, emulated: false },
        role: Role::Free,
        results: Results::AtReturn,
    };
    let Some(pid) = NonZeroU32::new(std::process::id()) else { return Ok(()) };
    let target = tracer.add_target(pid)?;
    tracer.attach(target, pid, &[probe])?;
    tracer.detach();
    Ok(())
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        let first = cause_text.lines().next().unwrap_or_default();
        if !text.contains(first) {
            text.push_str(": ");
            text.push_str(first);
        }
        source = cause.source();
    }
    text
}
