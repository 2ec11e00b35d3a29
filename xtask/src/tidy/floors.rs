//! The floors of the agent: imports point down only, domain and adapters never meet, and the two crates that the
//! rest is shielded from stay in their module.

use super::Finding;
use super::lexer::{Kind, Token, reads};

const AGENT: &str = "memtrace/src/";

/// Top-level modules of the agent. Those of one floor do not know each other.
const FLOORS: [(&str, u8); 20] = [
    ("cli", 5),
    ("tui", 5),
    ("sources", 4),
    ("session", 4),
    ("report", 3),
    ("saved", 3),
    ("analysis", 2),
    ("aggregate", 2),
    ("budget", 2),
    ("heap", 2),
    ("bpf", 2),
    ("target", 2),
    ("allocators", 2),
    ("elf", 2),
    ("kernel", 2),
    ("outfile", 2),
    ("symbolize", 2),
    ("unwind", 2),
    ("model", 1),
    ("profile", 1),
];

/// What may be imported on the same floor: by whom, and what.
const SIDEWAYS: [(&str, &str); 7] = [
    ("sources", "session"),
    ("analysis", "aggregate"),
    ("allocators", "elf"),
    ("bpf", "elf"),
    ("symbolize", "elf"),
    ("target", "elf"),
    ("unwind", "elf"),
];

/// Crates and the only module that may name them, a path below the agent's sources.
const FOREIGN: [(&str, &str); 7] = [
    ("aya", "bpf"),
    ("aya_log", "bpf"),
    ("aya_obj", "bpf"),
    ("addr2line", "symbolize"),
    ("blazesym", "symbolize"),
    ("ratatui", "report/screen"),
    ("signal_hook_registry", "session"),
];

/// Imports of a module that is not below the importing one. `code` is without comments.
pub(super) fn imports(path: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let Some(place) = Place::of(path) else { return Vec::new() };
    // The crate's root names every floor.
    let Some(module) = place.module else { return Vec::new() };
    let Some(floor) = floor(module) else {
        return vec![Finding::new(
            path,
            1,
            format!("module `{module}` has no floor in xtask/src/tidy/floors.rs"),
        )];
    };
    let used = paths_from_root(code, place.depth);
    let message = |used: &str| match self::floor(used) {
        _ if used == module => None,
        None => Some(format!("`crate::{used}` is no module with a floor")),
        Some(below) if below < floor || SIDEWAYS.contains(&(module, used)) => None,
        Some(other) => {
            Some(format!("`{module}` (floor {floor}) uses `{used}` (floor {other}): imports point down"))
        }
    };
    used.iter().filter_map(|used| Some(Finding::new(path, used.line, message(used.text)?))).collect()
}

/// Uses of `FOREIGN` crates outside their module.
pub(super) fn foreign_crates(path: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let Some(within) = path.strip_prefix(AGENT).filter(|path| path.ends_with(".rs")) else {
        return Vec::new();
    };
    let is_in =
        |module: &str| within.strip_prefix(module).is_some_and(|rest| rest.starts_with('/') || rest == ".rs");
    let mut findings = Vec::new();
    for (at, token) in code.iter().enumerate() {
        let foreign = FOREIGN.iter().find(|(name, module)| token.is(name) && !is_in(module));
        if let Some((name, module)) = foreign
            && names_a_crate(code, at)
        {
            findings.push(Finding::new(path, token.line, format!("`{name}` is for {AGENT}{module} only")));
        }
    }
    findings
}

