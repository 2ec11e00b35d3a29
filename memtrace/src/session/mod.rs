//! Floor 4: the loop of a session. It asks a [`Source`] for reports when they are due, has their functions named, and
//! writes them.

mod draft;
mod follow;
mod names;
mod output;
mod queue;
mod report_file;
mod screen;
mod signals;
mod source;
mod suppress;
mod watched;

pub use draft::{Draft, Wanted};
pub use follow::{Schedule, follow};
pub use names::Names;
pub use output::{Closed, Output, settle, write_whole};
pub use report_file::{Keep, ReportFile};
pub use screen::Screen;
pub use signals::{
    hold as hold_signals, hold_marking, interrupted, release as release_signals, unheld,
    wait as wait_for_signal,
};
pub use source::{Ending, Source, Step};
pub use suppress::Suppressing;
pub use watched::Watched;
