//! Just enough of Rust's lexical structure to tell code from comments and literals.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Identifier or keyword, without `r#`.
    Ident,
    /// One character of punctuation.
    Punct,
    /// String, character, number or lifetime.
    Literal,
    /// Line or block comment, documentation included.
    Comment,
}

/// One token of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Line of its first character, from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    /// Is it this identifier or this punctuation?
    pub(super) fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Ident | Kind::Punct) && self.text == text
    }
}

/// Do the tokens from `at` on read like this?
pub(super) fn reads(tokens: &[Token<'_>], at: usize, expected: &[&str]) -> bool {
    tokens
        .get(at..)
        .is_some_and(|rest| rest.len() >= expected.len() && rest.iter().zip(expected).all(|(t, e)| t.is(e)))
}

/// The tokens of a source text; text that is no Rust yields some tokens too.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (kind, length) = measure(rest, first);
        // A literal that never ends runs to the end of the file.
        let (text, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if let Some(kind) = kind {
            let text = text.strip_prefix("r#").filter(|_| kind == Kind::Ident).unwrap_or(text);
            tokens.push(Token { kind, text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Kind and length in bytes of what the text starts with; no kind for white space.
fn measure(text: &str, first: char) -> (Option<Kind>, usize) {
    if first.is_whitespace() {
        return (None, first.len_utf8());
    }
    if text.starts_with("//") {
        return (Some(Kind::Comment), text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Some(Kind::Comment), block_comment(text));
    }
    if let Some(length) = string(text) {
        return (Some(Kind::Literal), length);
    }
    if first == '\'' {
        return (Some(Kind::Literal), character_or_lifetime(text));
    }
    if first.is_ascii_digit() {
        return (Some(Kind::Literal), number(text));
    }
    if let Some(raw) = text.strip_prefix("r#").map(word).filter(|length| *length > 0) {
        return (Some(Kind::Ident), 2 + raw);
    }
    match word(text) {
        0 => (Some(Kind::Punct), first.len_utf8()),
        length => (Some(Kind::Ident), length),
    }
}

fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `"…"`, `r#"…"#` and their `b` and `c` variants.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            rest.trim_start_matches(if prefix.ends_with('r') { "#" } else { "\0" }).starts_with('"')
        })
    })?;
    let body = text.get(prefix.len()..)?;
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        let length = text.get(start..)?.find(&end).map_or(text.len(), |at| start + at + end.len());
        return Some(length);
    }
    Some(prefix.len() + quoted(body, '"'))
}

/// Length of a quoted text with backslash escapes, from its opening quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// `'a'`, `'\n'`, or `'a` without an end.
fn character_or_lifetime(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    if first == Some('\\') || second == Some('\'') {
        return quoted(text, '\'');
    }
    1 + text.get(1..).map_or(0, word)
}

fn number(text: &str) -> usize {
    let whole = word(text);
    let fraction = text.get(whole..).and_then(|rest| rest.strip_prefix('.'));
    match fraction {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => whole + 1 + word(rest),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str, kind: Kind) -> Vec<&str> {
        tokens(source).iter().filter(|token| token.kind == kind).map(|token| token.text).collect()
    }

    #[test]
    fn code_is_told_from_comments_and_literals() {
        let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" r#\"i \" j\"# b\"k\" br\"l\\\" c\"m\" 'n' '\\'' b'o' r#p";
        assert_eq!(texts(source, Kind::Ident), ["a", "e", "b", "p"]);
        assert_eq!(texts(source, Kind::Comment), ["/* b /* c */ d */", "// f"]);
        assert_eq!(texts(source, Kind::Literal).len(), 8);
    }

    #[test]
    fn lifetimes_numbers_and_ranges_end_where_they_should() {
        assert_eq!(
            texts("fn f<'a>(x: &'a str) { 1.0.max(2.5); 0..x; 1.min(3) }", Kind::Literal),
            ["'a", "'a", "1.0", "2.5", "0", "1", "3"]
        );
        assert!(texts("'é' é", Kind::Ident) == ["é"]);
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let tokens = tokens("\"a\nb\"\n/*\n*/ x");
        assert_eq!(tokens.last().map(|token| token.line), Some(4));
    }

    #[test]
    fn unfinished_text_ends_with_the_file() {
        for source in ["\"abc", "r#\"abc\"", "/* a /* */", "'\\", "'", "b'", "1.", "r#"] {
            assert!(tokens(source).iter().all(|token| !token.text.is_empty()), "{source}");
        }
    }
}
