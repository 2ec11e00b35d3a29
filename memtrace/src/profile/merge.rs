//! Rows of several processes that run the same code, as one (`--merge`). Pure: a profile is not changed.
//!
//! Two stacks are the same code if their frames have the same addresses in the same files: those with the same build id, or,
//! without one, with the same path. Code without a file (`[anon]`) is the same only within one process.

use std::{borrow::Cow, hash::Hash as _, hash::Hasher as _};

use rustc_hash::{FxHashMap, FxHasher};

use super::{
    Curve, Curves, Detail, Dictionary, Leaked, LocationId, ModuleId, Profile, Row, StringId, Subject, Trend,
    Uncertainty, Verdict,
};

/// Which processes are in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Their pids; the first one is that whose grounds and holders the row has: the one with the worst verdict that holds
    /// most.
    pub pids: Vec<u32>,
    /// Those with the row's verdict.
    pub alike: Vec<u32>,
}

/// A file with code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum File {
    BuildId(StringId),
    Path(StringId),
    /// Not a file: the same for one process only.
    Own(ModuleId),
}

/// What identifies code: file, address, and whether it is a return address, of each frame; and whether frames are missing.
type Code = (Vec<(File, u64, bool)>, Option<super::Reason>);

/// A profile in which each code has one row. Rows without frames stay as they are.
#[must_use]
pub fn merged(dictionary: &Dictionary, profile: &Profile) -> Profile {
    let mut groups: FxHashMap<Code, Vec<&Row>> = FxHashMap::default();
    let mut rows = Vec::new();
    let known = profile.processes().map(|of| of.curves.as_ref());
    let mut curves = Vec::new();
    for row in &profile.rows {
        match code(dictionary, row) {
            Some(code) => groups.entry(code).or_default().push(row),
            None => {
                curves.extend(known.and_then(|known| known.of(row)).cloned());
                rows.push(row.clone());
            }
        }
    }
    rows.extend(groups.into_iter().filter_map(|(code, mut of)| {
        of.sort_by(|a, b| {
            kind(a)
                .cmp(&kind(b))
                .then(b.outstanding.bytes.cmp(&a.outstanding.bytes))
                .then(a.pid().cmp(&b.pid()))
        });
        let mut row = of.iter().skip(1).fold((*of.first()?).clone(), |sum, row| plus(sum, row));
        row.id = id(dictionary, &code);
        finish(&mut row, &of);
        curves.extend(known.and_then(|known| sum(known, row.id, &of)));
        Some(row)
    }));
    rows.sort_by_key(|row| (row.id, row.pid()));
    let mut merged = Profile { rows, ..shell(profile) };
    if let Subject::Processes(of) = &mut merged.subject {
        of.curves.stacks = curves;
    }
    merged
}

/// What rows held together; `None` if that of one of them is unknown.
fn sum(known: &Curves, id: u64, rows: &[&Row]) -> Option<Curve> {
    let mut bytes = vec![0_u64; known.at.len()];
    for row in rows {
        for (sum, bytes) in bytes.iter_mut().zip(&known.of(row)?.bytes) {
            *sum = sum.saturating_add(*bytes);
        }
    }
    Some(Curve { id, pid: rows.first()?.pid(), bytes })
}

/// The same where it is wanted.
pub(super) fn merged_if<'a>(wanted: bool, dictionary: &Dictionary, profile: &'a Profile) -> Cow<'a, Profile> {
    if wanted { Cow::Owned(merged(dictionary, profile)) } else { Cow::Borrowed(profile) }
}

/// Everything but the rows.
fn shell(profile: &Profile) -> Profile {
    Profile {
        time: profile.time,
        elapsed: profile.elapsed,
        last: profile.last,
        subject: profile.subject.clone(),
        filter: profile.filter,
        outstanding: profile.outstanding,
        bytes_per_second: profile.bytes_per_second,
        unknown_frees: profile.unknown_frees,
        rows: Vec::new(),
        losses: profile.losses.clone(),
        remarks: profile.remarks.clone(),
        marks: profile.marks.clone(),
    }
}

fn code(dictionary: &Dictionary, row: &Row) -> Option<Code> {
    let frames = dictionary.frames(row.stack.filter(|_| row.kernel().is_none())?);
    let frames = frames.iter().map(|&location| place(dictionary, location)).collect::<Option<Vec<_>>>()?;
    (!frames.is_empty()).then_some((frames, row.incomplete))
}

fn place(dictionary: &Dictionary, location: LocationId) -> Option<(File, u64, bool)> {
    let location = dictionary.location(location)?;
    let module = dictionary.module(location.module)?;
    let file = match module.build_id {
        Some(build_id) => File::BuildId(build_id),
        None if dictionary.text(module.name).starts_with('/') => File::Path(module.name),
        None => File::Own(location.module),
    };
    Some((file, location.address, location.is_return))
}

