//! Stacks and thread-local memory: which thread's it is.
//!
//! C libraries put a thread's descriptor and thread-local data at the top of the mapping of its stack, and the thread
//! pointer points between the two. The main thread has them elsewhere. A mapping may hold more than one stack, and other
//! memory besides: the kernel joins neighbours.

use std::ops::Range;

use super::{Kind, Region, Thread, is_heap};
use crate::profile::Root;

/// The C library's descriptor of a thread: 2,304 to 2,500 bytes in glibc, less in musl.
const DESCRIPTOR: u64 = 2560;
/// What a thread may use below its stack pointer.
const RED_ZONE: u64 = 128;
/// A stack that was not made by the C library has no known end: a coroutine's, say. What is so far from the stack pointer
/// may be something else.
const NEAR: u64 = 1 << 20;
/// Thread-local data that is at the thread pointer. A library that has more and was loaded late has it elsewhere.
const MAX_STATIC: u64 = 64 << 10;

/// The threads of a process by address.
#[derive(Debug)]
pub(super) struct Stacks {
    pid: u32,
    /// In order of their ids.
    threads: Vec<Thread>,
    /// Stack pointers in order, and whose they are.
    stacks: Vec<(u64, usize)>,
    /// The same of thread pointers.
    pointers: Vec<(u64, usize)>,
    /// What belongs to a thread below its thread pointer, and from there on.
    around: (u64, u64),
}

impl Stacks {
    pub(super) fn new(pid: u32, mut threads: Vec<Thread>, thread_local_bytes: u64) -> Self {
        threads.sort_by_key(|thread| thread.tid);
        let sorted = |place: fn(&Thread) -> Option<u64>| {
            let places = threads.iter().enumerate();
            let mut places: Vec<_> =
                places.filter_map(|(index, thread)| Some((place(thread)?, index))).collect();
            places.sort_unstable();
            places
        };
        let data = thread_local_bytes.min(MAX_STATIC);
        let around = if cfg!(target_arch = "aarch64") { (DESCRIPTOR, data) } else { (data, DESCRIPTOR) };
        let (stacks, pointers) =
            (sorted(|thread| thread.stack_pointer), sorted(|thread| thread.thread_pointer));
        Self { pid, threads, stacks, pointers, around }
    }

    pub(super) fn thread(&self, tid: u32) -> Option<&Thread> {
        let index = self.threads.binary_search_by_key(&tid, |thread| thread.tid).ok()?;
        self.threads.get(index)
    }

    /// The thread whose thread-local memory an address would be in.
    pub(super) fn thread_near(&self, address: u64) -> Option<&Thread> {
        let index = self.pointers.partition_point(|(pointer, _)| self.own(*pointer).end <= address);
        self.threads.get(self.pointers.get(index)?.1)
    }

    /// Whether nothing in a mapping is a thread's.
    pub(super) fn is_none_in(&self, region: &Region) -> bool {
        let Range { start, end } = region.range;
        // Both are in order.
        let stack = self.stacks.partition_point(|(pointer, _)| *pointer < start);
        let own = self.pointers.partition_point(|(pointer, _)| self.own(*pointer).end <= start);
        region.kind != Kind::MainStack
            && self.stacks.get(stack).is_none_or(|(pointer, _)| *pointer >= end)
            && self.pointers.get(own).is_none_or(|(pointer, _)| self.own(*pointer).start >= end)
    }

    /// The thread that an address in `region` belongs to, and what of it that is.
    pub(super) fn name(&self, address: u64, region: &Region) -> Option<Root> {
        let near = self.thread_near(address);
        if let Some(thread) = near.filter(|thread| self.has_own(thread, address, region)) {
            return Some(Root::tls(thread.tid, &thread.name, None));
        }
        let thread = self.thread_on(address, region).or_else(|| {
            if region.kind == Kind::MainStack {
                return self.thread(self.pid).filter(|main| !is_in(main.stack_pointer, region));
            }
            // Its stack pointer is unknown, or on the stack of a signal handler.
            let suspended = |thread: &&Thread| {
                let pointer = thread.thread_pointer;
                thread.tid != self.pid
                    && !is_in(thread.stack_pointer, region)
                    && is_in(pointer, region)
                    && pointer.is_some_and(|pointer| address < pointer)
            };
            near.filter(suspended)
        })?;
        Some(Root::stack(thread.tid, &thread.name))
    }

    /// The thread whose stack pointer is the nearest below, if its stack reaches so far.
    fn thread_on(&self, address: u64, region: &Region) -> Option<&Thread> {
        let index = self.stacks.partition_point(|(pointer, _)| pointer.saturating_sub(RED_ZONE) <= address);
        let (stack_pointer, thread) = self.stacks.get(index.checked_sub(1)?)?;
        let thread = self.threads.get(*thread)?;
        if !region.range.contains(stack_pointer) {
            return None;
        }
        let end = thread.thread_pointer.filter(|end| region.range.contains(end) && stack_pointer < end);
        let reaches = match end {
            _ if region.kind == Kind::MainStack => true,
            Some(end) => address < end,
            None => !is_heap(region) && address.saturating_sub(*stack_pointer) < NEAR,
        };
        reaches.then_some(thread)
    }

    /// What is at a thread pointer.
    fn own(&self, pointer: u64) -> Range<u64> {
        pointer.saturating_sub(self.around.0)..pointer.saturating_add(self.around.1)
    }

    /// Whether an address in `region` is at the thread pointer, which is in the same mapping.
    fn has_own(&self, thread: &Thread, address: u64, region: &Region) -> bool {
        let pointer = thread.thread_pointer.filter(|pointer| region.range.contains(pointer));
        pointer.is_some_and(|pointer| self.own(pointer).contains(&address))
    }
}

fn is_in(place: Option<u64>, region: &Region) -> bool {
    place.is_some_and(|place| region.range.contains(&place))
}
