//! Code of traced programs: what stands before an address.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

/// Longest x86 instruction.
const LONGEST: usize = 15;
/// Shortest call.
const SHORTEST: usize = 2;
/// `mov $15, %rax; syscall`: what a signal handler returns to.
const SIGNAL_RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// Functions that are returned to without having called: V8 continues optimized code in its interpreter so, and
/// `makecontext` begins a coroutine so.
const PLACED: [&str; 3] =
    ["Builtins_InterpreterEnterAtBytecode", "Builtins_InterpreterEnterAtNextBytecode", "__start_context"];

/// What stands at a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A call ends there.
    Call,
    /// The code to which a signal handler returns: no call led there.
    SignalReturn,
    /// No call led there either: the program itself puts the address where a return address belongs.
    Placed,
    /// None of these.
    Other,
    /// The code cannot be read: the kernel's pages (`[vdso]`), or made at run time by a process that has exited.
    Unknown,
}

/// What is needed of a file.
#[derive(Default)]
struct Binary {
    /// Executable segments: address and bytes.
    segments: Vec<(u64, Vec<u8>)>,
    /// Addresses of [`PLACED`] functions.
    placed: Vec<u64>,
}

/// The files seen so far.
#[derive(Default)]
pub(super) struct Code {
    files: HashMap<String, Binary>,
}

impl Code {
    /// What stands at a return address, given as an address in the file or, for `[anon]`, in the process.
    pub(super) fn site(&mut self, module: &str, address: u64, pid: Option<u32>) -> Site {
        let bytes = if module == "[anon]" {
            pid.and_then(|pid| memory(pid, address))
        } else if module.starts_with('/') {
            let binary = self.files.entry(module.to_owned()).or_insert_with(|| binary(module));
            if binary.placed.contains(&address) {
                return Site::Placed;
            }
            around(&binary.segments, address)
        } else {
            None
        };
        bytes.map_or(Site::Unknown, |(before, after)| classify(&before, &after))
    }
}

fn classify(before: &[u8], after: &[u8]) -> Site {
    if ends_with_call(before) {
        Site::Call
    } else if after.starts_with(&SIGNAL_RETURN) {
        Site::SignalReturn
    } else {
        Site::Other
    }
}

/// Whether some instruction that ends with these bytes is a call.
fn ends_with_call(bytes: &[u8]) -> bool {
    (SHORTEST..=bytes.len()).any(|length| {
        let Some(code) = bytes.get(bytes.len() - length..) else { return false };
        let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
        instruction.len() == length
            && matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
    })
}

fn binary(path: &str) -> Binary {
    let Ok(bytes) = fs::read(path) else { return Binary::default() };
    let Ok(file) = object::File::parse(&*bytes) else { return Binary::default() };
    let executable =
        |flags| matches!(flags, object::SegmentFlags::Elf { p_flags } if p_flags & object::elf::PF_X != 0);
    let segments = file
        .segments()
        .filter(|segment| executable(segment.flags()))
        .filter_map(|segment| Some((segment.address(), segment.data().ok()?.to_vec())))
        .collect();
    let placed = file
        .symbols()
        .filter(|symbol| symbol.name().is_ok_and(|name| PLACED.contains(&name)))
        .map(|symbol| symbol.address())
        .collect();
    Binary { segments, placed }
}

fn around(segments: &[(u64, Vec<u8>)], address: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    segments.iter().find_map(|(start, bytes)| {
        let at = usize::try_from(address.checked_sub(*start)?).ok()?;
        let before = bytes.get(at.saturating_sub(LONGEST)..at)?;
        let after = bytes.get(at..bytes.len().min(at + LONGEST))?;
        Some((before.to_vec(), after.to_vec()))
    })
}

fn memory(pid: u32, address: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let file = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut before = vec![0; LONGEST];
    file.read_exact_at(&mut before, address.checked_sub(LONGEST as u64)?).ok()?;
    Some((before, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::{SIGNAL_RETURN, Site, classify};

    #[test]
    fn calls_are_told_from_other_instructions() {
        let calls: [&[u8]; 6] = [
            &[0x90, 0xe8, 1, 2, 3, 4],
            &[0xff, 0xd0],
            &[0x41, 0xff, 0xd4],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0x41, 0xff, 0x94, 0x24, 1, 2, 3, 4],
            &[0x66, 0x66, 0x48, 0xe8, 1, 2, 3, 4],
        ];
        for call in calls {
            assert_eq!(classify(call, &[]), Site::Call, "{call:x?}");
        }
        for other in
            [&[0x90u8, 0x90, 0x90][..], &[0xe9, 1, 2, 3, 4], &[0xff, 0xe0], &[0xff, 0x35, 1, 2, 3, 4]]
        {
            assert_eq!(classify(other, &[]), Site::Other, "{other:x?}");
        }
        assert_eq!(classify(&[0x90; 4], &SIGNAL_RETURN), Site::SignalReturn);
    }
}
