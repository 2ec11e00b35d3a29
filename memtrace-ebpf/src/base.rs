//! What every object needs: load-time constants, the license, a panic handler.

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
