//! What process mode and kernel mode share.

pub(super) mod btf;
pub(super) mod error;
pub(super) mod events;
pub(super) mod feature;
pub(super) mod log;
pub(super) mod mapped;
pub(super) mod object;
pub(super) mod syscall;
pub(super) mod system;
pub(super) mod time;
