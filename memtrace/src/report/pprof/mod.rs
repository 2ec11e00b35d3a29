//! pprof: a gzip-compressed protobuf message, as `go tool pprof`, Speedscope, Pyroscope and Parca read it.
//!
//! The message is defined in <https://github.com/google/pprof/blob/main/proto/profile.proto>; the numbers of fields below are
//! from there. A sample is a row. Addresses are ELF virtual addresses in their file, so all mappings begin at 0.

mod wire;

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};
use rustc_hash::FxHashMap;

use self::wire::Message;
use super::losses::{self, reason_words};
use super::stacks::missing;
use super::{Reporter, balance, header, remarks};
use crate::profile::{Dictionary, KERNEL_CODE, LocationId, ModuleId, Row, Verdict, View};

/// Types of samples: name and unit. The last is the default.
const TYPES: [(&str, &str); 6] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("lost_objects", "count"),
    ("lost_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// The end of a process's addresses: larger than every address in a file.
const END: u64 = 1 << 47;

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pprof;

impl Reporter for Pprof {
    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        let mut encoder = GzEncoder::new(out, Compression::default());
        encoder.write_all(&Builder::new(view).profile())?;
        encoder.finish()?;
        Ok(())
    }
}

/// Makes the message. Ids begin at 1; 0 stands for none.
struct Builder<'a, 'v> {
    view: &'v View<'a>,
    /// The whole message but its texts, which are the last.
    message: Message,
    texts: FxHashMap<String, u64>,
    /// The texts in order.
    table: Vec<String>,
    modules: FxHashMap<ModuleId, u64>,
    locations: FxHashMap<LocationId, u64>,
    /// By name.
    stand_ins: FxHashMap<String, u64>,
    /// By name and file.
    functions: FxHashMap<(u64, u64), u64>,
}

impl<'a, 'v> Builder<'a, 'v> {
    fn new(view: &'v View<'a>) -> Self {
        let mut builder = Self {
            view,
            message: Message::default(),
            texts: FxHashMap::default(),
            table: Vec::new(),
            modules: FxHashMap::default(),
            locations: FxHashMap::default(),
            stand_ins: FxHashMap::default(),
            functions: FxHashMap::default(),
        };
        builder.text("");
        builder
    }

    fn profile(mut self) -> Vec<u8> {
        for (name, unit) in TYPES {
            let value_type = self.value_type(name, unit);
            self.message.message(1, &value_type);
        }
        // The first mapping is the program, for pprof.
        if let Some(program) = program(self.view) {
            self.module(program);
        }
        self.view.rows().for_each(|row| self.sample(row));
        let profile = self.view.profile();
        let since = profile.time.as_nanosecond() - i128::try_from(profile.elapsed.as_nanos()).unwrap_or(0);
        self.message.signed(9, i64::try_from(since).unwrap_or(0));
        self.message.number(10, u64::try_from(profile.elapsed.as_nanos()).unwrap_or(0));
        let period = profile.processes().and_then(|of| of.mode.sample_bytes).unwrap_or(1);
        let period_type = self.value_type("space", "bytes");
        self.message.message(11, &period_type);
        self.message.number(12, period);
        let comments: Vec<u64> = comments(self.view).iter().map(|comment| self.text(comment)).collect();
        self.message.packed(13, comments);
        let default = self.text(TYPES.last().map_or("", |(name, _)| name));
        self.message.number(14, default);
        for text in &self.table {
            self.message.bytes(6, text.as_bytes());
        }
        self.message.into_bytes()
    }

    fn value_type(&mut self, name: &str, unit: &str) -> Message {
        let mut message = Message::default();
        message.number(1, self.text(name));
        message.number(2, self.text(unit));
        message
    }

    fn sample(&mut self, row: &Row) {
        let mut sample = Message::default();
        let frames = row.stack.map_or(&[][..], |stack| self.view.dictionary().frames(stack));
        let mut locations: Vec<u64> = frames.iter().filter_map(|&location| self.location(location)).collect();
        if let Some(what) = missing(row, frames.is_empty()) {
            locations.push(self.stand_in(what));
        }
        sample.packed(1, locations);
        let lost = row.leaked.map_or_else(Default::default, |leaked| leaked.lost);
        let values = [row.allocated, lost, row.outstanding]
            .into_iter()
            .flat_map(|amount| [amount.blocks, amount.bytes]);
        // They are signed there.
        sample.packed(2, values.map(|value| value.min(i64::MAX.cast_unsigned())));
        let dictionary = self.view.dictionary();
        let verdict = row.verdict.as_deref().map(Verdict::kind);
        let comm = self.view.profile().process(row.pid()).map(|process| process.comm.as_str());
        let detail = row.kernel();
        for (key, value) in [
            ("verdict", verdict.map(|kind| kind.key().to_owned())),
            ("process", comm.map(str::to_owned)),
            ("stack", Some(format!("{:016x}", row.id))),
            ("incomplete", row.incomplete.map(reason_words)),
            ("kind", detail.map(|detail| detail.kind.name().to_owned())),
            ("cache", detail.and_then(|detail| detail.cache).map(|cache| dictionary.text(cache).to_owned())),
        ] {
            if let Some(value) = value {
                let mut label = Message::default();
                label.number(1, self.text(key));
                label.number(2, self.text(&value));
                sample.message(3, &label);
            }
        }
        if row.pid() != 0 {
            let mut label = Message::default();
            label.number(1, self.text("pid"));
            label.number(3, row.pid().into());
            sample.message(3, &label);
        }
        self.message.message(2, &sample);
    }

