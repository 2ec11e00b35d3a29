//! A function's instructions and the edges between them.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use rustc_hash::FxHashMap;

use super::{
    Code, Function, Incomplete, MAX_INSTRUCTIONS, MAX_PARTS,
    registers::{Effects, General, RAX, RDI},
    stack::{self, Stack},
    targets::{self, Target},
};
use crate::elf::prologue;

/// Functions that return their first argument.
const RETURN_FIRST_ARGUMENT: &[&str] = &["memcpy", "memmove", "memset"];

/// How an exit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The register holds the result.
    Result(General),
    /// In a function that is itself probed.
    HandedOn,
}

/// An instruction.
pub(super) struct Node {
    pub(super) instruction: Instruction,
    /// What is known about the stack before it.
    pub(super) stack: Stack,
    /// Whether the kernel emulates it.
    pub(super) is_emulated: bool,
    /// The next instruction, if it can be reached from this one.
    pub(super) next: Option<usize>,
    /// The instruction that it jumps to.
    pub(super) taken: Option<usize>,
    /// It leaves the function.
    pub(super) exit: Option<Exit>,
}

impl Node {
    pub(super) fn address(&self) -> u64 {
        self.instruction.ip()
    }

    pub(super) fn successors(&self) -> impl Iterator<Item = usize> {
        self.next.into_iter().chain(self.taken)
    }
}

/// Everything reachable from a function's entry, which is the first node.
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    pub(super) fn new(
        code: &dyn Code,
        function: &Function,
        handed_on: &dyn Fn(u64) -> bool,
    ) -> Result<Self, Incomplete> {
        let entry = function.range.start;
        let mut builder = Builder {
            code,
            // A jump to its own entry is a loop, not a call of another function.
            handed_on: &|address| address != entry && handed_on(address),
            parts: Vec::new(),
            nodes: Vec::new(),
            known: FxHashMap::default(),
            pending: Vec::new(),
            effects: Effects::new(),
        };
        builder.reach(entry, stack::ENTRY)?;
        while let Some(index) = builder.pending.pop() {
            builder.follow(index)?;
        }
        builder.check_stacks()?;
        Ok(Self { nodes: builder.nodes })
    }
}

struct Part {
    range: Range<u64>,
    code: Vec<u8>,
}

struct Builder<'a> {
    code: &'a dyn Code,
    handed_on: &'a dyn Fn(u64) -> bool,
    parts: Vec<Part>,
    nodes: Vec<Node>,
    known: FxHashMap<u64, usize>,
    /// Nodes whose stack has changed since their successors were visited.
    pending: Vec<usize>,
    effects: Effects,
}

