//! From an address in a file to functions and lines.
//!
//! **Invariant**: files of a target are parsed in a child without privileges, and never on the thread that asks. That
//! thread requests names of places ([`Symbolizer::ask`]), waits for answers ([`Symbolizer::answered`]), and takes
//! what is known by then ([`Symbolizer::take`]). The kernel's own symbols ([`KernelSymbolizer`]) are read here: only
//! the kernel writes /proc/kallsyms.
//!
//! The child receives open files and nothing else; it opens none, so references from one file to another are not followed.
//! The only user of blazesym and addr2line.

mod child;
mod demangle;
mod engine;
mod generated;
mod kernel;
mod sandbox;
mod sections;
mod symbols;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::{
    wire::Named,
    worker::{Job, News},
};
use crate::{
    elf::{CodeFile, FileId},
    profile::{FileProblem, Remark, Unread, elide},
};

pub use child::serve;
pub use demangle::demangled;
pub use kernel::KernelSymbolizer;

/// The most bytes of names that are kept: further places have no names.
const REMEMBERED: usize = 256 << 20;

/// The most remarks that are shown: if more files have problems, the rest have the same. And the most that are kept.
const REMARKS: usize = 20;
const REMARKS_KEPT: usize = 1000;

/// Bytes of a file's name in a remark.
const SHOWN: usize = 200;

/// How the child is started: this program, with an argument for which it calls [`serve`].
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The argument.
    pub command: &'static str,
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file.
    pub code: &'a CodeFile,
    /// The frame's address, as an ELF virtual address: a return address, or an interrupted instruction's.
    pub address: u64,
    /// Whether it is a return address. The place is then that of the call, one byte before: the address itself may
    /// belong to the next line or the next function.
    pub is_return: bool,
}

impl Place<'_> {
    /// The address to look up.
    fn call(&self) -> u64 {
        self.address.saturating_sub(u64::from(self.is_return))
    }
}

/// A function at an address. Texts are shared: a target can make them long and many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The function, demangled; `None` where only its line is known.
    pub function: Option<Arc<str>>,
    /// Its first address; of an inlined function that of the function that has the code.
    pub start: Option<u64>,
    /// The source file.
    pub file: Option<Arc<str>>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether it was inlined into the next one.
    pub inlined: bool,
}

/// What tells files apart. Of maps of generated code that is the code: they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileKey {
    Elf(FileId, Option<FileId>),
    Generated(u64),
}

impl FileKey {
    fn of(code: &CodeFile) -> Self {
        match code.generated {
            Some((number, _)) => Self::Generated(number),
            None => Self::Elf(code.id.0, code.id.1),
        }
    }
}

/// Names frames. Results are kept until they are taken.
pub struct Symbolizer {
    /// `None`: nothing is named.
    program: Option<Program>,
    jobs: Option<std::sync::mpsc::Sender<Job>>,
    news: Option<UnboundedReceiver<News>>,
    known: FxHashMap<(usize, u64), Vec<Name>>,
    asked: FxHashSet<(usize, u64)>,
    /// Numbers of files: processes share files.
    numbers: FxHashMap<FileKey, usize>,
    /// Texts of names, each once.
    texts: FxHashSet<Arc<str>>,
    remembered: usize,
    given_up: u64,
    remarks: Vec<Remark>,
}

impl Symbolizer {
    /// Names places with a child of this program, which is started when there is something to name. Without a program,
    /// nothing is named.
    #[must_use]
    pub fn new(program: Option<Program>) -> Self {
        Self {
            program,
            jobs: None,
            news: None,
            known: FxHashMap::default(),
            asked: FxHashSet::default(),
            numbers: FxHashMap::default(),
            texts: FxHashSet::default(),
            remembered: 0,
            given_up: 0,
            remarks: Vec::new(),
        }
    }

