//! `memtrace.<arch>.lock`: what the committed eBPF object was built from, and with.

use anyhow::{Context, Result};

/// One lock file: `key value` lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// SHA-256 of the sources, see `source_hash`.
    pub(crate) sources: String,
    /// SHA-256 of the object's bytes.
    pub(crate) object: String,
    /// The programs that made it.
    pub(crate) toolchain: Toolchain,
}

/// Everything besides the sources that the object's bytes depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// bpf-linker's name and version.
    pub(crate) linker: String,
    /// The libLLVM that bpf-linker is linked to.
    pub(crate) linker_llvm: String,
    /// Version of rustc.
    pub(crate) rustc: String,
    /// Commit of rustc.
    pub(crate) rustc_commit: String,
    /// LLVM in rustc.
    pub(crate) rustc_llvm: String,
}

/// How a rebuilt object relates to the committed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same bytes.
    Reproduced,
    /// Other bytes although the same programs built it.
    Differs,
    /// Other bytes, and other programs: nothing can be said about the committed object.
    OtherToolchain,
}

impl Lock {
    /// # Errors
    /// A line is missing.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key))
                .map(|(_, value)| value.trim().to_owned())
                .with_context(|| format!("the lock has no `{key}` line"))
        };
        Ok(Self {
            sources: value("sources")?,
            object: value("object")?,
            toolchain: Toolchain {
                linker: value("linker")?,
                linker_llvm: value("linker-llvm")?,
                rustc: value("rustc")?,
                rustc_commit: value("rustc-commit")?,
                rustc_llvm: value("rustc-llvm")?,
            },
        })
    }

    /// The file's text.
    pub(crate) fn render(&self) -> String {
        let Toolchain { linker, linker_llvm, rustc, rustc_commit, rustc_llvm } = &self.toolchain;
        format!(
            "sources {}\nobject {}\nlinker {linker}\nlinker-llvm {linker_llvm}\nrustc {rustc}\n\
             rustc-commit {rustc_commit}\nrustc-llvm {rustc_llvm}\n",
            self.sources, self.object
        )
    }

    /// Judges a rebuild of the sources that this lock names.
    pub(crate) fn judge(&self, rebuilt: &Self) -> Verdict {
        if self.object == rebuilt.object {
            Verdict::Reproduced
        } else if self.toolchain == rebuilt.toolchain {
            Verdict::Differs
        } else {
            Verdict::OtherToolchain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        Lock {
            sources: "aa".into(),
            object: "bb".into(),
            toolchain: Toolchain {
                linker: "bpf-linker 0.13.0".into(),
                linker_llvm: "libLLVM.so.22.1-rust-1.95.0-stable".into(),
                rustc: "1.96.0".into(),
                rustc_commit: "ac68".into(),
                rustc_llvm: "22.1.8".into(),
            },
        }
    }

    #[test]
    fn text_round_trips_and_a_missing_line_is_named() {
        assert_eq!(Lock::parse(&lock().render()).unwrap(), lock());
        let text = lock().render().replace("rustc-llvm 22.1.8\n", "");
        assert_eq!(Lock::parse(&text).unwrap_err().to_string(), "the lock has no `rustc-llvm` line");
    }

    #[test]
    fn other_bytes_are_the_sources_fault_only_with_the_same_toolchain() {
        let rebuilt = Lock { object: "cc".into(), ..lock() };
        assert_eq!(lock().judge(&rebuilt), Verdict::Differs);
        let toolchain = Toolchain { rustc: "1.97.0".into(), ..lock().toolchain };
        assert_eq!(lock().judge(&Lock { toolchain: toolchain.clone(), ..rebuilt }), Verdict::OtherToolchain);
        assert_eq!(lock().judge(&Lock { toolchain, ..lock() }), Verdict::Reproduced);
    }
}
