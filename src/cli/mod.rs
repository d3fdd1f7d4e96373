//! One file a subcommand: options in, a report out. Only here is anything printed.

pub mod args;
mod boot;
mod convert;
mod diff;
mod documentation;
mod inspect;
mod output;
mod progress;
mod verify;

pub use boot::boot;
pub use convert::convert;
pub use diff::diff;
pub use documentation::{completions, man};
pub use inspect::inspect;
pub use output::complain;
pub use verify::verify;
