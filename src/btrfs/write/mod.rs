//! A tree → a btrfs image that is made on demand.

mod data;
mod extents;
mod fit;
mod image;
mod layout;
mod namespace;
mod pack;
mod roots;
mod space;
mod superblock;

pub use image::{Facts, Image};
pub use layout::plan;
pub(super) use namespace::file_type;

#[cfg(test)]
mod tests;
