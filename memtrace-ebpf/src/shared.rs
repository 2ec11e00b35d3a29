//! What both objects need and neither can import from the other.

use crate::atomic;

/// Declares load-time constants. The agent sets them before loading; the map is then frozen, the verifier knows the
/// values and removes what they switch off.
macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub(crate) static $name: aya_ebpf::Global<$type> = aya_ebpf::Global::new($default);
        )*
    };
}
pub(crate) use globals;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel offers the helpers used here to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Hides a value from the optimizer, so that the bounds check that follows is made on the very register that
/// is then used: only then does the verifier see it.
#[inline(always)]
pub(crate) fn bounded(mut value: u64) -> u64 {
    // SAFETY: an instruction that moves a register onto itself. (An empty template breaks line info.)
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, preserves_flags));
    }
    value = value.wrapping_add(0);
    value
}

/// Claims the first of `count` values that no other program uses: its `busy` word becomes 1.
#[inline(always)]
pub(crate) fn claim<T>(
    count: u32,
    get: impl Fn(u32) -> Option<*mut T>,
    busy: impl Fn(*mut T) -> *mut u64,
) -> Option<*mut T> {
    for index in 0..count {
        let value = get(index)?;
        // SAFETY: `busy` points into the value of a map.
        if unsafe { atomic::compare_exchange(busy(value), 0, 1) }.is_ok() {
            return Some(value);
        }
    }
    None
}
