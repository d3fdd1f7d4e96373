//! Turns a monolithic initrd into a btrfs-in-squashfs live image that needs much less RAM.
//!
//! The library never prints, never runs anything of an image and never joins a path of an image to a host path.
//!
//! The modules stand in the order in which data flows: each one uses only those above it, which the test
//! `layout::modules_use_only_earlier_ones` checks. [`docs`] has chapters on the whole.

#![warn(unreachable_pub)]

pub mod contract;

pub mod error;
pub mod scratch;
pub mod output;
pub mod cores;
pub mod elf;
pub mod bytes;
pub mod codec;
pub mod magic;
pub mod tree;
pub mod store;

pub mod initrd;
pub mod kernel;
pub mod container;
pub mod btrfs;
pub mod squashfs;
pub mod image;
pub mod extract;
pub mod packages;
pub mod frontend;

pub mod ram;
pub mod inspect;
pub mod append;
pub mod compare;
pub mod convert;
pub mod vm;
pub mod report;

pub mod docs {
    //! Chapters on the whole: how the code is built, how RAM is predicted, and what hostile input costs.
    #[doc = include_str!("docs/architecture.md")]
    pub mod architecture {}
    #[doc = include_str!("docs/ram-model.md")]
    pub mod ram_model {}
    #[doc = include_str!("docs/robustness.md")]
    pub mod robustness {}
}
