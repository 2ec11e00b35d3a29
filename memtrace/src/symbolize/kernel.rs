//! Names of the kernel's functions, from /proc/kallsyms.

use std::{path::PathBuf, sync::Arc};

use blazesym::{
    MaybeDefault,
    symbolize::{
        Input, Symbolizer as Blazesym,
        source::{Kernel, Source},
    },
};
use rustc_hash::FxHashMap;

/// Names functions of the kernel, and caches them.
pub struct KernelSymbolizer {
    blazesym: Blazesym,
    source: Source<'static>,
    /// Address of the kernel's first byte of code.
    text: u64,
    known: FxHashMap<u64, Option<(Arc<str>, u64)>>,
}

impl Default for KernelSymbolizer {
    fn default() -> Self {
        let blazesym = Blazesym::builder()
            .enable_auto_reload(false)
            .enable_code_info(false)
            .enable_demangling(false)
            .build();
        let source = Source::Kernel(Kernel {
            kallsyms: MaybeDefault::Some(PathBuf::from("/proc/kallsyms")),
            // An image may not belong to the running kernel.
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        });
        Self { blazesym, source, text: text(), known: FxHashMap::default() }
    }
}

impl KernelSymbolizer {
    /// The function that a return address is in, and its first address.
    pub fn name(&mut self, address: u64) -> Option<(Arc<str>, u64)> {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        // The call ends one byte before: the address may belong to the next function.
        let call = address.saturating_sub(1);
        let found = match self.blazesym.symbolize_single(&self.source, Input::AbsAddr(call)) {
            Ok(symbolized) => symbolized.into_sym().map(|symbol| (Arc::from(&*symbol.name), symbol.addr)),
            Err(error) => {
                tracing::debug!("cannot symbolize {call:#x} in the kernel: {error}");
                None
            }
        };
        self.known.insert(address, found.clone());
        found
    }

    /// The address of the kernel's first byte of code.
    #[must_use]
    pub fn text(&self) -> u64 {
        self.text
    }
}

/// Where the kernel's code begins: offsets from there are the same after each boot, addresses are not.
fn text() -> u64 {
    use std::io::BufRead as _;
    let Ok(file) = std::fs::File::open("/proc/kallsyms") else { return 0 };
    let lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
    lines
        .filter_map(|line| {
            let (address, name) = line.split_once(' ')?;
            name.ends_with(" _text").then(|| u64::from_str_radix(address, 16).ok()).flatten()
        })
        .next()
        .unwrap_or(0)
}