    /// The id of a place in code, which is written once.
    fn location(&mut self, id: LocationId) -> Option<u64> {
        if let Some(&known) = self.locations.get(&id) {
            return Some(known);
        }
        let dictionary: &Dictionary = self.view.dictionary();
        let location = dictionary.location(id)?;
        let number = self.next_location();
        self.locations.insert(id, number);
        let mut message = Message::default();
        message.number(1, number);
        message.number(2, self.module(location.module));
        message.number(3, location.call());
        for frame in dictionary.frames_at(id) {
            let Some(name) = frame.function else { continue };
            let mut line = Message::default();
            line.number(1, self.function(name, frame.file.unwrap_or_default()));
            line.number(2, frame.line.unwrap_or(0).into());
            message.message(4, &line);
        }
        self.message.message(4, &message);
        Some(number)
    }

    /// The id of a place that stands for what is missing of stacks.
    fn stand_in(&mut self, what: String) -> u64 {
        if let Some(&known) = self.stand_ins.get(&what) {
            return known;
        }
        let number = self.next_location();
        let mut line = Message::default();
        line.number(1, self.function(&what, ""));
        let mut message = Message::default();
        message.number(1, number);
        message.message(4, &line);
        self.message.message(4, &message);
        self.stand_ins.insert(what, number);
        number
    }

    fn next_location(&self) -> u64 {
        (self.locations.len() + self.stand_ins.len()) as u64 + 1
    }

    fn module(&mut self, id: ModuleId) -> u64 {
        if let Some(&known) = self.modules.get(&id) {
            return known;
        }
        let dictionary = self.view.dictionary();
        let module = dictionary.module(id);
        let name = module.map_or("", |module| dictionary.text(module.name));
        let build_id = module.and_then(|module| module.build_id).map_or("", |id| dictionary.text(id));
        let number = self.modules.len() as u64 + 1;
        self.modules.insert(id, number);
        let mut message = Message::default();
        message.number(1, number);
        message.number(3, if name == KERNEL_CODE { u64::MAX } else { END });
        message.number(5, self.text(name));
        message.number(6, self.text(build_id));
        // Functions, files, lines and inlined functions are there as far as memtrace found them: pprof need not look.
        (7..=10).for_each(|field| message.number(field, 1));
        self.message.message(3, &message);
        number
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.text(name), self.text(file));
        if let Some(&known) = self.functions.get(&key) {
            return known;
        }
        let number = self.functions.len() as u64 + 1;
        self.functions.insert(key, number);
        let mut message = Message::default();
        message.number(1, number);
        message.number(2, key.0);
        message.number(3, key.0);
        message.number(4, key.1);
        self.message.message(5, &message);
        number
    }

    /// The number of a text.
    fn text(&mut self, text: &str) -> u64 {
        // pprof prints names as they are.
        let text = super::escape(text);
        if let Some(&known) = self.texts.get(text.as_ref()) {
            return known;
        }
        let number = self.table.len() as u64;
        self.texts.insert(text.clone().into_owned(), number);
        self.table.push(text.into_owned());
        number
    }
}

/// The file in which the first complete stack begins: a library only if a thread began there.
fn program(view: &View<'_>) -> Option<ModuleId> {
    let dictionary = view.dictionary();
    let outermost = |row: &Row| {
        let location = *dictionary.frames(row.stack?).last()?;
        Some(dictionary.location(location)?.module)
    };
    let is_program = |id: &ModuleId| {
        let name = dictionary.module(*id).map_or("", |module| dictionary.text(module.name));
        name.starts_with('/') && !name.contains(".so")
    };
    view.rows().filter(|row| row.incomplete.is_none()).filter_map(outermost).find(is_program)
}

/// What the figures mean and leave out.
fn comments(view: &View<'_>) -> Vec<String> {
    let profile = view.profile();
    let mut header = format!("{}; {}", header::target(profile), header::how(profile));
    if profile.heaps().is_some() {
        header.push_str("; what was freed is unknown: alloc_objects and alloc_space are what is in use");
    }
    let missed = losses::of(profile).into_iter().map(|loss| format!("Missed: {loss}"));
    let notes = profile.remarks.iter().map(|remark| remarks::sentence(view.dictionary(), remark));
    std::iter::once(header)
        .chain(balance::lines(view))
        .chain(missed)
        .chain(notes.map(|note| format!("Note: {note}")))
        .collect()
}
