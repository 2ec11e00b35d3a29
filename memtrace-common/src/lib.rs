//! Types and constants that memtrace's kernel side and its agent share: floor 0.
//!
//! Every struct is `repr(C)` without implicit padding, and its size is asserted: both sides are built by
//! different compilers. Addresses, sizes and counters are `u64`; booleans are integers.
#![cfg_attr(not(test), no_std)]

mod cookie;
mod counter;
mod event;
mod examination;
mod kernel;
mod lifetime;
mod live;
mod module;
mod registers;
pub mod sampling;
mod stack;
mod target;
mod thread;
mod unwind;
mod work;

pub use cookie::{Cookie, Exit, ExitKind, Layer};
pub use counter::Counter;
pub use event::{
    EXACT, EventKind, ExecEvent, ForkEvent, MappingEvent, MissEvent, Op, OracleEvent, StackEvent,
    ThreadEvent, TraceEvent, VictimEvent,
};
pub use examination::{
    EVICTED_AT_ONCE, EXAMINED_AT_ONCE, Examination, Examined, MOST_FREE, PHANTOMS_AT_ONCE, Phantom,
    STEPS_AT_ONCE,
};
pub use kernel::{
    CACHE_NAME, Calibration, EVICTED, KERNEL_FRAMES, KernelCache, KernelCounter, KernelKind, KernelSlot,
    KernelStackEvent, MAX_CACHES, NAMELESS, NO_CACHE, OBJECTS_PER_BUCKET, ObjectBucket, object_address,
    object_bucket, object_key, object_value,
};
pub use lifetime::{
    LIFETIME_CLASSES, LIFETIME_FULL, LIFETIME_SHIFT, Lifetimes, lifetime_class, lifetime_class_begin,
};
pub use live::{
    BLOCKS_PER_BUCKET, Block, Bucket, bucket_index, is_of_generation, live_address, live_key, live_target,
};
pub use module::{Module, ModuleList, cache};
pub use registers::{GENERAL_WORDS, RECORD_WORDS, ThreadState, VECTOR_WORDS};
pub use sampling::{BLOCK_UNIT, Sample, Shift};
pub use stack::{
    MAX_FRAMES, STACK_PROBES, STACK_TABLE_FULL, StackSlot, WalkEnd, WalkMethod, mix, stack_seed,
};
pub use target::{MAX_TARGETS, Target};
pub use thread::{CALLS_PER_THREAD, Call, THREAD_PROBES, Thread, thread_index};
pub use unwind::Row;
pub use work::{Part, Work};

/// Live blocks carry their time of allocation as `(ktime - EPOCH) >> TIME_SHIFT`: units of 4.19 ms; 32
/// bits hold 208 days.
pub const TIME_SHIFT: u32 = 22;

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        // SAFETY: each is `repr(C)` of integers only, without padding (see the size assertions), so every
        // bit pattern is valid.
        ($($t:ty),* $(,)?) => { $(unsafe impl aya::Pod for $t {})* };
    }
    pod!(
        crate::Block,
        crate::Bucket,
        crate::Lifetimes,
        crate::Module,
        crate::Row,
        crate::StackSlot,
        crate::Target,
        crate::Thread,
        crate::Work
    );
}
