//! The memory of a machine in words: the answer in three lines, then what it rests on.

mod log;
mod words;

use std::io::{self, Write};

use jiff::Timestamp;

use super::{Text, escape::short};
use crate::profile::{
    machine::{CgroupMemory, Growth, PartKind, Suspect, Triage},
    units::{format_age, format_bytes, format_count, format_percent, format_signed},
};

pub(super) use words::{answer, command, missing, part, pattern, place, slow_setting};

/// Cgroups and limits that are listed in text, and events of the kernel's log.
const SHOWN: usize = 4;
/// Parts smaller than this and without growth are not listed, bytes.
const LEAST_PART: u64 = 64 << 10;

/// What two looks at a machine told, and how to show it.
#[derive(Clone, Copy, Debug)]
pub struct TriageView<'a> {
    /// What they told.
    pub triage: &'a Triage,
    /// Wall-clock time.
    pub time: Timestamp,
    /// Whether there will be no other report.
    pub last: bool,
    /// Places that are shown at most; 0: all.
    pub top: usize,
}

impl TriageView<'_> {
    /// How many places are shown.
    pub(super) fn shown(&self) -> usize {
        if self.top == 0 { usize::MAX } else { self.top }
    }
}

impl Text {
    /// Writes the report of a machine.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn triage(&self, out: &mut dyn Write, view: &TriageView<'_>) -> io::Result<()> {
        let mut text = Vec::new();
        self.write_triage(&mut text, view)?;
        self.wrapped(out, &String::from_utf8_lossy(&text))
    }

    fn write_triage(&self, out: &mut dyn Write, view: &TriageView<'_>) -> io::Result<()> {
        let triage = view.triage;
        for (head, sentence) in answer(triage) {
            writeln!(out, "{} {sentence}", self.emphasis(&format!("{head:<7}")))?;
        }
        writeln!(out)?;
        self.parts(out, view)?;
        if !triage.grown.is_empty() {
            writeln!(out, "\nGrew in {}:", format_age(triage.span))?;
            triage.grown.iter().take(view.shown()).try_for_each(|growth| self.place(out, growth))?;
        }
        triage.suspects.iter().try_for_each(|of| suspect(out, of))?;
        writeln!(out, "\nHold most:")?;
        triage.largest.iter().take(view.shown()).try_for_each(|growth| self.place(out, growth))?;
        cgroups(out, &triage.now.cgroups)?;
        if triage.bounds.len() > 1 {
            writeln!(out, "\nLimits, the nearest first:")?;
            for bound in triage.bounds.iter().take(SHOWN) {
                writeln!(out, "  {}", words::bound(bound))?;
            }
        }
        if !triage.victims.is_empty() {
            writeln!(out, "\nThe OOM killer would take:")?;
        }
        triage.victims.iter().try_for_each(|victim| writeln!(out, "  {}", words::victim(victim)))?;
        log::write(out, triage, SHOWN)?;
        if triage.next.len() > 1 {
            writeln!(out, "\nThen:")?;
            triage.next.iter().skip(1).try_for_each(|step| writeln!(out, "  {}", command(step)))?;
        }
        if !triage.now.missing.is_empty() {
            writeln!(out)?;
        }
        for what in &triage.now.missing {
            writeln!(out, "Missing: {}", missing(what))?;
        }
        writeln!(out)
    }

    /// The parts of the machine's memory.
    fn parts(&self, out: &mut dyn Write, view: &TriageView<'_>) -> io::Result<()> {
        let Triage { now, span, .. } = view.triage;
        let swap = match now.swap {
            (0, _) => "no swap".to_owned(),
            (size, used) => format!("{} of {} swap used", format_bytes(used), format_bytes(size)),
        };
        let pressure = now.pressure.map(|share| format!(", pressure {}", format_percent(share)));
        writeln!(
            out,
            "[{}] {} of memory, {} available, {swap}{}; growth in {}",
            view.time.to_zoned(self.zone().clone()).strftime("%H:%M:%S"),
            self.emphasis(&format_bytes(now.total)),
            format_bytes(now.available),
            pressure.unwrap_or_default(),
            format_age(*span)
        )?;
        for (of, grown) in &view.triage.parts {
            if of.bytes < LEAST_PART && grown.unsigned_abs() < LEAST_PART {
                continue;
            }
            let free = match of.kind {
                PartKind::HugePages => {
                    let reserved = match now.huge_reserved {
                        0 => String::new(),
                        bytes => format!(", {} of these promised to mappings", format_bytes(bytes)),
                    };
                    format!(", {} of them free{reserved}", format_bytes(now.huge_free))
                }
                _ => String::new(),
            };
            writeln!(
                out,
                "  {:>10} {:>11}  {}{free}",
                format_bytes(of.bytes),
                signed(*grown),
                part(of.kind)
            )?;
        }
        Ok(())
    }

    fn place(&self, out: &mut dyn Write, growth: &Growth) -> io::Result<()> {
        let most = if growth.at_most { " at most" } else { "" };
        let grown = match growth.grown {
            0 => String::new(),
            grown => format!("{}{most}", signed(grown)),
        };
        writeln!(
            out,
            "  {} {grown:>11}  {}",
            self.emphasis(&format!("{:>10}", format_bytes(growth.bytes))),
            place(&growth.place, growth.count)
        )
    }
}

/// Growth with its sign.
fn signed(bytes: i64) -> String {
    match bytes {
        0 => String::new(),
        _ => format_signed(bytes, format_bytes),
    }
}

/// What a close look at a process shows.
fn suspect(out: &mut dyn Write, suspect: &Suspect) -> io::Result<()> {
    let Suspect { owner, parent, siblings, size_grown, patterns } = suspect;
    let mut facts: Vec<String> = patterns.iter().map(pattern).collect();
    if let Some(parent) = parent {
        facts.push(format!("a child of {} (pid {})", short(&parent.comm), parent.pid));
    }
    if siblings.0 > 0 {
        facts.push(format!(
            "{} of the same name grew too, by {} together",
            format_count(siblings.0, "sibling"),
            format_bytes(siblings.1.unsigned_abs())
        ));
    }
    if *size_grown > 0 {
        facts.push(format!("its address space grew by {}", format_bytes(size_grown.unsigned_abs())));
    }
    if facts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{} (pid {}):", short(&owner.comm), owner.pid)?;
    facts.iter().try_for_each(|fact| writeln!(out, "  {fact}"))
}

/// The largest cgroups.
fn cgroups(out: &mut dyn Write, groups: &[CgroupMemory]) -> io::Result<()> {
    // The root's figures are the machine's.
    let mut groups = groups.iter().filter(|group| group.path != "/").take(SHOWN).peekable();
    if groups.peek().is_some() {
        writeln!(out, "\nCgroups:")?;
    }
    groups.try_for_each(|group| {
        let limit = group.max.map(|max| format!(" of {}", format_bytes(max))).unwrap_or_default();
        let high = group.high.map(|high| format!(", slowed down at {}", format_bytes(high)));
        let pressure = group.pressure.map(|share| format!(", pressure {}", format_percent(share)));
        writeln!(
            out,
            "  {:>10}{limit}  {}: page cache {}, shared memory {}{}{}",
            format_bytes(group.current),
            short(&group.path),
            format_bytes(group.cache),
            format_bytes(group.shmem),
            high.unwrap_or_default(),
            pressure.unwrap_or_default()
        )
    })
}
