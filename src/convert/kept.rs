//! An initramfs whose system is a file inside: the file is read in the retained initrd, and the initramfs stays as it is.

use super::request::{FrontEndChoice, Request};
use crate::bytes::ReadAt;
use crate::codec::Compression;
use crate::contract::{RuntimeFormat, RuntimeFrom};
use crate::error::Error;
use crate::image::classify::{Classification, Inside, InsideKind, Verdict};
use crate::image::in_place;
use crate::initrd::Initrd;
use crate::squashfs;

/// Block size of the squashfs around a file that is compressed already: small, because nothing is gained by more.
const BLOCK: u32 = 128 << 10;

/// The old initramfs and what is special about its file.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// The file.
    pub(super) inside: Inside,
    /// The compression of the squashfs around the file: that of the file if it is a squashfs, because the kernel has it.
    compression: Option<Compression>,
    /// Whether the file is compressed already.
    pub(super) stored: bool,
}

/// The old initramfs, if it stays.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for options that mean nothing then, [`crate::error::Kind::Input`] if the file cannot be
/// read in place.
pub(super) fn of(request: &Request, class: &Classification, image: &Initrd) -> Result<Option<Kept>, Error> {
    if !matches!(class.verdict, Verdict::SystemInside(_)) || request.runtime != RuntimeFrom::Retained {
        return Ok(None);
    }
    let unused = [
        ("--init", request.init.is_some()),
        ("--cmdline", !request.cmdline.is_empty()),
        ("--expand-modules", request.expand_modules),
        ("--runtime-format", request.format.is_some()),
        ("--overlay", request.overlay.is_some()),
        ("--front-end", !matches!(request.front_end, FrontEndChoice::Auto | FrontEndChoice::BuiltIn)),
    ];
    if let Some((option, _)) = unused.iter().find(|(_, used)| *used) {
        return Err(Error::usage(format!(
            "{option} cannot be used: the image is an initramfs with its system in a file inside, and stays as it is"
        ))
        .hint("leave it out"));
    }
    let inside = in_place::file(image, class)?.clone();
    let content = squashfs::file(&image.tree, inside.id);
    let packing = content.as_ref().and_then(|file| squashfs::packing(file.as_ref() as &dyn ReadAt));
    let stored = inside.compressed || matches!(inside.kind, InsideKind::Squashfs | InsideKind::Erofs);
    Ok(Some(Kept { inside, compression: packing.map(|(compression, _)| compression), stored }))
}

impl Kept {
    /// The request with what follows from the file.
    pub(super) fn request(&self, request: &Request) -> Request {
        let block = self.stored.then_some(BLOCK);
        Request {
            compression: self.compression.or(request.compression),
            format: Some(RuntimeFormat::Squashfs),
            block_size: request.block_size.or(block),
            ..request.clone()
        }
    }

    /// The path of the file, without a leading `/`.
    pub(super) fn path(&self) -> &str {
        self.inside.path.trim_start_matches('/')
    }
}