    /// Requests names of places that are not known yet. Does not block.
    pub fn ask<'a>(&mut self, places: impl IntoIterator<Item = Place<'a>>) {
        let Some(program) = self.program else { return };
        let mut wanted: FxHashMap<usize, (&CodeFile, Vec<u64>)> = FxHashMap::default();
        for place in places {
            let key = (self.number(place.code), place.call());
            if self.known.contains_key(&key) || self.remembered > REMEMBERED || !self.asked.insert(key) {
                continue;
            }
            wanted.entry(key.0).or_insert((place.code, Vec::new())).1.push(key.1);
        }
        for (number, (code, addresses)) in wanted {
            self.send(program, Job { number, code: code.clone(), addresses });
        }
        if self.remembered > REMEMBERED {
            self.remark(Remark::TooManyNames);
        }
    }

    fn number(&mut self, code: &CodeFile) -> usize {
        let next = self.numbers.len();
        let number = *self.numbers.entry(FileKey::of(code)).or_insert(next);
        if number == next
            && let Some(path) = &code.misfit
        {
            let problem = FileProblem::OtherBuild { path: path.display().to_string() };
            self.hear(News::Remark(trouble(code, Unread::DebugFile, problem)));
        }
        number
    }

    fn key(&self, place: &Place<'_>) -> Option<(usize, u64)> {
        Some((*self.numbers.get(&FileKey::of(place.code))?, place.call()))
    }

    fn send(&mut self, program: Program, job: Job) {
        if self.jobs.is_none() {
            let (sender, news) = unbounded_channel();
            match worker::start(program, sender) {
                Ok(jobs) => (self.jobs, self.news) = (Some(jobs), Some(news)),
                Err(error) => {
                    self.asked.clear();
                    self.program = None;
                    self.remark(Remark::NoNameThread { error: error.to_string() });
                    return;
                }
            }
        }
        if let Some(jobs) = &self.jobs {
            // It ends after this does.
            let _ = jobs.send(job);
        }
    }

    /// How many places are pending.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Waits for the next answer and processes it; forever if none is pending.
    pub async fn answered(&mut self) {
        let news = match &mut self.news {
            Some(news) if !self.asked.is_empty() => news.recv().await,
            _ => std::future::pending().await,
        };
        match news {
            Some(news) => self.hear(news),
            None => {
                self.asked.clear();
                self.program = None;
                self.remark(Remark::NameThreadEnded);
            }
        }
    }

    /// Processes the answers that have arrived.
    pub fn catch_up(&mut self) {
        while let Some(Ok(news)) = self.news.as_mut().map(UnboundedReceiver::try_recv) {
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Remark(remark) => {
                // A file that is read again has the same problem.
                let is_new = matches!(remark, Remark::FileUnread { .. }) && !self.remarks.contains(&remark);
                self.given_up += u64::from(is_new);
                self.remark(remark);
            }
            News::Names(file, names) => {
                for (address, named) in names {
                    let names = named.into_iter().map(|named| self.name(named)).collect();
                    self.asked.remove(&(file, address));
                    self.known.insert((file, address), names);
                }
            }
        }
    }

    fn name(&mut self, named: Named) -> Name {
        self.remembered += size_of::<Name>();
        Name {
            function: named.function.map(|text| self.text(&text)),
            file: named.file.map(|text| self.text(&text)),
            start: named.start,
            line: named.line,
            inlined: named.inlined,
        }
    }

    /// The shared copy of a text. The child has bounded it, or should have.
    fn text(&mut self, text: &str) -> Arc<str> {
        let text = elide(text, demangle::MOST);
        if let Some(known) = self.texts.get(&*text) {
            return Arc::clone(known);
        }
        self.remembered += text.len();
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < REMARKS_KEPT && !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Counts a report that does not wait for names. They are still looked up, for later reports.
    pub fn give_up(&mut self) {
        self.given_up += 1;
    }

    /// How often names in a file were given up, or a report did not wait for names.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// What went wrong so far.
    #[must_use]
    pub fn remarks(&self) -> &[Remark] {
        self.remarks.get(..REMARKS).unwrap_or(&self.remarks)
    }

    /// The functions at a place: inlined ones first, the function itself last; empty if nothing is known. `None` if
    /// it was not looked up, or was taken before.
    pub fn take(&mut self, place: &Place<'_>) -> Option<Vec<Name>> {
        self.known.remove(&self.key(place)?)
    }

    /// Whether a place is pending.
    #[must_use]
    pub fn is_asked(&self, place: &Place<'_>) -> bool {
        self.key(place).is_some_and(|key| self.asked.contains(&key))
    }
}

/// The remark on a file of which not all is used for names.
fn trouble(code: &CodeFile, unread: Unread, problem: FileProblem) -> Remark {
    Remark::FileUnread { file: elide(&code.name, SHOWN).into_owned(), unread, problem }
}
