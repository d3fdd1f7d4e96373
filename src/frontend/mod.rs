//! The front-end: the small initramfs that mounts the runtime, makes it writable and hands over to the old /init.

pub mod built_in;
pub mod dracut;

use crate::contract::{Handover, Overlay, RuntimeFrom};
use crate::kernel::KernelModules;

/// What a front-end is to do.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The kernels it has to boot with, at least one.
    pub kernels: &'a [KernelModules],
    /// How the runtime becomes writable when the command line does not say.
    pub overlay: Overlay,
    /// Where squashfs.img comes from.
    pub runtime: RuntimeFrom,
    /// The old first program as an absolute path in the runtime (`/init` nearly always).
    pub init: &'a str,
    /// How to hand over to it.
    pub handover: Handover,
    /// Paths (no leading `/`) in the initramfs that are neither the front-end's nor appended by the user, such as the
    /// files of early cpio segments: they are not carried into the runtime.
    pub not_carried: &'a [String],
    /// Time for every entry that we make, seconds since 1970.
    pub time: i64,
}

/// A front-end, ready to be compressed.
#[derive(Debug, Clone)]
pub struct FrontEnd {
    /// One uncompressed newc archive with its trailer.
    pub cpio: Vec<u8>,
    /// Who made it, for the report: `dracut 059`, `built-in`, a file's name.
    pub maker: String,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}
