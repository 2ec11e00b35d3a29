//! Records of the iterator's file.

use memtrace_common::{GENERAL_WORDS, RECORD_WORDS, ThreadState, VECTOR_WORDS};

use crate::model::ThreadRegisters;

/// Bytes of a record.
pub(super) const RECORD: usize = RECORD_WORDS * 8;

/// A thread as the iterator's program saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its process.
    pub(super) tgid: u32,
    /// Its registers, and its signal stack among the words; the stack pointer as read, whether or not it is current.
    pub(super) registers: ThreadRegisters,
    /// Where its alternate signal stack begins; 0: it has none.
    pub(super) signal_stack: u64,
    /// Flags of [`ThreadState`].
    flags: u64,
}

impl Record {
    /// Takes a record apart. `None` if it is too short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> =
            bytes.as_chunks().0.iter().take(RECORD_WORDS).map(|word| u64::from_ne_bytes(*word)).collect();
        let (vector, state) = words.split_at_checked(VECTOR_WORDS)?;
        let (&[ids, flags, tls, second_base, signal_stack], general) = state.split_first_chunk()?;
        let general: &[u64; GENERAL_WORDS] = general.first_chunk()?;
        let [tid, tgid] = halves(ids);
        let has = |flag: u64| flags & flag != 0;
        let mut words = Vec::with_capacity(RECORD_WORDS);
        let mut sp = None;
        if !has(ThreadState::UNREADABLE) {
            sp = general.get(arch::SP).copied();
            words.extend(arch::general(general));
        }
        words.extend([tls, second_base, signal_stack]);
        if has(ThreadState::VECTOR) {
            words.extend(vector);
        }
        words.retain(|&word| word != 0);
        let tls = Some(tls).filter(|&tls| tls != 0);
        Some(Self { tgid, registers: ThreadRegisters { tid, sp, tls, words }, signal_stack, flags })
    }

    /// Whether the thread ends, and needs no registers any more.
    pub(super) fn is_ending(&self) -> bool {
        self.flags & ThreadState::ENDING != 0
    }

    /// Whether the thread was on a CPU.
    pub(super) fn is_running(&self) -> bool {
        self.flags & ThreadState::RUNNING != 0
    }

    /// Whether the registers are all of one moment, and current.
    pub(super) fn is_settled(&self) -> bool {
        self.flags & (ThreadState::RUNNING | ThreadState::TORN | ThreadState::UNREADABLE) == 0
    }
}

/// Two 32-bit members in their order in memory.
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h): r15 to rbp, rbx, r11 to r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip,
/// cs, eflags, rsp, ss.
#[cfg(target_arch = "x86_64")]
mod arch {
    /// Place of the stack pointer.
    pub(super) const SP: usize = 19;

    /// All but the number of the system call, flags and segments.
    pub(super) fn general(words: &[u64]) -> impl Iterator<Item = u64> {
        let is_kept = |place: usize| place < 15 || place == 16 || place == SP;
        words.iter().enumerate().filter(move |(place, _)| is_kept(*place)).map(|(_, word)| *word)
    }
}

/// `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h): x0 to x30, sp, pc, pstate.
#[cfg(target_arch = "aarch64")]
mod arch {
    /// Place of the stack pointer.
    pub(super) const SP: usize = 31;

    /// All but the flags.
    pub(super) fn general(words: &[u64]) -> impl Iterator<Item = u64> {
        words.iter().take(33).copied()
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::{GENERAL_WORDS, RECORD_WORDS, ThreadState, VECTOR_WORDS};

    use super::{RECORD, Record, arch};

    fn bytes(flags: u64) -> Vec<u8> {
        let general: [u64; GENERAL_WORDS] = std::array::from_fn(|place| 0x1000 + place as u64);
        let mut words: Vec<u64> = (0..VECTOR_WORDS as u64).map(|place| 0x2000 + place).collect();
        words.extend([u64::from_ne_bytes([7, 0, 0, 0, 5, 0, 0, 0]), flags, 0x3000, 0, 0x4000]);
        words.extend(general);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_record_has_every_register_but_flags() {
        let record = Record::parse(&bytes(ThreadState::VECTOR)).unwrap();
        assert!(record.is_settled() && !record.is_running() && !record.is_ending());
        assert_eq!((record.registers.tid, record.tgid), (7, 5));
        assert_eq!(record.registers.sp, Some(0x1000 + arch::SP as u64));
        assert_eq!(record.registers.tls, Some(0x3000));
        let words = &record.registers.words;
        assert!(
            words.contains(&0x1000)
                && words.contains(&0x3000)
                && words.contains(&0x4000)
                && words.contains(&0x201f),
            "{words:x?}"
        );
        assert!(!words.contains(&0), "{words:x?}");
        #[cfg(target_arch = "x86_64")]
        {
            // orig_rax, cs, eflags, ss
            assert!([15, 17, 18, 20].iter().all(|place| !words.contains(&(0x1000 + place))), "{words:x?}");
            assert_eq!(words.len(), 17 + 2 + VECTOR_WORDS);
        }
    }

    #[test]
    fn flags_say_what_is_known() {
        let record = Record::parse(&bytes(ThreadState::UNREADABLE)).unwrap();
        assert!(!record.is_settled());
        assert_eq!((record.registers.sp, record.registers.words), (None, vec![0x3000, 0x4000]));
        for flag in [ThreadState::RUNNING, ThreadState::TORN] {
            assert!(!Record::parse(&bytes(flag)).unwrap().is_settled());
        }
        assert!(Record::parse(&bytes(ThreadState::ENDING)).unwrap().is_ending());
    }

    #[test]
    fn a_record_is_whole() {
        assert_eq!(RECORD, 8 * RECORD_WORDS);
        for length in 0..RECORD {
            assert_eq!(Record::parse(&bytes(0)[..length]), None);
        }
    }
}
