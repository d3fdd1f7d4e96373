//! Any image, opened: what it is, what it carries, and what was appended to it.

mod archives;
pub mod classify;
mod copies;
mod distribution;
pub mod embedded;
mod evidence;
pub mod expand;
mod handover;
pub mod in_place;
mod init;
mod inside;
mod open;
pub mod overlay;
mod script;
mod view;
mod companions;
mod parts;
pub mod split;

pub use companions::{entries_file, runtime_file};
pub(crate) use init::{MAX_LINE, script_interpreter};
pub use open::*;
pub use parts::{Part, PartKind, holder, parts};
