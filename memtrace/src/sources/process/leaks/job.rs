//! What to check, and with what.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use super::decided::Count;
use crate::{
    bpf::{LiveReader, RegisterReader},
    model::ThreadRegisters,
    profile::{Holder, LeakCheck, Moment},
    target::FileStore,
};

/// What checks need, on their thread.
pub(super) struct Tools {
    pub(super) live: LiveReader,
    /// `None`: this kernel does not let registers be read without stopping their threads, nor signal stacks at all.
    pub(super) registers: Option<RegisterReader>,
    pub(super) files: Arc<FileStore>,
}

/// What to check.
pub(super) struct Job {
    pub(super) pid: u32,
    /// Index and generation, as the kernel side marks stacks.
    pub(super) target: u32,
    /// Since when every free has been seen.
    pub(super) watched_since: Duration,
    pub(super) scans: u32,
    /// Time between two scans.
    pub(super) spacing: Duration,
    /// Whether pointers may be at any address.
    pub(super) unaligned: bool,
    /// Bytes read per second; 0 for no limit.
    pub(super) rate: u64,
    /// The most time for one scan.
    pub(super) limit: Duration,
    pub(super) moment: Moment,
    /// Registers of the threads of a process that is held at its end.
    pub(super) held: Option<Vec<ThreadRegisters>>,
    /// Whether every block of glibc's allocator is known, and no other allocator is used: its other memory is free.
    pub(super) all_known: bool,
    /// When to ask the allocator for all of its blocks.
    pub(super) census: Census,
    /// Whether every allocation since tracing began is in the table, so that others are from before.
    pub(super) exact: bool,
    /// Slots of stacks whose holders are wanted.
    pub(super) stacks: Vec<u32>,
    /// Whether to refuse a result that shows that a root is missing.
    pub(super) doubt: bool,
}

/// When to ask the allocator for all of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Census {
    Never,
    /// Before the first scan.
    First,
    /// For the holders, once all is decided.
    Last,
}

/// The result of a check.
pub(super) struct Outcome {
    pub(super) check: LeakCheck,
    pub(super) count: Count,
    /// Who holds the blocks of the stacks asked for, by slot.
    pub(super) holders: FxHashMap<u32, Vec<Holder>>,
}
