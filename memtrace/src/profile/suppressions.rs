//! Which leaks are known: suppressions in the form of `LeakSanitizer`.

use std::fmt;

use super::{Amount, Frame};

/// The most bytes of a file of suppressions.
pub const MAX_SUPPRESSIONS: u64 = 1 << 20;

/// The most patterns of a file.
const MAX_PATTERNS: usize = 10_000;

/// The most bytes of a pattern.
const MAX_PATTERN: usize = 4096;

/// What a line begins with.
const PREFIX: &str = "leak:";

/// The patterns of a file, and how much each has suppressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    patterns: Vec<(Pattern, Amount)>,
}

/// A line that is no suppression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSuppression {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Kind(String),
    Empty,
    Long,
    Many,
}

impl fmt::Display for InvalidSuppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.problem {
            Problem::Kind(line) => write!(
                f,
                "{line:?} is no suppression: a line is `leak:PATTERN`, a comment that begins with #, or empty"
            ),
            Problem::Empty => {
                f.write_str("no pattern behind `leak:`: it would match everything (`leak:*` does)")
            }
            Problem::Long => write!(f, "the pattern is longer than {MAX_PATTERN} bytes"),
            Problem::Many => write!(f, "more than {MAX_PATTERNS} patterns"),
        }
    }
}

impl std::error::Error for InvalidSuppression {}

impl Suppressions {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// A line is none of the three kinds, or there are too many or too long ones.
    pub fn parse(text: &str) -> Result<Self, InvalidSuppression> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let invalid = |problem| InvalidSuppression { line: number + 1, problem };
            let line = line.trim_matches([' ', '\t', '\r']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(pattern) = line.strip_prefix(PREFIX) else {
                return Err(invalid(Problem::Kind(line.chars().take(80).collect())));
            };
            if pattern.is_empty() {
                return Err(invalid(Problem::Empty));
            }
            if pattern.len() > MAX_PATTERN {
                return Err(invalid(Problem::Long));
            }
            if patterns.len() == MAX_PATTERNS {
                return Err(invalid(Problem::Many));
            }
            patterns.push((Pattern::new(pattern), Amount::default()));
        }
        Ok(Self { patterns })
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Forgets how much was suppressed.
    pub fn reset(&mut self) {
        self.patterns.iter_mut().for_each(|(_, amount)| *amount = Amount::default());
    }

    /// Adds the patterns of another file behind these.
    pub fn extend(&mut self, other: Self) {
        self.patterns.extend(other.patterns);
    }

