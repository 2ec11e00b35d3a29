//! Loading the object: maps sized, constants set, life-cycle tracepoints running.

use aya::{Ebpf, EbpfLoader, programs::RawTracePoint};
use memtrace_common::{BLOCKS_PER_BUCKET, Part, WalkMethod, cache};

use super::{config::Config, unwind};
use crate::bpf::shared::{btf, error::Error, object::program};

/// The eBPF object, as committed and checked by the build script.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MEMTRACE_BPF_OBJECT_PATH"));

/// Life-cycle programs and their tracepoints.
const LIFECYCLE: [(&str, &str); 3] = [
    ("task_newtask", "task_newtask"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];

/// The program that sees whom the OOM killer takes, and its tracepoint.
const VICTIMS: &str = "mark_victim";

/// Stacks kept by the kernel's own walk, for comparison.
const KERNEL_STACKS: u32 = 1 << 14;

/// Threads whose calls in flight can be kept.
const THREADS: u32 = 1 << 14;

/// Bytes of the ring buffer: a thousand of the deepest stacks at once, or 65,000 trace lines.
const RING: u32 = 1 << 20;
const TRACE_RING: u32 = 1 << 22;
/// The same for tests: a thousand walks with their stack memory.
const ORACLE_RING: u32 = 1 << 26;

/// Table sizes that follow from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Buckets of the table of live blocks, a power of two.
    pub(super) buckets: u32,
    /// Entries of its overflow map.
    pub(super) overflow: u32,
    /// Stack slots, a power of two.
    pub(super) stacks: u32,
    /// Entries of the table of lifetimes: as many, or one without lifetimes.
    pub(super) lifetimes: u32,
    /// Unwind rows.
    pub(super) rows: u32,
    /// Modules of all targets.
    pub(super) modules: u32,
    /// Targets with a part of the rule cache.
    pub(super) cached_targets: u32,
}

impl Sizes {
    /// Buckets hold `max_live` blocks at between a half and all of their capacity.
    pub(super) fn new(config: &Config) -> Self {
        let buckets = (config.max_live / BLOCKS_PER_BUCKET as u32 + 1).next_power_of_two();
        let stacks = config.max_stacks.max(64).next_power_of_two();
        Self {
            buckets: buckets.max(64),
            overflow: (config.max_live / 8).max(64),
            stacks,
            lifetimes: if config.without & Part::Lifetimes as u32 == 0 { stacks } else { 1 },
            rows: if config.method == WalkMethod::Cfi { config.rows.max(1) } else { 1 },
            modules: if config.method == WalkMethod::Cfi { unwind::MODULES } else { 1 },
            cached_targets: if config.method == WalkMethod::Cfi {
                if config.joins { cache::TARGETS } else { config.targets.clamp(1, cache::TARGETS) }
            } else {
                1
            },
        }
    }
}

