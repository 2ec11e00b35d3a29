//! Load-time constants. The agent sets them before loading; the map is then frozen, the verifier knows the
//! values and removes what they switch off.

use aya_ebpf::Global;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: Global<$type> = Global::new($default);)*
    };
}

globals! {
    /// Smallest size in bytes that is tracked.
    MIN_SIZE: u64 = 0;
    /// Largest size in bytes that is tracked.
    MAX_SIZE: u64 = u64::MAX;
    /// ktime in ns from which block times count.
    EPOCH: u64 = 0;
    /// Number of buckets of `LIVE`, a power of two, minus 1.
    BUCKET_MASK: u32 = 0;
    /// Number of slots of `STACKS`, a power of two, minus 1.
    STACK_MASK: u32 = 0;
    /// Number of slots of `THREADS`, a power of two, minus 1.
    THREAD_MASK: u32 = 0;
    /// Whether each event is sent to the agent.
    TRACE: u32 = 0;
}