    /// Whether what a stack has lost is suppressed, which is counted then: by the first pattern of the file that matches
    /// the innermost frame that any matches, by its module, function or source file.
    pub fn suppress(&mut self, frames: &[Frame<'_>], lost: Amount) -> bool {
        for frame in frames {
            for name in [Some(frame.module), frame.function, frame.file].into_iter().flatten() {
                let found = self.patterns.iter_mut().find(|(pattern, _)| pattern.matches(name));
                if let Some((_, suppressed)) = found {
                    *suppressed = suppressed.plus(lost);
                    return true;
                }
            }
        }
        false
    }

    /// The patterns that have suppressed something, in the order of the file, and how much.
    pub fn used(&self) -> impl Iterator<Item = (&str, Amount)> {
        let used = self.patterns.iter().filter(|(_, amount)| amount.blocks > 0);
        used.map(|(pattern, amount)| (pattern.text.as_str(), *amount))
    }
}

/// A pattern: `*` stands for any characters, `^` at the beginning for the beginning of the name, `$` for its end. Without
/// them it may be anywhere in the name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    /// Whether it matches a name, decided as `LeakSanitizer` does: each part is looked for once, where it first occurs
    /// behind the one before, so `foo$` does not match `foofoo`, but `*foo$` does not either. A `$` behind a `*` is met
    /// everywhere; what follows a `$` has no meaning. An empty name is matched by nothing.
    fn matches(&self, name: &str) -> bool {
        if name.is_empty() {
            return false;
        }
        let (mut is_start, mut rest) = match self.text.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, self.text.as_str()),
        };
        let (mut name, mut is_behind_star) = (name, false);
        while let Some(first) = rest.chars().next() {
            match first {
                '*' => {
                    (is_start, is_behind_star) = (false, true);
                    rest = rest.strip_prefix('*').unwrap_or_default();
                }
                '$' => return name.is_empty() || is_behind_star,
                _ => {
                    let (part, behind) = rest.split_at(rest.find(['*', '$']).unwrap_or(rest.len()));
                    let Some((before, after)) = name.split_once(part) else { return false };
                    if is_start && !before.is_empty() {
                        return false;
                    }
                    (name, rest, is_start, is_behind_star) = (after, behind, false, false);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_PATTERNS, Pattern, Suppressions};
    use crate::profile::{Amount, Frame};

    /// By the function of compiler-rt, compiled, for the same pairs.
    #[test]
    fn patterns_match_as_those_of_leak_sanitizer() {
        for (pattern, name, matches) in [
            ("foo", "foo", true),
            ("foo", "a::foobar(int)", true),
            ("foo", "fo", false),
            ("foo", "", false),
            ("*", "", false),
            ("*", "x", true),
            ("^foo", "foobar", true),
            ("^foo", "afoo", false),
            ("foo$", "afoo", true),
            ("foo$", "foob", false),
            ("foo$", "foofoo", false),
            ("*foo$", "foofoo", false),
            ("foo*$", "foofoo", true),
            ("^foo$", "foo", true),
            ("^foo$", "foo1", false),
            ("^*foo", "afoo", true),
            ("^a*z$", "abcz", true),
            ("^a*z$", "azcz", false),
            ("a*b*c", "xaybzc!", true),
            ("a*b*c", "cba", false),
            ("a**b", "ab", true),
            ("^", "x", true),
            ("$", "x", false),
            ("a$b", "a", true),
            ("a$b", "a$b", false),
            ("a^b", "a^b", true),
            ("foo*", "foo", true),
            ("foo*x", "foo", false),
            ("ü*ß", "aüöß", true),
            ("f(char*)", "f(char*)", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }

    fn frame<'a>(function: Option<&'a str>, module: &'a str, file: Option<&'a str>) -> Frame<'a> {
        Frame { function, function_offset: 0, module, module_offset: 0, file, line: None, inlined: false }
    }

    #[test]
    fn functions_files_and_modules_are_matched_and_counted() {
        let text = "# known\n\n  leak:libfoo.so \r\n\tleak:^cache_\nleak:third party/*.c\nleak:unused\n";
        let mut suppressions = Suppressions::parse(text).unwrap();
        let lost = |bytes, blocks| Amount { bytes, blocks };
        let main = frame(Some("main"), "/bin/app", Some("src/main.c"));
        let foo = frame(None, "/usr/lib/libfoo.so", None);
        let cache = frame(Some("cache_add"), "/bin/app", None);
        let third = frame(Some("parse"), "/bin/app", Some("/src/third party/json.c"));
        assert!(suppressions.suppress(&[foo, main], lost(10, 1)));
        assert!(suppressions.suppress(&[cache, foo, main], lost(20, 2)));
        assert!(suppressions.suppress(&[main, cache], lost(1, 1)));
        assert!(suppressions.suppress(&[third], lost(3, 1)));
        assert!(!suppressions.suppress(&[main], lost(5, 1)));
        assert!(!suppressions.suppress(&[], lost(5, 1)));
        let used: Vec<_> = suppressions.used().collect();
        let third = "third party/*.c";
        assert_eq!(used, [("libfoo.so", lost(10, 1)), ("^cache_", lost(21, 3)), (third, lost(3, 1))]);
    }

    #[test]
    fn other_lines_are_refused_by_number() {
        let refused = |text: &str| Suppressions::parse(text).unwrap_err().to_string();
        assert!(refused("leak:a\nrace:b\n").starts_with("line 2: \"race:b\" is no suppression"));
        assert!(refused("{\n   name\n").starts_with("line 1: "));
        assert!(refused("\nleak: \n").starts_with("line 2: no pattern"));
        assert!(refused(&format!("leak:{}", "a".repeat(5000))).contains("longer than"));
        assert!(refused(&"leak:a\n".repeat(MAX_PATTERNS + 1)).starts_with("line 10001: more than"));
        assert!(refused("leak\u{1b}[2J").contains("\\u{1b}"));
        assert_eq!(Suppressions::parse(""), Ok(Suppressions::default()));
        assert_eq!(Suppressions::parse("#leak:a\n# x"), Ok(Suppressions::default()));
    }
}