/// Where a file of the agent is in the crate.
struct Place<'a> {
    /// Its top-level module; none for `lib.rs` and `main.rs`.
    module: Option<&'a str>,
    /// How many `super` lead from the file to the crate's root.
    depth: usize,
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix(AGENT)?.strip_suffix(".rs")?;
        if path == "lib" || path == "main" {
            return Some(Self { module: None, depth: 0 });
        }
        let path = path.strip_suffix("/mod").unwrap_or(path);
        Some(Self { module: path.split('/').next(), depth: path.split('/').count() })
    }
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The first segment of every path that starts at the crate's root, be it by `crate::` or by enough `super::`.
fn paths_from_root<'a>(code: &[Token<'a>], depth: usize) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    let mut braces = 0_usize;
    let mut inline_modules = Vec::new();
    let mut at = 0;
    while let Some(token) = code.get(at) {
        if token.is("{") {
            braces += 1;
        } else if token.is("}") {
            inline_modules.pop_if(|opened_at| *opened_at == braces);
            braces = braces.saturating_sub(1);
        } else if token.is("mod") && reads(code, at + 2, &["{"]) {
            inline_modules.push(braces + 1);
        } else if token.is("crate") && reads(code, at + 1, &[":", ":"]) {
            found.extend(segments(code, at + 3));
        } else if token.is("super") {
            let mut supers = 1;
            while reads(code, at + 1, &[":", ":", "super"]) {
                supers += 1;
                at += 3;
            }
            if supers >= depth + inline_modules.len() && reads(code, at + 1, &[":", ":"]) {
                found.extend(segments(code, at + 3));
            }
        }
        at += 1;
    }
    found
}

/// The segment at `at`, or the first ones of the group at `at`.
fn segments<'a>(code: &[Token<'a>], at: usize) -> Vec<Token<'a>> {
    if !reads(code, at, &["{"]) {
        return code.get(at).copied().into_iter().collect();
    }
    let (mut found, mut depth, mut first) = (Vec::new(), 0_usize, false);
    for token in code.iter().skip(at) {
        if token.is("{") {
            depth += 1;
            first = depth == 1;
        } else if token.is("}") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                break;
            }
        } else if token.is(",") {
            first = depth == 1;
        } else if first {
            found.push(*token);
            first = false;
        }
    }
    found
}

