//! A profile for the Firefox Profiler, <https://profiler.firefox.com>, which opens files in the browser and sends them nowhere.
//!
//! A process is a process there, with one thread; a row is a sample whose weight is its outstanding bytes. Frames have the
//! category of their row's verdict, which gives them its colour. Samples stand in order, one after another: their times
//! mean nothing.

use std::{io, time::Duration};

use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp,
    SamplingInterval, ThreadHandle, Timestamp, WeightType,
};
use rustc_hash::FxHashMap;

use super::{Reporter, escape, stacks::path, verdicts};
use crate::profile::{Kind, Row, View};

/// The most that one sample weighs: more is several of them.
const HEAVIEST: u64 = i32::MAX as u64;

/// The colours of verdicts, and that of rows without one.
const COLOURS: [(Kind, CategoryColor); 6] = [
    (Kind::Lost, CategoryColor::Red),
    (Kind::Growing, CategoryColor::Orange),
    (Kind::WarmingUp, CategoryColor::Yellow),
    (Kind::TooEarly, CategoryColor::Purple),
    (Kind::Steady, CategoryColor::Green),
    (Kind::StartUp, CategoryColor::Blue),
];

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Firefox;

impl Reporter for Firefox {
    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &Builder::new(view).profile())?;
        writeln!(out)
    }
}

struct Builder<'a, 'v> {
    view: &'v View<'a>,
    profile: Profile,
    categories: FxHashMap<Kind, CategoryHandle>,
    /// By pid.
    threads: FxHashMap<u32, ThreadHandle>,
    samples: u32,
}

impl<'a, 'v> Builder<'a, 'v> {
    fn new(view: &'v View<'a>) -> Self {
        let time = u64::try_from(view.profile().time.as_millisecond()).unwrap_or(0);
        let begin = Duration::from_millis(time).saturating_sub(view.profile().elapsed);
        let reference = ReferenceTimestamp::from_duration_since_unix_epoch(begin);
        let mut profile = Profile::new("memtrace", reference, SamplingInterval::from_millis(1));
        profile.set_os_name("Linux");
        // Names stand in it: nothing is to be looked up.
        profile.set_symbolicated(true);
        let categories =
            COLOURS.map(|(kind, colour)| (kind, profile.add_category(verdicts::name(kind), colour)));
        let categories = categories.into_iter().collect();
        Self { view, profile, categories, threads: FxHashMap::default(), samples: 0 }
    }

    fn profile(mut self) -> Profile {
        let view = self.view;
        // Also those that hold nothing.
        for process in view.profile().targets() {
            self.thread(process.pid, &process.comm);
        }
        view.rows().for_each(|row| self.row(row));
        self.profile
    }

    fn thread(&mut self, pid: u32, name: &str) -> ThreadHandle {
        let Self { profile, threads, .. } = self;
        *threads.entry(pid).or_insert_with(|| {
            let begin = Timestamp::from_nanos_since_reference(0);
            let name = escape(name);
            let process = profile.add_process(&name, pid, begin);
            let thread = profile.add_thread(process, pid, begin, true);
            profile.set_thread_name(thread, &name);
            profile.set_thread_samples_weight_type(thread, WeightType::Bytes);
            thread
        })
    }

    fn row(&mut self, row: &Row) {
        let view = self.view;
        let thread = self.thread(row.pid(), if row.kernel().is_some() { "kernel" } else { "memtrace" });
        let kind = row.verdict.as_deref().map(|verdict| verdict.kind());
        let category = kind.and_then(|kind| self.categories.get(&kind)).copied();
        let names: Vec<_> =
            path(view, row).iter().map(|name| self.profile.intern_string(&escape(name))).collect();
        let frames = names.into_iter().map(|name| FrameInfo {
            frame: Frame::Label(name),
            category_pair: category.unwrap_or(CategoryHandle::OTHER).into(),
            flags: FrameFlags::empty(),
        });
        let stack = self.profile.intern_stack_frames(thread, frames);
        let mut left = row.outstanding.bytes;
        while left > 0 {
            let weight = left.min(HEAVIEST);
            left -= weight;
            let time = Timestamp::from_millis_since_reference(f64::from(self.samples));
            self.samples += 1;
            self.profile.add_sample(thread, time, stack, CpuDelta::ZERO, weight as i32);
        }
    }
}
