//! Integration tests against the built binary and the real tools and images: one file a subject, builders and oracles
//! in `support`.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

mod appended;
mod architectures;
mod btrfs;
mod built_in;
mod ci;
mod convert;
mod damage;
mod diff;
mod dracut;
mod faults;
mod fuzz;
mod hostile;
mod initrd;
mod inputs;
mod inspect;
mod kernel;
mod kinds;
mod landing;
mod layout;
mod lookinside;
mod netboot;
mod network;
mod manual;
mod outputs;
mod packages;
mod pages;
mod reports;
mod signals;
mod squashfs;
mod verify;
mod vm;
