//! What a probe's cookie says about the function it sits on.

const NONE: u64 = 7;
const MASK: u64 = 7;

/// What a probed function does. In bits 12 to 15 of a cookie.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Allocates or frees blocks.
    Blocks = 0,
    /// `mmap(_, length, …)`.
    Map = 1,
    /// `munmap(address, length)`.
    Unmap = 2,
    /// `mremap(address, length, new length, …)`.
    Remap = 3,
    /// `sbrk(increment)`.
    Break = 4,
}

/// A probe's cookie: where the function keeps its arguments, and which target the probe belongs to.
///
/// Three bits for each argument number (7: none), the target's index in bits 16 to 23, marks above. One program thus
/// serves every allocating function, and the program needs no map look-up to know whose call it sees. From bit 27 on: what
/// an [`Exit`] says.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Packs argument numbers (0 to 5 each) and a target's index.
    #[must_use]
    pub const fn new(size: u8, count: Option<u8>, old: Option<u8>, out: Option<u8>, target: u8) -> Self {
        const fn field(argument: Option<u8>) -> u64 {
            match argument {
                Some(n) => n as u64 & MASK,
                None => NONE,
            }
        }
        Self(
            field(Some(size)) | field(count) << 3 | field(old) << 6 | field(out) << 9 | (target as u64) << 16,
        )
    }

    /// The cookie of a function that maps memory. Its arguments are where its manual page says.
    #[must_use]
    pub const fn mapping(layer: Layer, target: u8) -> Self {
        Self((layer as u64) << 12 | (target as u64) << 16)
    }

    /// Marks a site whose instruction the kernel single-steps: a trap more.
    #[must_use]
    pub const fn stepped(self, stepped: bool) -> Self {
        Self(self.0 | (stepped as u64) << 24)
    }

    /// 1 at a site that is single-stepped.
    #[inline(always)]
    #[must_use]
    pub const fn is_stepped(self) -> u64 {
        self.0 >> 24 & 1
    }

    /// Marks a `realloc` that passes a null pointer's request to `malloc`, which is probed as well.
    #[must_use]
    pub const fn delegating(self, delegating: bool) -> Self {
        Self(self.0 | (delegating as u64) << 25)
    }

    /// Whether it is marked so.
    #[inline(always)]
    #[must_use]
    pub const fn is_delegating(self) -> bool {
        self.0 >> 25 & 1 != 0
    }

    /// Marks the entry of a function whose results are read at its exits, not by a return probe.
    #[must_use]
    pub const fn with_exits(self, with_exits: bool) -> Self {
        Self(self.0 | (with_exits as u64) << 26)
    }

    /// 1 if it is marked so.
    #[inline(always)]
    #[must_use]
    pub const fn has_exits(self) -> u64 {
        self.0 >> 26 & 1
    }

    /// The cookie of an exit site.
    #[must_use]
    pub const fn exit(exit: Exit, target: u8) -> Self {
        Self((target as u64) << 16 | (exit.0 as u64) << EXIT)
    }

    /// What it says about an exit.
    #[inline(always)]
    #[must_use]
    pub const fn as_exit(self) -> Exit {
        Exit((self.0 >> EXIT) as u32)
    }

    /// What the function does: a [`Layer`]'s number.
    #[inline(always)]
    #[must_use]
    pub const fn layer(self) -> u64 {
        self.0 >> 12 & 15
    }

    /// The argument that holds the size.
    #[inline(always)]
    #[must_use]
    pub const fn size(self) -> u64 {
        self.0 & MASK
    }

    /// The argument that holds the number of elements.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> Option<u64> {
        Self::some(self.0 >> 3)
    }

    /// The argument that holds the block given up.
    #[inline(always)]
    #[must_use]
    pub const fn old(self) -> Option<u64> {
        Self::some(self.0 >> 6)
    }

    /// The argument that points to where the result is stored.
    #[inline(always)]
    #[must_use]
    pub const fn out(self) -> Option<u64> {
        Self::some(self.0 >> 9)
    }

    /// The target's index.
    #[inline(always)]
    #[must_use]
    pub const fn target(self) -> u32 {
        (self.0 >> 16) as u32 & 0xff
    }

    #[inline(always)]
    const fn some(bits: u64) -> Option<u64> {
        if bits & MASK == NONE { None } else { Some(bits & MASK) }
    }
}

