//! What people and machines read: data in [`data`], one exporter a file.

pub mod data;

pub use data::*;