/// The id of a row: the same in all reports, whichever processes are in it.
fn id(dictionary: &Dictionary, (frames, incomplete): &Code) -> u64 {
    let mut hasher = FxHasher::default();
    for (file, address, is_return) in frames {
        match file {
            File::BuildId(text) | File::Path(text) => dictionary.text(*text).hash(&mut hasher),
            File::Own(module) => module.hash(&mut hasher),
        }
        (address, is_return).hash(&mut hasher);
    }
    incomplete.is_some().hash(&mut hasher);
    hasher.finish()
}

fn kind(row: &Row) -> (bool, Option<super::Kind>) {
    // Rows without a verdict are the last.
    (row.verdict.is_none(), row.verdict.as_deref().map(Verdict::kind))
}

/// A row with the figures of another one added.
fn plus(mut sum: Row, row: &Row) -> Row {
    sum.outstanding = sum.outstanding.plus(row.outstanding);
    sum.allocated = sum.allocated.plus(row.allocated);
    sum.freed = sum.freed.plus(row.freed);
    sum.bytes_per_second += row.bytes_per_second;
    // An upper limit is one of all if it is the largest.
    if row.oldest.age > sum.oldest.age {
        sum.oldest = row.oldest;
    }
    sum.leaked = match (sum.leaked, row.leaked) {
        (Some(one), Some(other)) => Some(Leaked::plus(one, other)),
        (one, other) => one.or(other),
    };
    let uncertainty = match (sum.uncertainty(), row.uncertainty()) {
        // The errors of several processes are independent: their sum is more than that of the sum.
        (Some(one), Some(other)) => Some(Uncertainty {
            bytes: one.bytes.saturating_add(other.bytes),
            blocks: one.blocks.saturating_add(other.blocks),
            samples: one.samples.saturating_add(other.samples),
        }),
        (one, other) => one.or(other),
    };
    sum.detail = Detail::Process { pid: sum.pid(), uncertainty };
    if kind(&sum) == kind(row)
        && let (Some(verdict), Some(other)) = (&mut sum.verdict, &row.verdict)
    {
        verdict.trend = match (verdict.trend, other.trend) {
            (Some(one), Some(other)) => Some(Trend {
                bytes_per_second: one.bytes_per_second + other.bytes_per_second,
                low: one.low + other.low,
                high: one.high + other.high,
            }),
            (one, other) => one.or(other),
        };
    }
    if let (Some(verdict), Some(other)) = (&mut sum.verdict, &row.verdict) {
        verdict.lifetimes = verdict.lifetimes.zip(other.lifetimes).map(|(mut one, other)| {
            one.iter_mut().zip(other).for_each(|(sum, more)| *sum = sum.saturating_add(more));
            one
        });
    }
    sum
}

