//! The structure of a demangled name.

/// Groups within groups: deeper names are shown as they are. `cpp_demangle` itself goes 96 deep.
const DEEPEST: usize = 96;

/// A namespace without a name, which is not a group.
pub(super) const ANONYMOUS: &str = "(anonymous namespace)";

/// A part of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Anything else.
    Text(&'a str),
    /// [`ANONYMOUS`].
    Anonymous,
    /// `operator<`, `operator new[]`.
    Operator(&'a str),
    /// Template arguments: `<int, std::allocator<int>>`.
    Arguments(Vec<Vec<Piece<'a>>>),
    /// `<T as Trait>`: a type, not arguments.
    Qualified(Vec<Piece<'a>>),
    /// `(int, char)`.
    Parentheses(Vec<Piece<'a>>),
    /// `{closure#0}`.
    Braces(Vec<Piece<'a>>),
}

/// What opened a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Arguments,
    Qualified,
    Parentheses,
    Braces,
}

/// A group that has not ended.
struct Group<'a> {
    open: Open,
    /// Arguments that have ended.
    ended: Vec<Vec<Piece<'a>>>,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Group<'a> {
    fn new(open: Open) -> Self {
        Self { open, ended: Vec::new(), pieces: Vec::new() }
    }

    fn end(self) -> Piece<'a> {
        let Self { open, mut ended, pieces } = self;
        match open {
            Open::Arguments => {
                ended.push(pieces);
                Piece::Arguments(ended)
            }
            Open::Qualified => Piece::Qualified(pieces),
            Open::Parentheses => Piece::Parentheses(pieces),
            Open::Braces => Piece::Braces(pieces),
        }
    }
}

/// The longest symbols first.
const OPERATORS: [&str; 17] = [
    "<=>",
    "<<=",
    ">>=",
    "->*",
    " new[]",
    " delete[]",
    " new",
    " delete",
    "<<",
    ">>",
    "<=",
    ">=",
    "->",
    "()",
    "<",
    ">",
    ",",
];

/// The pieces of a name; `None` if its brackets do not match, or are too deep.
pub(super) fn parse(name: &str) -> Option<Vec<Piece<'_>>> {
    let mut outer: Vec<Group<'_>> = Vec::new();
    let mut group = Group::new(Open::Qualified);
    // Text from here on is not in a piece yet.
    let mut start = 0;
    let mut at = 0;
    while let Some(next) = name.get(at..)?.chars().next() {
        let rest = name.get(at..)?;
        let before = name.get(..at)?;
        if let Some(operator) = operator(before, rest) {
            flush(&mut group, name.get(start..at)?);
            group.pieces.push(Piece::Operator(rest.get(..operator)?));
            at += operator;
            start = at;
            continue;
        }
        if rest.starts_with("->") {
            at += "->".len();
            continue;
        }
        if rest.starts_with(ANONYMOUS) {
            flush(&mut group, name.get(start..at)?);
            group.pieces.push(Piece::Anonymous);
            at += ANONYMOUS.len();
            start = at;
            continue;
        }
        let open = match next {
            '<' if before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | ']' | '}')) => {
                Some(Open::Arguments)
            }
            // `operator<< <int>`.
            '<' if matches!(group.pieces.last(), Some(Piece::Operator(_)))
                && name.get(start..at)?.trim().is_empty() =>
            {
                Some(Open::Arguments)
            }
            '<' => Some(Open::Qualified),
            '(' => Some(Open::Parentheses),
            '{' => Some(Open::Braces),
            _ => None,
        };
        let closes = match next {
            '>' => matches!(group.open, Open::Arguments | Open::Qualified),
            ')' => group.open == Open::Parentheses,
            '}' => group.open == Open::Braces,
            _ => false,
        };
        let is_comma = next == ',' && group.open == Open::Arguments && !outer.is_empty();
        if open.is_some() || matches!(next, '>' | ')' | '}') || is_comma {
            flush(&mut group, name.get(start..at)?);
            start = at + 1;
        }
        if let Some(open) = open {
            if outer.len() == DEEPEST {
                return None;
            }
            outer.push(std::mem::replace(&mut group, Group::new(open)));
        } else if closes {
            let ended = std::mem::replace(&mut group, outer.pop()?);
            group.pieces.push(ended.end());
        } else if matches!(next, '>' | ')' | '}') {
            return None;
        } else if is_comma {
            group.ended.push(std::mem::take(&mut group.pieces));
        }
        at += next.len_utf8();
    }
    flush(&mut group, name.get(start..)?);
    outer.is_empty().then_some(group.pieces)
}

fn flush<'a>(group: &mut Group<'a>, text: &'a str) {
    if !text.is_empty() {
        group.pieces.push(Piece::Text(text));
    }
}

/// The length of an operator's name that begins here.
fn operator(before: &str, rest: &str) -> Option<usize> {
    let symbol = rest.strip_prefix("operator")?;
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    if before.ends_with(is_part) || symbol.starts_with(is_part) {
        return None;
    }
    let length = OPERATORS.iter().find(|name| symbol.starts_with(**name)).map_or(0, |name| name.len());
    Some("operator".len() + length)
}
