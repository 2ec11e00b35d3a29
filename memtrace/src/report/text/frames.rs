//! The frames of a stack: short names, with what is not the program's own folded.

use std::fmt;
use std::io::{self, Write};

use super::style::{DIM, Style};
use crate::profile::Frame;
use crate::report::blame::{Part, culprit, folded};
use crate::report::escape::{escape, short};
use crate::report::names::{elided, shorten};

/// Frames of a library in a row from which on they are one line.
const FOLDED: usize = 3;

/// Characters of names that are aligned; longer ones stand out of the line.
const ALIGNED: usize = 44;

/// Frames that share a line.
#[derive(Clone, Copy)]
enum Line<'a> {
    /// One frame, and whether it is to blame.
    Frame(&'a Frame<'a>, bool),
    /// So many of a library or a runtime, of which these are.
    Library(&'a [Frame<'a>], Part),
    /// So many that there is no room for.
    Others(usize),
}

impl Line<'_> {
    fn frames(&self) -> usize {
        match self {
            Self::Frame(..) => 1,
            Self::Library(frames, _) => frames.len(),
            Self::Others(frames) => *frames,
        }
    }
}

/// Writes frames, innermost first, in at most `most` lines. A `>` marks the one to blame.
pub(super) fn write(out: &mut dyn Write, frames: &[Frame<'_>], style: &Style, most: usize) -> io::Result<()> {
    if style.full_names {
        return frames.iter().try_for_each(|frame| whole(out, frame, style));
    }
    let lines = cut(&lines(frames), most);
    let room = style.line().saturating_sub("  > ".len());
    let shown: Vec<(String, Option<String>)> = lines.iter().map(|line| texts(line, room)).collect();
    let column = shown.iter().filter(|(_, place)| place.is_some()).map(|(name, _)| name.chars().count());
    let column = column.filter(|width| *width <= ALIGNED).max().unwrap_or(0);
    for (line, (name, place)) in lines.iter().zip(&shown) {
        let mark = if matches!(line, Line::Frame(_, true)) { "  > " } else { "    " };
        match (line, place) {
            (Line::Frame(..), Some(place)) => {
                let gap = column.saturating_sub(name.chars().count());
                writeln!(out, "{mark}{name}{:gap$}  {}", "", style.paint(DIM, place))?;
            }
            (Line::Frame(..), None) => writeln!(out, "{mark}{name}")?,
            _ => writeln!(out, "{mark}{}", style.paint(DIM, name))?,
        }
    }
    Ok(())
}

/// A frame in one line: the function and its place, or the file and the offset there.
pub(in crate::report) fn one_line(frame: &Frame<'_>, most: usize) -> String {
    match texts(&Line::Frame(frame, true), most) {
        (name, Some(place)) => format!("{name}  {place}"),
        (name, None) => name,
    }
}

/// The lines of a stack without the frames that start a program or a thread.
fn lines<'a>(frames: &'a [Frame<'a>]) -> Vec<Line<'a>> {
    let parts: Vec<Part> = Part::all(frames).collect();
    let blamed = culprit(frames);
    let kept = before_startup(frames, &parts).max(blamed.map_or(0, |blamed| blamed + 1));
    let kept = parts.get(..kept).unwrap_or_default();
    let mut lines = Vec::new();
    let mut at = 0;
    while let (Some(part), Some(frame)) = (kept.get(at), frames.get(at)) {
        let is_alike = |other: &&Part| match part {
            Part::Runtime => **other == Part::Runtime,
            Part::Library | Part::Startup => matches!(other, Part::Library | Part::Startup),
            Part::Allocator | Part::Code => false,
        };
        let run = kept.iter().skip(at).take_while(is_alike).count();
        match frames.get(at..at + run).filter(|_| run >= FOLDED) {
            Some(run) if !blamed.is_some_and(|blamed| (at..at + run.len()).contains(&blamed)) => {
                lines.push(Line::Library(run, *part));
                at += run.len();
            }
            _ => {
                lines.push(Line::Frame(frame, blamed == Some(at)));
                at += 1;
            }
        }
    }
    lines
}

/// How many frames there are before those that start the program or the thread; all, if there are only such.
fn before_startup(frames: &[Frame<'_>], parts: &[Part]) -> usize {
    let mut kept = parts.len();
    let mut has_begun = false;
    while let Some((part, frame)) = kept.checked_sub(1).and_then(|last| parts.get(last).zip(frames.get(last)))
    {
        let starts = match part {
            Part::Startup => true,
            // A closure's wrapper, and the `main` of C that calls that of Rust.
            Part::Library => has_begun,
            Part::Code => {
                let inner = kept.checked_sub(2).and_then(|inner| parts.get(inner));
                frame.function == Some("main") && inner == Some(&Part::Startup)
            }
            Part::Allocator | Part::Runtime => false,
        };
        if !starts {
            break;
        }
        has_begun = true;
        kept -= 1;
    }
    if kept == 0 { parts.len() } else { kept }
}

/// At most `most` lines: the innermost, those around the one to blame, and the outermost.
fn cut<'a>(lines: &[Line<'a>], most: usize) -> Vec<Line<'a>> {
    let most = most.max(5);
    if lines.len() <= most {
        return lines.to_vec();
    }
    let blamed = lines.iter().position(|line| matches!(line, Line::Frame(_, true))).unwrap_or(0);
    let rest = |from: usize, to: usize| {
        let left_out = lines.get(from..to).unwrap_or_default();
        Line::Others(left_out.iter().map(Line::frames).sum())
    };
    let last = lines.len() - 1;
    let mut shown = Vec::with_capacity(most);
    // One line for what is left out, and the last.
    let mut from = 0;
    if blamed > most - 3 {
        shown.extend(lines.first());
        shown.push(rest(1, blamed));
        from = blamed;
    }
    let to = (from + most - 2 - shown.len()).min(last);
    shown.extend(lines.get(from..to).unwrap_or_default());
    if to < last {
        shown.push(rest(to, last));
    }
    shown.extend(lines.last());
    shown
}

