//! What an initrd comes in: other kinds of files are named, and those that hold an initrd are opened.

mod names;

pub use names::name;
pub(crate) use names::{next_step, window};