/// Creates the maps and loads the life-cycle programs, which run from now on.
pub(super) fn load(config: &Config, sizes: Sizes, epoch: u64) -> Result<Ebpf, Error> {
    // Kernels before 5.11 count maps against this limit.
    let _ = nix::sys::resource::setrlimit(
        nix::sys::resource::Resource::RLIMIT_MEMLOCK,
        nix::sys::resource::RLIM_INFINITY,
        nix::sys::resource::RLIM_INFINITY,
    );
    let (bucket_mask, stack_mask, thread_mask) = (sizes.buckets - 1, sizes.stacks - 1, THREADS - 1);
    let cfi = config.method == WalkMethod::Cfi;
    let (method, trace, oracle) = (config.method as u32, u32::from(config.trace), u32::from(config.oracle));
    let Offsets { return_instances, tgid, exit_code } = offsets();
    let [utask, instances, stack, address, next] = if cfi { return_instances } else { [0; 5] };
    let follow = u32::from(config.follow);
    let kernel_stacks = if config.method == WalkMethod::Kernel { KERNEL_STACKS } else { 1 };
    let log_level: u8 = if config.verbose { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .override_global("MIN_SIZE", &config.min_size, true)
        .override_global("MAX_SIZE", &config.max_size, true)
        .override_global("EPOCH", &epoch, true)
        .override_global("BUCKET_MASK", &bucket_mask, true)
        .override_global("STACK_MASK", &stack_mask, true)
        .override_global("THREAD_MASK", &thread_mask, true)
        .override_global("METHOD", &method, true)
        .override_global("TASK_UTASK", &utask, true)
        .override_global("UTASK_INSTANCES", &instances, true)
        .override_global("INSTANCE_STACK", &stack, true)
        .override_global("INSTANCE_RETURN", &address, true)
        .override_global("INSTANCE_NEXT", &next, true)
        .override_global("TASK_TGID", &tgid, true)
        .override_global("TASK_EXIT_CODE", &exit_code, true)
        .override_global("FOLLOW", &follow, true)
        .override_global("TRACE", &trace, true)
        .override_global("ORACLE", &oracle, true)
        .override_global("WITHOUT", &config.without, true)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .map_max_entries("LIVE", sizes.buckets)
        .map_max_entries("OVERFLOW", sizes.overflow)
        .map_max_entries("STACKS", sizes.stacks)
        .map_max_entries("LIFETIMES", sizes.lifetimes)
        .map_max_entries("THREADS", THREADS)
        .map_max_entries("ROWS", sizes.rows)
        .map_max_entries("MODULES", sizes.modules)
        .map_max_entries("CACHE", sizes.cached_targets * cache::SIZE)
        .map_max_entries("KERNEL_STACKS", kernel_stacks)
        .map_max_entries("EVENTS", ring(config));
    loader.load(OBJECT).map_err(Error::Load)
}

fn ring(config: &Config) -> u32 {
    match (config.oracle, config.trace) {
        (true, _) => ORACLE_RING,
        (false, true) => TRACE_RING,
        (false, false) => RING,
    }
}

/// Offsets of members in the kernel; 0 for one that is unknown.
struct Offsets {
    /// Those in its list of pending return probes; all 0 if one of them is unknown.
    return_instances: [u32; 5],
    tgid: u32,
    exit_code: u32,
}

fn offsets() -> Offsets {
    let [utask, instances, stack, address, next, tgid, exit_code] = btf::member_offsets([
        ("task_struct", "utask"),
        ("uprobe_task", "return_instances"),
        ("return_instance", "stack"),
        ("return_instance", "orig_ret_vaddr"),
        ("return_instance", "next"),
        ("task_struct", "tgid"),
        ("task_struct", "exit_code"),
    ]);
    let list = [utask, instances, stack, address, next];
    let is_known = list.iter().all(Option::is_some);
    Offsets {
        return_instances: if is_known { list.map(|offset| offset.unwrap_or(0)) } else { [0; 5] },
        tgid: tgid.unwrap_or(0),
        exit_code: exit_code.unwrap_or(0),
    }
}

/// Loads and attaches the life-cycle tracepoints.
pub(super) fn attach_lifecycle(ebpf: &mut Ebpf) -> Result<(), Error> {
    for (name, tracepoint) in LIFECYCLE {
        let refused = |source| Error::Program { program: name, source };
        let program: &mut RawTracePoint = program(ebpf, name)?;
        program.load().map_err(refused)?;
        program.attach(tracepoint).map_err(refused)?;
    }
    if let Err(error) = attach_victims(ebpf) {
        tracing::debug!("kills by the OOM killer are only known from the kernel's log: {error}");
    }
    Ok(())
}

/// Whom the OOM killer takes: an addition, for which tracing is not refused.
fn attach_victims(ebpf: &mut Ebpf) -> Result<(), Error> {
    let refused = |source| Error::Program { program: VICTIMS, source };
    let program: &mut RawTracePoint = program(ebpf, VICTIMS)?;
    program.load().map_err(refused)?;
    program.attach(VICTIMS).map_err(refused)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::{Config, OBJECT, Sizes};

    #[test]
    fn tables_hold_what_was_asked_for() {
        for max_live in [0, 1, 1000, 1_000_000, 10_000_000, 100_000_000] {
            let sizes = Sizes::new(&Config { max_live, ..Config::default() });
            assert!(sizes.buckets.is_power_of_two());
            assert!(u64::from(sizes.buckets) * 7 >= u64::from(max_live));
        }
        assert_eq!(Sizes::new(&Config { max_stacks: 10_000, ..Config::default() }).stacks, 16_384);
    }

    /// `call bpf_tail_call`: the opcode, no registers, no offset, the helper's number (linux/bpf.h).
    const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

    #[test]
    fn no_program_on_a_uprobe_gets_a_stack_that_others_write_to() {
        let object = object::File::parse(OBJECT).unwrap();
        let mut programs = 0;
        for symbol in object.symbols().filter(|symbol| symbol.is_definition()) {
            let (Ok(name), Some(index)) = (symbol.name(), symbol.section_index()) else { continue };
            let section = object.section_by_index(index).unwrap();
            let is_on_a_uprobe = matches!(section.name(), Ok("uprobe" | "uretprobe"));
            if !is_on_a_uprobe || symbol.size() == 0 || name.starts_with("nothing") {
                continue;
            }
            let code = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
            assert!(code.chunks_exact(8).any(|instruction| instruction == TAIL_CALL), "{name}");
            programs += 1;
        }
        assert_eq!(programs, 7);
    }
}