/// Where an [`Exit`] begins in a cookie.
const EXIT: u64 = 27;

/// What a function returns at an exit.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// What a register holds.
    Register = 0,
    /// 0.
    Zero = 1,
}

/// An exit site: where the result and the canonical frame address (CFA) are, and under which condition it is one.
///
/// The register's number in bits 0 to 3, an [`ExitKind`] in 4, bit 6: the CFA counts from the frame pointer, its
/// distance in words in bits 7 to 18, bit 19: only under a condition, whose number is in bits 20 to 23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u32);

impl Exit {
    /// The largest distance of the CFA, in words.
    pub const MAX_WORDS: u32 = 0xfff;

    /// Packs them. `register` and `condition` are less than 16, `words` at most [`Self::MAX_WORDS`].
    #[must_use]
    pub const fn new(
        kind: ExitKind,
        register: u8,
        by_frame_pointer: bool,
        words: u32,
        condition: Option<u8>,
    ) -> Self {
        let condition = match condition {
            Some(number) => 1 << 19 | (number as u32 & 15) << 20,
            None => 0,
        };
        Self(
            register as u32 & 15
                | (kind as u32) << 4
                | (by_frame_pointer as u32) << 6
                | (words & Self::MAX_WORDS) << 7
                | condition,
        )
    }

    /// The register that holds the result, by its number in instructions.
    #[inline(always)]
    #[must_use]
    pub const fn register(self) -> u32 {
        self.0 & 15
    }

    /// An [`ExitKind`]'s number.
    #[inline(always)]
    #[must_use]
    pub const fn kind(self) -> u32 {
        self.0 >> 4 & 1
    }

    /// Whether the CFA counts from the frame pointer, not from the stack pointer.
    #[inline(always)]
    #[must_use]
    pub const fn is_by_frame_pointer(self) -> bool {
        self.0 >> 6 & 1 != 0
    }

    /// How far above it the CFA is, in words.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> u64 {
        (self.0 >> 7 & Self::MAX_WORDS) as u64
    }

    /// The number of the condition under which it is an exit.
    #[inline(always)]
    #[must_use]
    pub const fn condition(self) -> Option<u32> {
        if self.0 >> 19 & 1 == 0 { None } else { Some(self.0 >> 20 & 15) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cookie, Exit, ExitKind, Layer};

    #[test]
    fn an_exit_comes_back() {
        let exit = Exit::new(ExitKind::Zero, 15, true, Exit::MAX_WORDS, Some(15));
        let cookie = Cookie::exit(exit, 255).stepped(true);
        assert_eq!((cookie.as_exit(), cookie.target(), cookie.is_stepped()), (exit, 255, 1));
        assert_eq!((exit.kind(), exit.register(), exit.words()), (ExitKind::Zero as u32, 15, 4095));
        assert!(exit.is_by_frame_pointer());
        assert_eq!(exit.condition(), Some(15));
        let exit = Exit::new(ExitKind::Register, 0, false, 1, None);
        assert_eq!((exit.kind(), exit.register(), exit.words(), exit.condition()), (0, 0, 1, None));
        assert!(!exit.is_by_frame_pointer());
    }

    #[test]
    fn every_field_comes_back() {
        let cookie = Cookie::new(1, Some(2), Some(0), Some(5), 200);
        assert_eq!(
            (cookie.size(), cookie.count(), cookie.old(), cookie.out(), cookie.target()),
            (1, Some(2), Some(0), Some(5), 200)
        );
        assert_eq!(cookie.layer(), Layer::Blocks as u64);
        let cookie = Cookie::mapping(Layer::Break, 7);
        assert_eq!((cookie.layer(), cookie.target()), (Layer::Break as u64, 7));
        let cookie = Cookie::new(0, None, None, None, 255).stepped(true).delegating(true);
        assert_eq!((cookie.is_stepped(), cookie.is_delegating(), cookie.target()), (1, true, 255));
        let cookie = Cookie::new(0, None, None, None, 0);
        assert!(!cookie.is_delegating() && cookie.is_stepped() == 0 && cookie.has_exits() == 0);
        assert_eq!(cookie.with_exits(true).has_exits(), 1);
        assert_eq!((cookie.count(), cookie.old(), cookie.out()), (None, None, None));
    }
}
