//! Bytes that are read at any offset, kept in temporary files, or described region by region.

mod regions;
mod regular;
mod spool;

pub use regions::{Hint, Region};
pub(crate) use regular::name;
pub use regular::{open_regular, read_regular};
pub(crate) use spool::{Joined, pieces};
pub use spool::{ReadAt, Slice, Spool, Spooled};
