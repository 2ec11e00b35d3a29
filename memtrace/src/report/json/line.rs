//! A value as one line of JSON that is safe on a terminal.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::report::escape::is_hazardous;

/// One line of JSON.
pub(in crate::report) fn to_line(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = line(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn line(out: &mut dyn io::Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, TerminalSafe))?;
    out.write_all(b"\n")
}

/// Compact JSON that also escapes what could control a terminal, beyond the C0 controls that JSON requires.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        for part in text.split_inclusive(is_hazardous) {
            let safe = part.strip_suffix(is_hazardous).unwrap_or(part);
            writer.write_all(safe.as_bytes())?;
            for unit in part.encode_utf16().skip(safe.encode_utf16().count()) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
