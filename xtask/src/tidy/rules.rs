//! The house rules that hold for a file by itself.

use super::Finding;
use super::lexer::Token;

/// A longer file is asking to be split.
const MAX_LINES: usize = 400;
/// Where tidy looks for panics: stable clippy refuses the features used there. There are no tests in it.
const KERNEL_SIDE: &str = "memtrace-ebpf/src/";
/// Methods that panic on an unexpected value.
const METHODS: [&str; 4] = ["unwrap", "unwrap_err", "expect", "expect_err"];
/// Macros that panic.
const MACROS: [&str; 4] = ["panic", "todo", "unimplemented", "unreachable"];
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

/// What panics in the kernel side. `code` is without comments.
pub(super) fn panics(path: &str, code: &[Token<'_>]) -> Vec<Finding> {
    if !path.starts_with(KERNEL_SIDE) {
        return Vec::new();
    }
    let panicking = |pair: &[Token<'_>]| {
        let [first, second] = pair else { return None };
        // As a path too: `map(Option::unwrap)`.
        let method = (first.is(".") || first.is(":")) && METHODS.iter().any(|name| second.is(name));
        let named = second.is("!") && MACROS.iter().any(|name| first.is(name));
        let token = if named { first } else { second };
        (method || named).then(|| Finding::new(path, token.line, format!("`{}` can panic", token.text)))
    };
    code.windows(2).filter_map(panicking).collect()
}

/// Paths of a developer's machine, in text and in objects.
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
    fn panics_are_found_in_the_kernel_side() {
        let source =
            "a.unwrap();\nb.expect(\"c\");\npanic!(\"d\");\ne.map(Option::unwrap);\nf.unwrap_err();\ntodo!()";
        assert_eq!(panicking("memtrace-ebpf/src/main.rs", source), [1, 2, 3, 4, 5, 6]);
        assert_eq!(panicking("memtrace/src/elf.rs", source), [0; 0]);
    }

    #[test]
    fn names_that_only_look_like_panics_are_fine() {
        let source = "#[expect(x)] fn f() { a.unwrap_or(b); unwrap(c); core::panic::x(d); \".unwrap()\" }
            #[panic_handler] fn panic(i: &I) -> ! { loop {} }";
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
