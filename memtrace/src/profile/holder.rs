//! Who holds blocks: where the first pointer on the way to them is.

use serde::{Deserialize, Serialize};

use super::elide;

/// Bytes of a name that are kept.
const MOST: usize = 4096;

/// Where a pointer lies that is not inside a block itself. Texts have at most 4,096 bytes each; they are the target's, and unescaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Root {
    /// A variable of a program or library.
    Data {
        /// The variable; `None` if the file has no symbol there.
        symbol: Option<String>,
        /// Bytes from the variable's beginning; 0 in one that is no larger than a pointer, and without a variable.
        offset: u64,
        /// The file, as the target sees it.
        module: String,
        /// The section, where there is no variable: `.data`, `.bss`.
        section: Option<String>,
    },
    /// A thread's stack.
    Stack {
        /// The thread.
        tid: u32,
        /// Its name; empty if unknown.
        thread: String,
        /// The function whose frame it is.
        function: Option<String>,
    },
    /// Thread-local memory, or the C library's own memory of the thread.
    Tls {
        /// The thread.
        tid: u32,
        /// Its name; empty if unknown.
        thread: String,
        /// The variable.
        symbol: Option<String>,
        /// The file that has the variable.
        module: Option<String>,
    },
    /// A register.
    Register {
        /// The thread.
        tid: u32,
        /// Its name; empty if unknown.
        thread: String,
    },
    /// What the kernel keeps for an epoll descriptor.
    Epoll,
    /// What the kernel keeps for a timer.
    Timer,
    /// Memory of an allocator that is not inside a known block: allocated before tracing began, not sampled or in a gap, or the
    /// allocator's own.
    Heap,
    /// Memory that is no allocator's: a memfd, shared memory, a mapped file, what the program mapped itself.
    Mapping {
        /// Its name in the list of mappings; `[anon]` without one.
        name: String,
    },
}

impl Root {
    /// A variable of a file, or a place in one of its sections.
    #[must_use]
    pub fn data(module: &str, symbol: Option<(&str, u64)>, section: Option<&str>) -> Self {
        Self::Data {
            symbol: symbol.map(|(name, _)| short(name)),
            offset: symbol.map_or(0, |(_, offset)| offset),
            module: short(module),
            section: section.map(short),
        }
    }

    /// A place on a thread's stack.
    #[must_use]
    pub fn stack(tid: u32, thread: &str) -> Self {
        Self::Stack { tid, thread: short(thread), function: None }
    }

    /// A place in a thread's own memory; with a variable, also the file that has it.
    #[must_use]
    pub fn tls(tid: u32, thread: &str, variable: Option<(&str, &str)>) -> Self {
        Self::Tls {
            tid,
            thread: short(thread),
            symbol: variable.map(|(symbol, _)| short(symbol)),
            module: variable.map(|(_, module)| short(module)),
        }
    }

    /// A register of a thread.
    #[must_use]
    pub fn register(tid: u32, thread: &str) -> Self {
        Self::Register { tid, thread: short(thread) }
    }

    /// A mapping by its name in /proc.
    #[must_use]
    pub fn mapping(name: &str) -> Self {
        Self::Mapping { name: short(if name.is_empty() { "[anon]" } else { name }) }
    }

