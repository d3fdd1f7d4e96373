//! The slow work: the squashfs is compressed while the boot initramfs is made.

use std::fs::File;
use std::thread;

use anyhow::Context;

use super::preflight::{Maker, Prepared};
use super::request::{Layout, Request, Stage, Watch};
use crate::btrfs::{self, Features};
use crate::bytes::ReadAt;
use crate::codec::{self, Encoding};
use crate::cores::Cores;
use crate::error::Error;
use crate::frontend::{FrontEnd, built_in, dracut};
use crate::squashfs;

/// The largest file that a newc archive can hold, in bytes.
const NEWC_MAX: u64 = u32::MAX as u64;

/// The parts of the new image that had to be built.
pub(super) struct Built {
    /// The boot initramfs.
    pub(super) front_end: FrontEnd,
    /// The boot initramfs, compressed.
    pub(super) packed: Vec<u8>,
    /// The squashfs, in an unlinked temporary file.
    pub(super) squashfs: File,
    /// Sizes of the file system inside it.
    pub(super) facts: btrfs::Facts,
    /// What could not be laid out as it was in the old image.
    pub(super) notes: Vec<String>,
    /// Sizes of the squashfs.
    pub(super) written: squashfs::Written,
}

/// The slow work: the squashfs is compressed while the front-end is made.
pub(super) fn build(request: &Request, prepared: &Prepared, watch: Watch) -> anyhow::Result<Built> {
    watch(Stage::Layout, 0, 0);
    let options = btrfs::Options {
        features: Features::for_kernels(prepared.kernels.iter().map(|k| k.modules.version.as_str())),
        free_space: request.free_space,
        time: prepared.time,
        block_size: prepared.block_size,
    };
    let image = btrfs::plan(&prepared.split.runtime, &options)?;
    let squashfs_options = squashfs::Options {
        compression: request.compression,
        block_size: prepared.block_size,
        time: u32::try_from(prepared.time.max(0)).unwrap_or(u32::MAX),
        bcj: prepared.kernels.iter().all(|k| k.bcj),
    };
    let into_cpio = request.layout == Layout::Combined;
    if into_cpio {
        fits(&image, prepared.block_size)?;
    }
    let cores = Cores::new(request.threads);
    let out = tempfile::tempfile().context("making a temporary file for the squashfs")?;
    let target = out.try_clone().context("opening the temporary file for the squashfs again")?;
    let (facts, notes) = (image.facts(), image.notes().to_vec());
    let total = image.len();
    let (front_end, written) = thread::scope(|scope| {
        let make = || front_end(request, prepared, &cores);
        let front_end = thread::Builder::new().spawn_scoped(scope, make);
        let written = squashfs::write(
            &image,
            crate::contract::paths::ROOTFS,
            image.regions(),
            &squashfs_options,
            &cores,
            target,
            &|done| watch(Stage::Compress, done, total),
        );
        let front_end = match front_end {
            Ok(thread) => thread.join().map_err(|_| Error::failed("the boot initramfs could not be made")),
            // No thread is to be had: one after the other.
            Err(_) => Ok(make()),
        };
        (front_end, written)
    });
    let (front_end, packed) = front_end??;
    let written = written?;
    if into_cpio && written.size > NEWC_MAX {
        return Err(too_large(written.size).into());
    }
    Ok(Built { front_end, packed, squashfs: out, facts, notes, written })
}

fn too_large(size: u64) -> Error {
    Error::input(format!("the squashfs has {size} bytes; an entry of a newc cpio holds less than 4 GiB"))
        .hint("use --runtime-from http://… or media:LABEL=…, or --compression xz")
}

/// Fails before the work where the squashfs cannot fit into a cpio: every 64th block is compressed to tell.
fn fits(image: &btrfs::Image, block_size: u32) -> Result<(), Error> {
    let facts = image.facts();
    if facts.data + facts.metadata <= NEWC_MAX {
        return Ok(());
    }
    let (mut sampled, mut packed) = (0_u64, 0_u64);
    let mut block = vec![0; block_size as usize];
    for region in image.regions().iter().filter(|r| r.hint != crate::bytes::Hint::Zero) {
        let step = 64 * block.len() as u64;
        for at in (region.offset..region.offset + region.len).step_by(step as usize) {
            let count = (region.offset + region.len - at).min(block.len() as u64) as usize;
            image
                .read_exact_at(&mut block[..count], at)
                .map_err(|e| Error::input(format!("the runtime's content cannot be read back: {e}")))?;
            sampled += count as u64;
            packed += codec::compress(&block[..count], Encoding::Gzip)?.len() as u64;
        }
    }
    // gzip packs less than any method that squashfs is asked to use by default: half as much again is allowed for.
    let estimate = (facts.data + facts.metadata) as f64 * (packed as f64 / sampled.max(1) as f64);
    if estimate / 1.5 > NEWC_MAX as f64 { Err(too_large(estimate as u64)) } else { Ok(()) }
}

fn front_end(request: &Request, prepared: &Prepared, cores: &Cores) -> Result<(FrontEnd, Vec<u8>), Error> {
    let _core = cores.acquire();
    let plan = prepared.plan(request);
    let front_end = match &prepared.maker {
        Maker::Dracut(found) => dracut::build(found, &plan)?,
        Maker::BuiltIn => built_in::build(&plan)?,
        Maker::File(ready) => {
            let front_end = FrontEnd {
                cpio: Vec::new(),
                maker: ready.path.display().to_string(),
                notes: vec!["taken as it is, byte for byte".into()],
            };
            return Ok((front_end, ready.bytes.clone()));
        }
    };
    let packed = codec::compress(&front_end.cpio, prepared.encoding)?;
    Ok((front_end, packed))
}
