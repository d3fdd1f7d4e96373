//! What a converted image promises: its files, its configuration, and how the boot initramfs treats them.
//!
//! The library and the program that runs inside an image (src/guest) use the same code. This module therefore needs
//! nothing but std, names no other module of the library, and builds with Rust 1.85, the compiler of Debian 13.
//!
#![doc = include_str!("../docs/image-format.md")]

pub mod checksum;
pub mod cmdline;
mod config;
mod lay;
pub mod net;
mod own;
pub mod paths;
mod resolve;
pub mod sha256;

pub use config::{Config, FORMAT, FrontEnd, Handover, Overlay, RuntimeFormat, RuntimeFrom};
pub use lay::{Kind, Outcome, Stat, Trees, lay};
pub use own::{Own, appended};
pub use resolve::{Lookup, MAX_SYMLINKS, Met, Trail, Unresolved, resolve};

/// The name under which the guest knows this module: it is linked with nothing else of the library.
#[cfg(guest)]
pub use crate as contract;