/// Is the identifier at `at` a crate's name: the first segment of a path, or all of a `use`?
fn names_a_crate(code: &[Token<'_>], at: usize) -> bool {
    let before = |distance: usize| at.checked_sub(distance).and_then(|at| code.get(at));
    let is_before = |distance: usize, text: &str| before(distance).is_some_and(|token| token.is(text));
    let after_colons = is_before(1, ":") && is_before(2, ":");
    // `::aya` has colons too, but no name before them.
    let keywords = ["use", "as", "dyn", "for", "impl", "in", "mut", "return"];
    let name = |token: &Token<'_>| token.kind == Kind::Ident && !keywords.contains(&token.text);
    let within_path = after_colons && before(3).is_some_and(name);
    let keyword = is_before(1, "use") || is_before(1, "crate");
    !within_path && (reads(code, at + 1, &[":", ":"]) || keyword)
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn uses(path: &str, source: &str) -> usize {
        imports(path, &tokens(source)).len()
    }

    fn foreign(path: &str, source: &str) -> usize {
        foreign_crates(path, &tokens(source)).len()
    }

    #[test]
    fn imports_point_down() {
        assert_eq!(uses("memtrace/src/session/mod.rs", "use crate::{bpf::Loader, model::*, report};"), 0);
        assert_eq!(uses("memtrace/src/cli.rs", "fn f() { crate::session::run(); }"), 0);
        assert_eq!(uses("memtrace/src/report/text.rs", "use crate::session::Source;"), 1);
        assert_eq!(uses("memtrace/src/model/mod.rs", "use crate::{bpf::{self, cli}, model::Stack};"), 1);
        assert_eq!(
            uses("memtrace/src/model/mod.rs", "fn f() -> crate::cli::Args { $crate::session::x!() }"),
            2
        );
    }

    #[test]
    fn neighbours_meet_only_where_it_is_allowed() {
        assert_eq!(uses("memtrace/src/analysis.rs", "use crate::aggregate::Row;"), 0);
        assert_eq!(uses("memtrace/src/aggregate.rs", "use crate::analysis::Trend;"), 1);
        assert_eq!(uses("memtrace/src/bpf/attach.rs", "use crate::bpf::maps; use crate::elf::Image;"), 0);
        assert_eq!(uses("memtrace/src/elf/mod.rs", "use crate::unwind::Row;"), 1);
        assert_eq!(uses("memtrace/src/symbolize/mod.rs", "use crate::target::Maps;"), 1);
        assert_eq!(uses("memtrace/src/analysis.rs", "use crate::elf::Image;"), 1);
        assert_eq!(uses("memtrace/src/bpf/mod.rs", "use crate::aggregate::Row;"), 1);
    }

    #[test]
    fn super_leads_to_the_root_as_well() {
        assert_eq!(uses("memtrace/src/model/probe.rs", "use super::units; use super::super::cli::Args;"), 1);
        assert_eq!(uses("memtrace/src/model/mod.rs", "use super::{cli, bpf::Loader};"), 2);
        assert_eq!(uses("memtrace/src/elf.rs", "mod tests { use super::session; } use super::session;"), 1);
        assert_eq!(uses("memtrace/src/elf.rs", "mod tests { use super::super::session; }"), 1);
    }

    #[test]
    fn only_modules_with_a_floor_exist() {
        assert_eq!(uses("memtrace/src/util.rs", ""), 1);
        assert_eq!(uses("memtrace/src/elf.rs", "use crate::Helper; use crate::*;"), 2);
        assert_eq!(uses("memtrace/src/lib.rs", "pub use crate::cli::main;"), 0);
        assert_eq!(uses("memtrace-common/src/util.rs", "use crate::session::x;"), 0);
    }

    #[test]
    fn text_and_visibility_are_no_imports() {
        assert_eq!(uses("memtrace/src/elf.rs", "pub(crate) fn f() -> &str { \"crate::session::x\" }"), 0);
    }

    #[test]
    fn foreign_crates_stay_in_their_module() {
        for source in
            ["use aya::Ebpf;", "use ::aya_log::x;", "fn f(e: &aya_obj::Object)", "use {aya::maps, std::fs};"]
        {
            assert_eq!(foreign("memtrace/src/bpf/mod.rs", source), 0, "{source}");
            assert_eq!(foreign("memtrace/src/sources/process.rs", source), 1, "{source}");
            assert_eq!(foreign("memtrace/src/lib.rs", source), 1, "{source}");
        }
        assert_eq!(foreign("memtrace/src/session.rs", "use aya; extern crate aya as a;"), 2);
        assert_eq!(foreign("memtrace/src/symbolize/mod.rs", "use blazesym::Pid; use aya::Pod;"), 1);
    }

    #[test]
    fn a_crate_may_be_for_a_part_of_a_module() {
        assert_eq!(foreign("memtrace/src/report/screen/draw.rs", "use ratatui::buffer::Buffer;"), 0);
        assert_eq!(foreign("memtrace/src/report/text/mod.rs", "use ratatui::buffer::Buffer;"), 1);
        assert_eq!(foreign("memtrace/src/report/screens.rs", "use ratatui::buffer::Buffer;"), 1);
        assert_eq!(
            foreign("memtrace/src/session/signals.rs", "unsafe { signal_hook_registry::register(1) }"),
            0
        );
    }

    #[test]
    fn names_that_only_look_like_the_crate_are_fine() {
        let source = "let aya = model::aya::X; f(aya); // aya::Ebpf\n\"aya::Ebpf\"; aya_tool::x();";
        let code: Vec<_> = tokens(source).into_iter().filter(|token| token.kind != Kind::Comment).collect();
        assert_eq!(foreign_crates("memtrace/src/session.rs", &code), []);
        assert_eq!(foreign("memtrace-common/src/lib.rs", "unsafe impl aya::Pod for S {}"), 0);
    }
}
