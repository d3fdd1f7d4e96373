//! To come.

mod region;

pub use region::{Arch, Hint, Region};
