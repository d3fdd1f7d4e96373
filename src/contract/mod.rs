//! What a converted image promises.

pub mod checksum;
mod choices;
pub mod inside;
pub mod own;
pub mod paths;

pub use choices::{Handover, Overlay, RuntimeFormat, RuntimeFrom};

/// The name under which guests know this module: they are linked with nothing else of the library.
#[cfg(guest)]
pub use crate as contract;
