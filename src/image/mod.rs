//! Any image, opened: what it is, what it carries, and what was appended to it.

pub mod classify;
pub mod embedded;
mod open;
pub mod overlay;

pub use open::*;
