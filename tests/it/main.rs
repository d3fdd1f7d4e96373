//! Integration tests against the built binary and the real tools and images.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod btrfs;
mod built_in;
mod common;
mod convert;
mod damage;
mod dracut;
mod fuzz;
mod initrd;
mod kernel;
mod layout;
mod outputs;
mod pages;
mod qa;
mod squashfs;
mod vm;
