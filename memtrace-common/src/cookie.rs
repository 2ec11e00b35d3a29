//! What a probe's cookie says about the function it sits on.

const NONE: u64 = 7;
const MASK: u64 = 7;

/// What a probed function does. In bits 12 to 15 of a cookie.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Hands out or takes back blocks.
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
/// Three bits for each argument number (7: none), the target's index in bits 16 to 23, two marks above. One program thus
/// serves every allocating function, and the program needs no map look-up to know whose call it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Marks a `realloc` that hands a null pointer's request on to `malloc`, which is probed as well.
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

#[cfg(test)]
mod tests {
    use super::{Cookie, Layer};

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
        assert!(!cookie.is_delegating() && cookie.is_stepped() == 0);
        assert_eq!((cookie.count(), cookie.old(), cookie.out()), (None, None, None));
    }
}
