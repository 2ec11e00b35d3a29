//! Names of the kernel's functions, from /proc/kallsyms.

use std::path::PathBuf;

use blazesym::{
    MaybeDefault,
    symbolize::{
        Input, Symbolizer as Blazesym,
        source::{Kernel, Source},
    },
};
use rustc_hash::FxHashMap;

use crate::model::{Frame, KERNEL_CODE};

/// Names frames of the kernel. Remembers what it has looked up.
pub struct KernelSymbolizer {
    blazesym: Blazesym,
    source: Source<'static>,
    /// Address of the kernel's first byte of code.
    text: u64,
    known: FxHashMap<u64, Frame>,
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
            // An image need not be that of the running kernel.
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        });
        Self { blazesym, source, text: text(), known: FxHashMap::default() }
    }
}

impl KernelSymbolizer {
    /// The frame of a return address. `module` finds the module an address lies in: its name and first address.
    pub fn frame(&mut self, address: u64, module: impl Fn(u64) -> Option<(String, u64)>) -> Frame {
        if let Some(frame) = self.known.get(&address) {
            return frame.clone();
        }
        // The call is one byte before: what follows may belong to the next function.
        let call = address.saturating_sub(1);
        let (module, base) = module(call).unwrap_or_else(|| (KERNEL_CODE.to_owned(), self.text));
        let symbol = match self.blazesym.symbolize_single(&self.source, Input::AbsAddr(call)) {
            Ok(symbolized) => symbolized.into_sym().map(|symbol| (symbol.name.into_owned(), symbol.addr)),
            Err(error) => {
                tracing::debug!("cannot symbolize {call:#x} in the kernel: {error}");
                None
            }
        };
        let frame = Frame {
            function_offset: symbol.as_ref().map_or(0, |(_, start)| address.saturating_sub(*start)),
            function: symbol.map(|(name, _)| name.into()),
            module: module.into(),
            module_offset: call.saturating_sub(base),
            ..Frame::default()
        };
        self.known.insert(address, frame.clone());
        frame
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