/// What a line says: a name and, for a function, its place; together at most `room` characters.
fn texts(line: &Line<'_>, room: usize) -> (String, Option<String>) {
    let frame = match line {
        Line::Frame(frame, _) => frame,
        Line::Library(frames, part) => {
            let of = folded(*part, frames);
            return (format!("… {} frames of {}", frames.len(), escape(&shorten(&of, room / 2))), None);
        }
        Line::Others(frames) => {
            let noun = if *frames == 1 { "frame" } else { "frames" };
            return (format!("… {frames} more {noun} (--full-names)"), None);
        }
    };
    let Some(function) = frame.function else { return (short(&Place(frame).to_string()), None) };
    let place = match (frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{}:{line}", tail(&escape(file), room / 2)),
        (Some(file), None) => tail(&escape(file), room / 2),
        (None, _) => {
            format!("({})", tail(&escape(frame.file_name()), room / 2))
        }
    };
    let most = room.saturating_sub(place.chars().count() + 2);
    // Escapes make a name longer.
    let name = elided(&escape(&shorten(function, most)), most).into_owned();
    (name, Some(place))
}

/// The end of a path, from a directory on, of about `most` characters.
fn tail(path: &str, most: usize) -> String {
    let length = path.chars().count();
    if length <= most {
        return path.to_owned();
    }
    let cut: String = path.chars().skip(length - most.saturating_sub(2).max(8)).collect();
    let from = cut.find('/').unwrap_or(0);
    format!("…{}", cut.get(from..).unwrap_or_default())
}

/// A frame with everything that is known of it.
fn whole(out: &mut dyn Write, frame: &Frame<'_>, style: &Style) -> io::Result<()> {
    let Some(function) = frame.function else { return writeln!(out, "    {}", Place(frame)) };
    write!(out, "    {}", escape(function))?;
    if frame.inlined {
        write!(out, " [inlined]")?;
    }
    if let Some(file) = frame.file {
        write!(out, "  {}", escape(file))?;
        if let Some(line) = frame.line {
            write!(out, ":{line}")?;
        }
    }
    writeln!(out, "  {}", style.paint(DIM, format_args!("({})", Place(frame))))
}

