//! Checks each frame of a report against the code.
//!
//! Every frame's address must follow a call instruction. Three kinds do not by their nature: the code that a signal
//! handler returns to, which is recognized by its bytes; the frame after it, which the signal interrupted; and code whose
//! address a program puts on the stack itself, of which a few functions are known by name.

use std::collections::BTreeMap;

use super::code::{Code, Site};
use super::figures::{Counts, Figures};
use super::reports::{Frame, Report, Stack};

/// Adds a report's stacks to the figures. `pid`: the process, where it still runs.
pub(super) fn report(
    report: &Report<'_>,
    pid: Option<u32>,
    code: &mut Code,
    explain: bool,
    figures: &mut Figures,
) {
    for stack in &report.stacks {
        let checked = check(stack, pid, code);
        let events = stack.allocated_blocks;
        figures.stacks.add(&checked, 1);
        figures.events.add(&checked, events);
        if let Some(reason) = &checked.reason {
            *figures.reasons.entry(reason.clone()).or_default() += 1;
        }
        if explain && (checked.reason.is_some() || checked.junk != 0) {
            eprintln!("{}", describe(stack, &checked, pid, code));
        }
    }
    for (name, value) in &report.losses {
        if name != "children_not_traced"
            && let Some(count) = value.as_u64().filter(|&count| count != 0)
        {
            *figures.losses.entry(name.clone()).or_default() += count;
        }
    }
    for note in &report.notes {
        figures.notes.insert(note.clone());
    }
}

/// What became of one stack.
pub(super) struct Checked {
    pub(super) complete: bool,
    reason: Option<String>,
    pub(super) depth: u64,
    pub(super) first_is_call: bool,
    pub(super) checkable: u64,
    pub(super) after_call: u64,
    pub(super) junk: u64,
}

fn check(stack: &Stack<'_>, pid: Option<u32>, code: &mut Code) -> Checked {
    let mut checked = Checked {
        complete: stack.complete,
        reason: (!stack.complete)
            .then(|| stack.incomplete.clone().unwrap_or_else(|| "frames lost".to_owned())),
        depth: 0,
        first_is_call: false,
        checkable: 0,
        after_call: 0,
        junk: 0,
    };
    for (index, site) in sites(stack, pid, code).into_iter().enumerate() {
        checked.depth += 1;
        match site {
            Site::Call => {
                checked.first_is_call |= index == 0;
                checked.checkable += 1;
                checked.after_call += 1;
            }
            Site::Other => {
                checked.checkable += 1;
                checked.junk += 1;
            }
            Site::SignalReturn | Site::Placed | Site::Unknown => {}
        }
    }
    checked
}

/// What stands at each frame that is not inlined. That of an interrupted frame is not asked for.
fn sites(stack: &Stack<'_>, pid: Option<u32>, code: &mut Code) -> Vec<Site> {
    let mut sites = Vec::new();
    for frame in stack.frames.iter().filter(|frame| !frame.inlined) {
        let interrupted = sites.last() == Some(&Site::SignalReturn);
        let address = frame.call().filter(|_| !interrupted);
        sites.push(address.map_or(Site::Unknown, |call| code.site(&frame.module, call + 1, pid)));
    }
    sites
}

fn describe(stack: &Stack<'_>, checked: &Checked, pid: Option<u32>, code: &mut Code) -> String {
    let mut sites = sites(stack, pid, code).into_iter();
    let mut text = format!(
        "{} events, {}",
        stack.allocated_blocks,
        checked.reason.as_deref().unwrap_or("complete, with junk")
    );
    for frame in &stack.frames {
        let Frame { function, module, inlined, .. } = frame;
        let site = if *inlined { None } else { sites.next() };
        text.push_str(&format!(
            "\n    {:#x} {module} {} {}",
            frame.call().unwrap_or(0),
            function.as_deref().unwrap_or("?"),
            match site {
                Some(Site::Other) => "FOLLOWS NO CALL",
                Some(Site::SignalReturn) => "signal",
                Some(Site::Unknown) => "not checked",
                Some(Site::Placed) => "placed",
                Some(Site::Call) => "",
                None => "inlined",
            }
        ));
    }
    text
}

impl Counts {
    fn add(&mut self, checked: &Checked, weight: u64) {
        self.all += weight;
        self.complete += weight * u64::from(checked.complete);
        self.first_is_call += weight * u64::from(checked.first_is_call);
        self.frames += weight * checked.depth;
        self.checkable += weight * checked.checkable;
        self.after_call += weight * checked.after_call;
        self.junk_frames += weight * checked.junk;
        self.with_junk += weight * u64::from(checked.junk != 0);
    }
}

/// Reasons of incomplete stacks, and how many there are of each.
pub(super) type Reasons = BTreeMap<String, u64>;