impl Builder<'_> {
    /// The node at an address, reached with a stack.
    fn reach(&mut self, address: u64, stack: Stack) -> Result<usize, Incomplete> {
        if let Some(&index) = self.known.get(&address) {
            let node = self.nodes.get_mut(index).ok_or(Incomplete::Code)?;
            let joined = node.stack.join(stack);
            if joined != node.stack {
                node.stack = joined;
                self.pending.push(index);
            }
            return Ok(index);
        }
        if self.nodes.len() >= MAX_INSTRUCTIONS {
            return Err(Incomplete::Size);
        }
        let (instruction, is_emulated) = self.decode(address)?;
        let index = self.nodes.len();
        self.nodes.push(Node { instruction, stack, is_emulated, next: None, taken: None, exit: None });
        self.known.insert(address, index);
        self.pending.push(index);
        Ok(index)
    }

    fn decode(&mut self, address: u64) -> Result<(Instruction, bool), Incomplete> {
        let part = self.part(address)?;
        let into = usize::try_from(address.wrapping_sub(part.range.start)).ok().ok_or(Incomplete::Bounds)?;
        let code = part.code.get(into..).ok_or(Incomplete::Bounds)?;
        let instruction = Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(Incomplete::Code);
        }
        let bytes = code.get(..instruction.len()).ok_or(Incomplete::Code)?;
        Ok((instruction, prologue::is_emulated(bytes)))
    }

    fn part(&mut self, address: u64) -> Result<&Part, Incomplete> {
        if let Some(index) = self.parts.iter().position(|part| part.range.contains(&address)) {
            return self.parts.get(index).ok_or(Incomplete::Bounds);
        }
        if self.parts.len() >= MAX_PARTS {
            return Err(Incomplete::Size);
        }
        if self.code.catches(address) {
            return Err(Incomplete::Handlers);
        }
        let (range, code) = self.code.part(address).ok_or(Incomplete::Bounds)?;
        self.parts.push(Part { range, code });
        self.parts.last().ok_or(Incomplete::Bounds)
    }

    /// Visits what a node leads to.
    fn follow(&mut self, index: usize) -> Result<(), Incomplete> {
        let node = self.nodes.get(index).ok_or(Incomplete::Code)?;
        let (instruction, stack) = (node.instruction, node.stack);
        let after = stack.after(&instruction, &mut self.effects);
        let (mut next, mut taken, mut exit) = (None, None, None);
        match instruction.flow_control() {
            FlowControl::Next => next = Some(self.reach(instruction.next_ip(), after)?),
            FlowControl::Call | FlowControl::IndirectCall => {
                if !self.never_returns(&instruction) {
                    next = Some(self.reach(instruction.next_ip(), after)?);
                }
            }
            FlowControl::ConditionalBranch => {
                next = Some(self.reach(instruction.next_ip(), after)?);
                taken = Some(self.reach(instruction.near_branch_target(), after)?);
            }
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                match self.jump(&instruction, after)? {
                    Ok(target) => taken = Some(target),
                    Err(way) => exit = Some(way),
                }
            }
            FlowControl::Return => exit = Some(Exit::Result(RAX)),
            FlowControl::Exception => {}
            FlowControl::Interrupt | FlowControl::XbeginXabortXend => return Err(Incomplete::Code),
        }
        if let Some(node) = self.nodes.get_mut(index) {
            (node.next, node.taken, node.exit) = (next, taken, exit);
        }
        Ok(())
    }

    fn jump(&mut self, instruction: &Instruction, after: Stack) -> Result<Result<usize, Exit>, Incomplete> {
        match self.target(instruction) {
            Target::Address(address) if (self.handed_on)(address) => Ok(Err(Exit::HandedOn)),
            Target::Address(address) => self.reach(address, after).map(Ok),
            Target::Foreign(name) if RETURN_FIRST_ARGUMENT.contains(&name.as_str()) => {
                Ok(Err(Exit::Result(RDI)))
            }
            Target::Foreign(_) => Err(Incomplete::Foreign),
            Target::Unknown => Err(Incomplete::Jump),
        }
    }

    /// Where a jump or call goes, through the PLT and the GOT.
    fn target(&self, instruction: &Instruction) -> Target {
        let is_own = |address| {
            self.known.contains_key(&address) || self.parts.iter().any(|part| part.range.contains(&address))
        };
        targets::of(self.code, instruction, &is_own)
    }

    /// Whether a call does not return: by its name, or because no code of the function follows it.
    fn never_returns(&self, instruction: &Instruction) -> bool {
        let behind = instruction.next_ip();
        if !self.parts.iter().any(|part| part.range.contains(&behind)) {
            return true;
        }
        match self.target(instruction) {
            Target::Foreign(name) => targets::never_returns(&name),
            Target::Address(_) | Target::Unknown => false,
        }
    }

    /// Every exit leaves the stack as it was at the entry.
    fn check_stacks(&self) -> Result<(), Incomplete> {
        let balanced = |node: &Node| node.exit.is_none() || node.stack.sp == Some(8);
        if self.nodes.iter().all(balanced) { Ok(()) } else { Err(Incomplete::Stack) }
    }
}
