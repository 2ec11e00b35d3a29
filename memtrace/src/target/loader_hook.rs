//! Where a dynamic loader announces what it loads and unloads.

use std::sync::OnceLock;

use super::modules::{Mapped, Modules};
use crate::{elf::Image, model::LoaderHook};

/// The loader's function and variable for debuggers (glibc's and musl's link.h), and the offset of `r_state` in the
/// latter.
const BREAKPOINT: &str = "_dl_debug_state";
const DEBUG: &str = "_r_debug";
const R_STATE: u64 = 24;

impl Modules {
    /// Where the dynamic loader announces what it loads and unloads; `None` for static programs, and for loaders
    /// that do not export it.
    #[must_use]
    pub fn loader_hook(&self) -> Option<LoaderHook> {
        self.all().iter().find_map(|Mapped { bias, module, .. }| {
            let file_name = module.name.rsplit('/').next().unwrap_or_default();
            if !file_name.starts_with("ld-")
                && !file_name.starts_with("ld.so")
                && !file_name.starts_with("ld64")
            {
                return None;
            }
            let (file, bias) = (module.file()?, (*bias)?);
            let announced = file.findings::<Announced>();
            let (offset, debug) = (*announced.0.get_or_init(|| announced_by(file.image()?)))?;
            let state = debug.wrapping_add(bias).wrapping_add(R_STATE);
            Some(LoaderHook { file: file.path(), offset, state })
        })
    }
}

/// What a dynamic loader has for debuggers: the offset of the function in the file, and the address of the variable.
#[derive(Default)]
struct Announced(OnceLock<Option<(u64, u64)>>);

fn announced_by(loader: &Image) -> Option<(u64, u64)> {
    let symbols = loader.symbols(&[BREAKPOINT, DEBUG]).ok()?;
    let address = |name| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
    Some((loader.vaddr_to_offset(address(BREAKPOINT)?)?, address(DEBUG)?))
}