/// Where a frame is in its file, escaped.
struct Place<'a>(&'a Frame<'a>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { module, module_offset, .. } = self.0;
        let module = if module.is_empty() { "[unknown]" } else { module };
        write!(f, "{}+{module_offset:#x}", escape(module))
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, write};
    use crate::profile::Frame;
    use crate::report::tests::named;

    fn frame<'a>(function: &'a str, place: Option<(&'a str, u32)>) -> Frame<'a> {
        let (file, line) = place.unzip();
        Frame { module_offset: 0x4f0, file, line, ..named(function, "/srv/app") }
    }

    fn shown(frames: &[Frame<'_>], width: usize, most: usize) -> String {
        let mut out = Vec::new();
        write(&mut out, frames, &Style { width: Some(width), ..Style::default() }, most).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn libraries_fold_and_starts_are_left_out() {
        let list = "std::__cxx11::list<int, std::allocator<int> >";
        let push = format!("{list}::push_back(int const&)");
        let frames = [
            frame("operator new(unsigned long)", None),
            frame(
                "std::__new_allocator<int>::allocate(unsigned long, void const*)",
                Some(("/usr/include/a.h", 1)),
            ),
            frame("std::_List_base::_M_get_node()", Some(("/usr/include/b.h", 2))),
            frame(&push, Some(("/usr/include/c.h", 3))),
            frame("keep(int)", Some(("/build/src/very/long/path/of/directories/keep.cc", 15))),
            frame("main", Some(("src/main.cc", 20))),
            frame("__libc_start_call_main", None),
            frame("_start", None),
        ];
        insta::assert_snapshot!(shown(&frames, 60, 8), @r"
          operator new(unsigned long)  (app)
          … 3 frames of std::list
        > keep(int)                    …/of/directories/keep.cc:15
          main                         src/main.cc:20
        ");
    }

    #[test]
    fn a_thread_of_rust_ends_with_its_closure() {
        let frames = [
            "alloc::alloc::exchange_malloc",
            "app::serve",
            "app::main::{{closure}}",
            "core::ops::function::FnOnce::call_once",
            "std::sys::backtrace::__rust_begin_short_backtrace",
            "std::rt::lang_start::{{closure}}",
            "std::panicking::try",
            "std::rt::lang_start",
            "main",
            "_start",
        ]
        .map(|name| frame(name, None));
        insta::assert_snapshot!(shown(&frames, 80, 8), @r"
            alloc::alloc::exchange_malloc  (app)
          > app::serve                     (app)
            app::main::{{closure}}         (app)
        ");
    }

    #[test]
    fn the_one_to_blame_is_no_start() {
        let frames = ["malloc", "std::a::b", "_start"].map(|name| frame(name, None));
        assert_eq!(shown(&frames, 80, 8), "    malloc     (app)\n  > std::a::b  (app)\n");
    }

    #[test]
    fn the_one_to_blame_is_shown_in_a_deep_stack() {
        let names: Vec<String> = (0..30).map(|n| format!("f{n}")).collect();
        let deep: Vec<Frame<'_>> = names.iter().map(|name| frame(name, None)).collect();
        insta::assert_snapshot!(shown(&deep, 80, 6), @r"
          > f0   (app)
            f1   (app)
            f2   (app)
            f3   (app)
            … 25 more frames (--full-names)
            f29  (app)
        ");
        let library = (0..8).flat_map(|_| [frame("std::a::b", None), frame("malloc", None)]);
        let inside: Vec<Frame<'_>> = library.chain(deep).collect();
        insta::assert_snapshot!(shown(&inside, 80, 6), @r"
            std::a::b  (app)
            … 15 more frames (--full-names)
          > f0         (app)
            f1         (app)
            … 27 more frames (--full-names)
            f29        (app)
        ");
        let few = shown(&inside, 80, 0);
        assert!(few.contains("> f0") && few.lines().count() == 5, "{few}");
    }

    #[test]
    fn lines_fit() {
        let long = format!("{}<{}>::run(int)", "name::".repeat(10), "argument::".repeat(400));
        let file = "directory/".repeat(30);
        let frames = [frame(&long, Some((&file, 1234))), frame("", None), frame("_start", None)];
        for width in [40, 80, 120] {
            let text = shown(&frames, width, 8);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            assert!(text.contains("/srv/app+0x4f0") && text.contains("un("), "{text}");
        }
        assert_eq!(shown(&frames[2..], 80, 8), "  > _start  (app)\n");
    }

    #[test]
    fn whole_names_have_everything() {
        let frames = [frame("f(int)", Some(("a.c", 3))), frame("", None), frame("_start", None)];
        let mut out = Vec::new();
        write(&mut out, &frames, &Style { full_names: true, ..Style::default() }, 1).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        f(int)  a.c:3  (/srv/app+0x4f0)
        /srv/app+0x4f0
        _start  (/srv/app+0x4f0)
        ");
    }
}
