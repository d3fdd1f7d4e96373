//! Turns a monolithic initrd into a btrfs-in-squashfs live image that needs much less RAM.
//!
//! The library never prints, never runs anything of an image and never joins a path of an image to a host path.
//! The modules stand in the order in which the data flows.

pub mod cores;
pub mod error;
pub mod scratch;
pub mod spool;
pub mod tree;

pub mod appended;
pub mod assemble;
pub mod btrfs;
pub mod carried;
pub mod classify;
pub mod cli;
pub mod compare;
pub mod convert;
pub mod footprint;
pub mod frontend;
pub mod initrd;
pub mod inspect;
pub mod kernel;
pub mod opened;
pub mod report;
pub mod split;
pub mod squashfs;
pub mod vm;