    /// What kind it is: `root` in JSON.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Data { .. } => "data",
            Self::Stack { .. } => "stack",
            Self::Tls { .. } => "tls",
            Self::Register { .. } => "register",
            Self::Epoll => "epoll",
            Self::Timer => "timer",
            Self::Heap => "heap",
            Self::Mapping { .. } => "mapping",
        }
    }

    /// The name of a variable, else of a section, a thread or a mapping: `name` in JSON.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Data { symbol, section, .. } => symbol.as_deref().or(section.as_deref()),
            Self::Tls { symbol: Some(symbol), .. } => Some(symbol),
            Self::Stack { thread, .. } | Self::Tls { thread, .. } | Self::Register { thread, .. } => {
                Some(thread.as_str()).filter(|thread| !thread.is_empty())
            }
            Self::Mapping { name } => Some(name),
            Self::Epoll | Self::Timer | Self::Heap => None,
        }
    }

    /// The file that has the variable: `module` in JSON.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        match self {
            Self::Data { module, .. } => Some(module),
            Self::Tls { module, .. } => module.as_deref(),
            _ => None,
        }
    }

    /// The thread whose memory or register it is.
    #[must_use]
    pub fn tid(&self) -> Option<u32> {
        match self {
            Self::Stack { tid, .. } | Self::Tls { tid, .. } | Self::Register { tid, .. } => Some(*tid),
            _ => None,
        }
    }

    /// The same with its variable's name replaced, as by one that is demangled.
    #[must_use]
    pub fn rename(mut self, name: impl FnOnce(&str) -> String) -> Self {
        if let Self::Data { symbol: Some(symbol), .. } | Self::Tls { symbol: Some(symbol), .. } = &mut self {
            *symbol = short(&name(symbol));
        }
        self
    }

    /// The same without the offset: equal for all elements of an array.
    #[must_use]
    pub fn whole(mut self) -> Self {
        if let Self::Data { offset, .. } = &mut self {
            *offset = 0;
        }
        self
    }
}

/// A root from which blocks of a stack are reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Where the first pointer is.
    pub root: Root,
    /// Pointers from there to a block: 1 if it points to the block itself. The median of the blocks that it holds.
    pub steps: u32,
    /// The part of the blocks looked at that it holds, 0 to 1.
    pub share: f64,
    /// Blocks of the stack that were looked at.
    pub looked_at: u32,
}

fn short(text: &str) -> String {
    elide(text, MOST).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Holder, MOST, Root};

    #[test]
    fn each_kind_says_what_it_has() {
        let variable = Root::data("/bin/app", Some(("g_sessions", 0x18)), None);
        let section = Root::data("/bin/app", None, Some(".bss"));
        let local = Root::tls(7, "worker", Some(("cache", "/bin/app")));
        for (root, key, name, module, tid) in [
            (&variable, "data", Some("g_sessions"), Some("/bin/app"), None),
            (&section, "data", Some(".bss"), Some("/bin/app"), None),
            (&Root::stack(7, "worker"), "stack", Some("worker"), None, Some(7)),
            (&local, "tls", Some("cache"), Some("/bin/app"), Some(7)),
            (&Root::tls(7, "worker", None), "tls", Some("worker"), None, Some(7)),
            (&Root::register(7, ""), "register", None, None, Some(7)),
            (&Root::Epoll, "epoll", None, None, None),
            (&Root::Timer, "timer", None, None, None),
            (&Root::Heap, "heap", None, None, None),
            (&Root::mapping("/memfd:x (deleted)"), "mapping", Some("/memfd:x (deleted)"), None, None),
            (&Root::mapping(""), "mapping", Some("[anon]"), None, None),
        ] {
            assert_eq!((root.key(), root.name(), root.module(), root.tid()), (key, name, module, tid));
        }
        assert_eq!(variable.clone().rename(str::to_uppercase).name(), Some("G_SESSIONS"));
        assert_eq!(section.clone().rename(str::to_uppercase), section);
        assert_eq!(variable.clone().whole(), Root::data("/bin/app", Some(("g_sessions", 0)), None));
        let holder = Holder { root: variable, steps: 3, share: 0.97, looked_at: 512 };
        let bytes = serde_json::to_vec(&holder).unwrap();
        assert_eq!(serde_json::from_slice::<Holder>(&bytes).unwrap(), holder);
    }

    #[test]
    fn texts_are_bounded() {
        let long = "x".repeat(10_000);
        let root = Root::data(&long, Some((&long, 1)), Some(&long)).rename(|name| name.repeat(9));
        let Root::Data { symbol, module, section, .. } = &root else { panic!("{root:?}") };
        let lengths = [symbol.as_deref(), Some(module), section.as_deref()].map(|text| text.map(str::len));
        assert!(lengths.iter().all(|length| length.is_some_and(|length| length <= MOST)), "{lengths:?}");
    }
}
