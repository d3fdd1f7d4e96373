//! Any image, opened: what it is, what it carries, and what was appended to it.

pub mod classify;
mod copies;
mod distribution;
pub mod embedded;
mod evidence;
mod handover;
mod init;
mod inside;
mod open;
pub mod overlay;
mod script;
mod view;

pub use open::*;
