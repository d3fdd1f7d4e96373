//! A tree → a btrfs image that is made on demand.

mod image;
mod layout;
mod links;
mod namespace;
mod order;
mod pack;
mod scan;

pub use image::{Facts, Image};
pub use layout::plan;
pub(super) use namespace::file_type;

#[cfg(test)]
mod tests;