/// Says which processes are in a row, if there are several.
fn finish(row: &mut Row, of: &[&Row]) {
    let pids_of = |is_it: &dyn Fn(&Row) -> bool| {
        let mut pids: Vec<u32> = Vec::new();
        for pid in of.iter().filter(|row| is_it(row)).map(|row| row.pid()) {
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        pids
    };
    let pids = pids_of(&|_| true);
    if pids.len() > 1 {
        let alike = pids_of(&|one| kind(one) == kind(row));
        row.blocks.clear();
        if let Detail::Process { pid, .. } = &mut row.detail {
            *pid = 0;
        }
        row.merged = Some(Box::new(Merged { pids, alike }));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{Merged, merged, sum};
    use crate::profile::{
        Age, Amount, Curve, Curves, Detail, Dictionary, Filter, Grounds, Kernel, Losses, Marks, Profile, Row,
        StackId, Subject, Trend, Uncertainty, Verdict,
    };

    fn stack(dictionary: &mut Dictionary, name: &str, build_id: Option<&str>, address: u64) -> StackId {
        let module = dictionary.add_module(&Arc::from(name), build_id);
        let location = dictionary.add_location(module, address, true);
        dictionary.add_stack(&[location], None)
    }

    fn row(id: u64, pid: u32, stack: Option<StackId>, bytes: u64) -> Row {
        let uncertainty = Some(Uncertainty { bytes: 7, blocks: 1, samples: 2 });
        let grounds = if bytes > 50 {
            Grounds::NeverFreed { survivors: bytes }
        } else {
            Grounds::Turnover { freed: bytes }
        };
        let trend = Some(Trend { bytes_per_second: 2.0, low: 1.0, high: 4.0 });
        Row {
            id,
            stack,
            outstanding: Amount { bytes, blocks: 1 },
            allocated: Amount { bytes: 2 * bytes, blocks: 2 },
            freed: Amount { bytes, blocks: 1 },
            bytes_per_second: 0.5,
            oldest: Age { age: Duration::from_secs(bytes), exact: pid != 3 },
            incomplete: None,
            leaked: None,
            held_by: Vec::new(),
            blocks: Vec::new(),
            detail: Detail::Process { pid, uncertainty },
            verdict: Some(Box::new(Verdict { grounds, trend, lifetimes: None })),
            merged: None,
        }
    }

    fn profile(rows: Vec<Row>) -> Profile {
        Profile {
            time: jiff::Timestamp::UNIX_EPOCH,
            elapsed: Duration::ZERO,
            last: false,
            subject: Subject::Kernel(Kernel::default()),
            filter: Filter::default(),
            outstanding: Amount { bytes: 1000, blocks: 9 },
            bytes_per_second: 0.0,
            unknown_frees: 0,
            rows,
            losses: Losses::default(),
            remarks: Vec::new(),
            marks: Marks::default(),
        }
    }

    #[test]
    fn the_same_code_of_several_processes_is_one_row() {
        let mut dictionary = Dictionary::default();
        let of = |dictionary: &mut Dictionary, name| stack(dictionary, name, Some("ab12"), 0x10);
        let stacks = ["/bin/a", "/copy/a", "/bin/a"].map(|name| of(&mut dictionary, name));
        let rows = [(1, 100), (2, 20), (3, 300)];
        let rows =
            rows.iter().zip(stacks).map(|(&(pid, bytes), stack)| row(pid.into(), pid, Some(stack), bytes));
        let before = profile(rows.collect());
        let after = merged(&dictionary, &before);
        let [row] = after.rows.as_slice() else { panic!("{:?}", after.rows) };
        let amounts = [row.outstanding, row.allocated, row.freed].map(|amount| (amount.bytes, amount.blocks));
        assert_eq!(amounts, [(420, 3), (840, 6), (420, 3)]);
        assert_eq!(row.uncertainty(), Some(Uncertainty { bytes: 21, blocks: 3, samples: 6 }));
        assert_eq!((row.oldest.age.as_secs(), row.oldest.exact, row.bytes_per_second), (300, false, 1.5));
        // The verdict is the worst, its growth that of the two processes which have it.
        let verdict = row.verdict.as_deref().unwrap();
        assert_eq!(verdict.grounds, Grounds::NeverFreed { survivors: 300 });
        assert_eq!(verdict.trend, Some(Trend { bytes_per_second: 4.0, low: 2.0, high: 8.0 }));
        assert_eq!(row.merged.as_deref(), Some(&Merged { pids: vec![3, 1, 2], alike: vec![3, 1] }));
        assert_eq!(
            [0, 2, 4].map(|pid| (row.is_of(pid), row.judges(pid))),
            [(true, true), (true, false), (false, false)]
        );
        assert_eq!(after.outstanding, before.outstanding);
    }

    #[test]
    fn other_code_is_another_row() {
        let mut dictionary = Dictionary::default();
        let stacks = [
            ("/bin/a", Some("ab12"), 0x10),
            ("/bin/a", Some("ab12"), 0x18),
            ("/bin/a", Some("cd34"), 0x10),
            ("/bin/a", None, 0x10),
            // Generated code is anywhere.
            ("[anon]", None, 0x10),
            ("[anon]", None, 0x10),
        ];
        let stacks = stacks.map(|(name, build_id, address)| stack(&mut dictionary, name, build_id, address));
        let mut rows: Vec<Row> =
            stacks.into_iter().zip(1..).map(|(stack, pid)| row(9, pid, Some(stack), 10)).collect();
        rows.push(row(9, 7, None, 10));
        rows.push(row(9, 8, None, 10));
        let after = merged(&dictionary, &profile(rows));
        assert_eq!(after.rows.len(), 8);
        assert!(after.rows.iter().all(|row| row.merged.is_none() && row.pid() != 0));
    }

    #[test]
    fn curves_of_all_processes_add_up_and_one_without_leaves_none() {
        let rows = [row(5, 1, None, 10), row(5, 2, None, 10), row(5, 3, None, 10)];
        let curve = |pid, bytes: [u64; 2]| Curve { id: 5, pid, bytes: bytes.to_vec() };
        let at = [1, 2].map(Duration::from_secs).to_vec();
        let known = Curves { at, stacks: vec![curve(1, [1, 20]), curve(2, [3, u64::MAX])] };
        let together = sum(&known, 77, &[&rows[0], &rows[1]]);
        assert_eq!(together, Some(Curve { id: 77, pid: 1, bytes: vec![4, u64::MAX] }));
        assert_eq!(sum(&known, 77, &[&rows[0], &rows[2]]), None);
        assert_eq!((known.of(&rows[1]), known.of(&rows[2])), (known.stacks.get(1), None));
    }

    #[test]
    fn ids_do_not_depend_on_the_processes() {
        let mut dictionary = Dictionary::default();
        let stacks = [(); 2].map(|()| stack(&mut dictionary, "/bin/a", None, 0x10));
        let of = |rows: &[u32]| {
            let rows = rows.iter().zip(stacks).map(|(&pid, stack)| row(pid.into(), pid, Some(stack), 10));
            merged(&dictionary, &profile(rows.collect())).rows.iter().map(|row| row.id).collect::<Vec<_>>()
        };
        assert_eq!(of(&[1]), of(&[2]));
        assert_eq!(of(&[1]), of(&[1, 2]));
    }
}
