//! Bytes that are read at any offset, kept in temporary files, or described region by region.

mod regions;
mod spool;

pub use regions::{Hint, Region};
pub(crate) use spool::{Joined, pieces};
pub use spool::{ReadAt, Slice, Spool, Spooled};
