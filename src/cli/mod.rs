//! One file a subcommand: options in, a report out. Only here is anything printed.

pub mod append;
pub mod args;
mod boot;
pub mod cat;
mod checksum;
mod convert;
pub mod diff;
mod documentation;
pub mod extract;
pub mod history;
mod inspect;
mod look;
pub mod manual;
pub mod ls;
mod output;
pub mod packages;
mod progress;
pub mod show;
mod sizes;
pub mod report;
mod verify;

pub use append::append;
pub use boot::boot;
pub use cat::cat;
pub use convert::convert;
pub use diff::diff;
pub use documentation::{completions, man, schema};
pub use extract::extract;
pub use history::history;
pub use inspect::inspect;
pub use ls::ls;
pub use output::complain;
pub use packages::{package_map, packages};
pub use report::report;
pub use verify::verify;
