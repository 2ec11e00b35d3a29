//! What a dictionary stores: ids, and what they stand for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Reason;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub(super) u32);

        impl $name {
            /// The place in its table.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A text.
    StringId,
    /// A module.
    ModuleId,
    /// A function.
    FunctionId,
    /// A place in code.
    LocationId,
    /// A stack.
    StackId
}

/// A file with code, or a stand-in (`[vdso]`, `[anon]`, `[kernel]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Module {
    /// The path as the target sees it.
    pub name: StringId,
    /// The build id, in hexadecimal; `None` where the file has none.
    pub build_id: Option<StringId>,
}

/// A function and the file that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Function {
    /// The name, demangled.
    pub name: StringId,
    /// The source file.
    pub file: Option<StringId>,
}

/// A function at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The function; `None` where only the line is known.
    pub function: Option<FunctionId>,
    /// The source file of the line.
    pub file: Option<StringId>,
    /// The line in it.
    pub line: Option<u32>,
    /// Bytes from the function's start to the location's address.
    pub offset: u64,
    /// Whether the function was inlined into the next one.
    pub inlined: bool,
}

/// A place in code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The module.
    pub module: ModuleId,
    /// An ELF virtual address in the module: a return address, or that of an interrupted instruction.
    pub address: u64,
    /// Whether it is a return address: then the call is one byte before.
    pub is_return: bool,
    /// The functions there: those inlined first, the function itself last. `None`: not looked up. Empty: nothing is known.
    pub lines: Option<Box<[Line]>>,
}

impl Location {
    /// The address of the call, or of the interrupted instruction.
    #[must_use]
    pub fn call(&self) -> u64 {
        self.address.saturating_sub(u64::from(self.is_return))
    }
}

/// A stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// Innermost first, beginning with the caller of the allocator's function.
    pub frames: Arc<[LocationId]>,
    /// Why the walk ended before the program's entry point; `None` for a complete stack.
    pub incomplete: Option<Reason>,
}
