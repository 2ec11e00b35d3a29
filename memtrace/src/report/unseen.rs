//! What is not traced of a process though it may allocate, in words.

use crate::profile::Remark;

/// The sentence of such a remark.
pub(super) fn sentence(remark: &Remark) -> Option<String> {
    Some(match remark {
        Remark::FunctionsNotFound { pid, functions } => format!(
            "no file of process {pid} defines {}, which the options name: nothing is traced there (a library that is loaded later is \
             looked at then)",
            functions.join(", ")
        ),
        Remark::AllocatorsUntraced { pid, functions, more } => {
            let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
            format!(
                "process {pid} grows by memory that no traced function explains, and has functions that look like an allocator's and are \
                 not traced: {}{more}; --alloc and --free trace those that are named there",
                functions.join(", ")
            )
        }
        _ => return None,
    })
}
