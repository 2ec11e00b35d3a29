//! The house rules that hold for a file by itself.

use super::Finding;
use super::lexer::{Kind, Token, reads};
use super::test_code;

/// A longer file is asking to be split.
const MAX_LINES: usize = 400;
/// Where nothing may panic: in the agent of somebody's production machine, and in its kernel.
const NO_PANICS: [&str; 2] = ["memtrace/src/", "memtrace-ebpf/src/"];
/// Words that promise work, which an issue has to keep track of.
const REMINDERS: [&str; 2] = ["TODO", "FIXME"];
/// Directories that exist on one machine only.
const PERSONAL: [&str; 2] = ["/home/", "/root/"];

/// The file is too long.
pub(super) fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    (lines > MAX_LINES)
        .then(|| Finding::new(path, MAX_LINES + 1, format!("{lines} lines, more than {MAX_LINES}")))
}

/// Reminders without an issue, in the comments of a Rust file.
pub(super) fn reminders_in_comments(path: &str, comments: &[Token<'_>]) -> Vec<Finding> {
    comments.iter().flat_map(|comment| reminders(path, comment.text, comment.line)).collect()
}

/// Reminders without an issue, anywhere in another file; prose may speak about them.
pub(super) fn reminders_in_text(path: &str, text: &str) -> Vec<Finding> {
    if path.ends_with(".md") { Vec::new() } else { reminders(path, text, 1) }
}

fn reminders(path: &str, text: &str, first_line: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let reminder = words.find_map(|word| REMINDERS.iter().find(|reminder| **reminder == word));
        if let Some(reminder) = reminder
            && !names_an_issue(line)
        {
            let message = format!("{reminder} without the number of an issue");
            findings.push(Finding::new(path, first_line + at, message));
        }
    }
    findings
}

/// Does the line hold `#` and a number?
fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

/// Code that was left for later.
pub(super) fn unfinished(path: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let macros = ["todo", "unimplemented"];
    let found = code
        .iter()
        .enumerate()
        .filter(|(at, token)| macros.iter().any(|name| token.is(name)) && reads(code, at + 1, &["!"]));
    found.map(|(_, token)| Finding::new(path, token.line, format!("`{}!`", token.text))).collect()
}

/// What panics on an unexpected value, outside of tests and of the panic handler. `code` is without comments.
pub(super) fn panics(path: &str, code: &[Token<'_>]) -> Vec<Finding> {
    if !NO_PANICS.iter().any(|directory| path.starts_with(directory)) {
        return Vec::new();
    }
    let exempt = test_code::exempt(code);
    let mut findings = Vec::new();
    for (at, (token, exempt)) in code.iter().zip(exempt).enumerate() {
        if exempt || token.kind != Kind::Ident {
            continue;
        }
        let follows = |text| at.checked_sub(1).is_some_and(|before| reads(code, before, &[text]));
        let method = match token.text {
            // As a path: `map(Option::unwrap)`.
            "unwrap" | "unwrap_err" | "expect" | "expect_err" => {
                follows(".") && reads(code, at + 1, &["("]) || follows(":")
            }
            _ => false,
        };
        if method {
            findings.push(Finding::new(
                path,
                token.line,
                format!("`{}` can panic: return an error", token.text),
            ));
        } else if token.text == "panic" && reads(code, at + 1, &["!"]) {
            findings.push(Finding::new(path, token.line, "`panic!`: return an error"));
        }
    }
    findings
}

/// Paths of the machine somebody worked on, in text and in objects.
pub(super) fn absolute_paths(path: &str, bytes: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        for personal in PERSONAL {
            if holds_path(line, personal.as_bytes()) {
                findings.push(Finding::new(path, at + 1, format!("a path below {personal}")));
            }
        }
    }
    findings
}

/// Is there a path that starts with `prefix` and goes on? `/proc/1/root/…` does not start with it.
fn holds_path(line: &[u8], prefix: &[u8]) -> bool {
    let in_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.~$*{}<>)]".contains(byte);
    line.windows(prefix.len()).enumerate().any(|(at, window)| {
        window == prefix
            && !at.checked_sub(1).and_then(|before| line.get(before)).is_some_and(in_path)
            && line
                .get(at + prefix.len())
                .is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn panicking(path: &str, source: &str) -> Vec<usize> {
        panics(path, &tokens(source)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(length("a.rs", &"x\n".repeat(400)), None);
        assert_eq!(length("a.rs", &"x\n".repeat(401)).map(|finding| finding.line), Some(401));
    }

    #[test]
    fn reminders_need_an_issue() {
        let lines = |source: &str| {
            reminders_in_comments("a.rs", &tokens(source))
                .iter()
                .map(|finding| finding.line)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines("fn f() {}\n/* a\n TODO: b\n */\n// FIXME c"), [3, 5]);
        assert_eq!(lines("// TODO(#12): b\n// TODO #7\n// TODOs, METODO, TODO_LIST"), [0; 0]);
        assert_eq!(lines("// TODO # 12"), [1]);
        assert_eq!(reminders_in_text("run", "x\n# TODO y").len(), 1);
        assert_eq!(reminders_in_text("README.md", "no TODO").len(), 0);
    }

    #[test]
    fn unfinished_code_is_found() {
        let found = unfinished(
            "a.rs",
            &tokens("fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\nlet todo = 1;"),
        );
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn panics_are_found_where_they_hurt() {
        let source = "a.unwrap();\nb.expect(\"c\");\npanic!(\"d\");\ne.map(Option::unwrap);\nf.unwrap_err();";
        assert_eq!(panicking("memtrace/src/elf.rs", source), [1, 2, 3, 4, 5]);
        assert_eq!(panicking("memtrace-ebpf/src/main.rs", source), [1, 2, 3, 4, 5]);
        for path in ["xtask/src/main.rs", "tests/src/lib.rs", "memtrace/build.rs"] {
            assert_eq!(panicking(path, source), [0; 0], "{path}");
        }
    }

    #[test]
    fn names_that_only_look_like_panics_are_fine() {
        let source =
            "#[expect(x)] fn f() { a.unwrap_or(b); unwrap(c); std::panic::catch(d); e.expect; \".unwrap()\" }
            #[cfg(test)] mod tests { fn g() { h.unwrap() } }
            #[panic_handler] fn panic(i: &I) -> ! { panic!() }";
        assert_eq!(panicking("memtrace-ebpf/src/main.rs", source), [0; 0]);
    }

    #[test]
    fn personal_paths_are_found() {
        let found = |line: &str| absolute_paths("a", line.as_bytes()).len();
        for path in [concat!("/ho", "me/me"), concat!("/ro", "ot/.cargo")] {
            assert_eq!(found(path), 1);
            assert_eq!(found(&format!("x\n(\"{path}\")")), 1);
            assert_eq!(found(&format!("--out={path}")), 1);
            assert_eq!(found(&format!("/proc/{{pid}}{path}")), 0);
            assert_eq!(found(&format!("/proc/12{path} <pid>{path} $ROOT{path}")), 0);
        }
        assert_eq!(found("the directory /home/ and /root/, or /rooted"), 0);
    }
}
