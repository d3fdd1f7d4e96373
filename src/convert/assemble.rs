//! Puts the parts together: the new image, and the files next to it when the runtime is kept separate.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use super::build::Built;
use super::delivery;
use super::layout::{self, Carry, Image};
use super::maker::Maker;
use super::preflight::Prepared;
use super::request::{Layout, Request};
use super::result::RuntimeFacts;
use crate::bytes::{ReadAt, Slice, pieces};
use crate::compare;
use crate::contract::cmdline;
use crate::contract::paths::CMDLINE;
use crate::contract::{Overlay, RuntimeFormat, RuntimeFrom};
use crate::error::{Error, Kind};
use crate::frontend::{self, built_in, dracut};
use crate::image::{entries_file, runtime_file};
use crate::initrd;
use crate::output::OutputFile;
use crate::ram::Machine;

/// The files written so far. They have no names yet.
pub(super) struct Output {
    pub(super) image: OutputFile,
    /// The initrd, if the image is something around it.
    pub(super) initrd: Option<File>,
    pub(super) parts: layout::Parts,
    /// The files next to the image; the runtime is the first.
    beside: Vec<OutputFile>,
    /// Path and size in bytes of the runtime, when it is one of them.
    pub(super) runtime: Option<(PathBuf, u64)>,
}

impl Output {
    /// All of the files, the image last.
    pub(super) fn files(self) -> Vec<OutputFile> {
        let mut files = self.beside;
        files.push(self.image);
        files
    }
}

/// Writes the new image, and the runtime and boot loader entries next to it when they are separate files.
pub(super) fn write(request: &Request, prepared: &Prepared, built: &Built) -> anyhow::Result<Output> {
    let early: Vec<_> =
        prepared.image.segments.iter().filter(|s| s.early).map(initrd::Segment::range).collect();
    let split = request.layout == Layout::Split;
    let carry = if request.runtime == RuntimeFrom::Retained { Carry::Retained } else { Carry::Regular };
    let cmdline = command_line(request, prepared, built);
    let checksum = checksum(request, prepared, built)?;
    let extra = |offset: u64| {
        let mut files = Vec::new();
        // dracut would read it in the place of its own root=.
        if !matches!(prepared.maker, Maker::Kept(_)) {
            files.push((CMDLINE.to_owned(), cmdline.clone().into_bytes()));
        }
        files.extend(checksum.clone());
        if carry == Carry::Retained {
            files.push(frontend::retained_file(offset, built.written.size));
        }
        files
    };
    let parts = Image {
        old: prepared.source.as_ref(),
        early: &early,
        early_bodies: &prepared.image.early_bodies,
        bootconfig: prepared.image.bootconfig.clone(),
        squashfs: (!split).then_some((&built.squashfs as &dyn ReadAt, carry)),
        extra: &extra,
        front_end: &built.packed,
        time: prepared.time,
    };
    let mut image = OutputFile::create(&request.new, request.output_options())?;
    let failed = |e| Error::writing(e).file(&request.new);
    let mut output = match &prepared.wrapper {
        None => {
            let parts = parts.write(&mut image).map_err(failed)?;
            Output { image, initrd: None, parts, beside: Vec::new(), runtime: None }
        }
        Some(wrapper) => {
            let mut initrd = tempfile::tempfile().map_err(Error::temporary)?;
            let mut parts = parts.write(&mut initrd).map_err(Error::temporary)?;
            let size = wrapper.write(&initrd, &prepared.init, &mut image).map_err(failed)?;
            parts.around = size - parts.total;
            parts.total = size;
            Output { image, initrd: Some(initrd), parts, beside: Vec::new(), runtime: None }
        }
    };
    if split {
        separate(request, &prepared.machine, built, &mut output)?;
    }
    Ok(output)
}

/// Reads back what was written, before it gets its name: the boot initramfs byte for byte, and the runtime as verify does,
/// with the checksums of every block. [`super::result::done`] reads the rest: it opens the image as inspect does.
pub(super) fn read_back(request: &Request, built: &Built, output: &mut Output) -> Result<(), Error> {
    let damaged = |path: &Path| {
        Error::new(Kind::Io, "what was written is not what can be read back")
            .file(path)
            .hint("check the disk and the memory of this machine; nothing was kept of the new image")
    };
    let image = match &output.initrd {
        Some(initrd) => initrd.try_clone().map_err(Error::temporary)?,
        None => output.image.read_back()?,
    };
    let image: Arc<dyn ReadAt> = Arc::new(image);
    let start = output.parts.early + output.parts.squashfs_cpio;
    let mut at = 0;
    let same = pieces(image.as_ref(), start..start + output.parts.front_end, |piece| {
        let same = built.packed.get(at..at + piece.len()) == Some(piece);
        at += piece.len();
        if same { Ok(()) } else { Err(io::Error::other(format!("byte {} differs", start + at as u64))) }
    });
    same.map_err(|e| damaged(&request.new).caused_by(e))?;
    let size = built.written.size;
    let (squashfs, path): (Arc<dyn ReadAt>, &Path) = match (output.beside.first_mut(), &output.runtime) {
        (Some(file), Some((path, _))) => (Arc::new(file.read_back()?), path),
        _ => {
            let offset = output.parts.squashfs_offset;
            (Arc::new(Slice::new(image, offset..offset + size)), &request.new)
        }
    };
    // Of an initramfs that stays, the squashfs holds a file of any kind.
    let btrfs = matches!(built.facts, RuntimeFacts::Btrfs(_));
    compare::read_runtime(&squashfs, btrfs, path).map_err(|e| damaged(path).caused_by(e))
}

/// Changes a byte of the new image behind the writer's back, as a failing disk would.
#[cfg(debug_assertions)]
pub(super) fn flip_for_a_test(output: &mut Output) -> io::Result<()> {
    let Some(at) = std::env::var("BTRSQUASH_TEST_FLIP").ok().and_then(|at| at.parse().ok()) else {
        return Ok(());
    };
    let file = output.image.read_back().map_err(io::Error::other)?;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &[!byte[0]], at)
}

/// Writes the runtime and the boot loader entries to files of their own.
fn separate(request: &Request, machine: &Machine, built: &Built, output: &mut Output) -> anyhow::Result<()> {
    let path = runtime_file(&request.new);
    let mut file = OutputFile::create(&path, request.output_options())?;
    let mut squashfs = &built.squashfs;
    squashfs.rewind().context("reading the squashfs back")?;
    let bytes = std::io::copy(&mut squashfs, &mut file).context("copying the squashfs")?;
    file.flush().context("copying the squashfs")?;
    output.beside.push(file);
    let entries = entries_file(&request.new);
    let mut file = OutputFile::create(&entries, request.output_options())?;
    file.write_all(delivery::entries(request, machine, &path).as_bytes())
        .map_err(|e| Error::writing(e).file(&entries))?;
    output.beside.push(file);
    output.runtime = Some((path, bytes));
    Ok(())
}

/// The file with the checksum of the squashfs, for the boot initramfs that checks it: of one that travels in the image, and
/// of one that btrsquash's own boot initramfs fetches.
fn checksum(
    request: &Request,
    prepared: &Prepared,
    built: &Built,
) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    let of: fn(&mut dyn io::Read) -> io::Result<(String, Vec<u8>)> = match (&request.runtime, &prepared.maker)
    {
        (_, Maker::File(_)) => return Ok(None),
        (RuntimeFrom::Initramfs | RuntimeFrom::Retained, _) => frontend::checksum_file,
        (RuntimeFrom::Network(_), Maker::BuiltIn) => frontend::fetched_file,
        _ => return Ok(None),
    };
    let mut squashfs = &built.squashfs;
    squashfs.rewind().context("reading the squashfs back")?;
    Ok(Some(of(&mut squashfs).context("reading the squashfs back")?))
}

/// The size of the device for what is written, in MiB: that of a runtime of so many bytes and of the snapshot's own
/// metadata, 16 bytes for each chunk of 4 KiB (drivers/md/dm-snap-persistent.c). It then never fills up, and is not the 32
/// GiB of dracut's default, which look like a disk to install on.
fn overlay_size(runtime: u64) -> String {
    let mib = ((runtime + runtime / 256) >> 20) + 4;
    format!(" rd.live.overlay.size={mib}")
}

/// The content of the file in /etc/cmdline.d: where the root is, how it becomes writable, the user's own arguments, and of
/// a runtime in a separate file the size, if it is in RAM, and how it is packed.
fn command_line(request: &Request, prepared: &Prepared, built: &Built) -> String {
    let plan = prepared.plan(request);
    let mut line = match &prepared.maker {
        Maker::Dracut(_) | Maker::File(_) => dracut::cmdline(&plan, Some(&request.cmdline)),
        Maker::BuiltIn | Maker::Kept(_) => format!("{} {}", built_in::cmdline(&plan), request.cmdline),
    };
    line.truncate(line.trim_end().len());
    if matches!(prepared.maker, Maker::Dracut(_))
        && !request.cmdline.contains("overlay.size=")
        && (prepared.overlay, prepared.format) == (Overlay::DeviceMapper, RuntimeFormat::Btrfs)
    {
        line.push_str(&overlay_size(built.written.content));
    }
    let in_ram = match request.runtime {
        RuntimeFrom::Network(_) => Some(cmdline::FETCHED),
        RuntimeFrom::Initramfs if request.layout == Layout::Split => Some(cmdline::LOADED_TOGETHER),
        _ => None,
    };
    if let Some(word) = in_ram {
        line.push_str(&format!(" {word}{}", built.written.size));
    }
    if request.layout == Layout::Split {
        line.push_str(&format!(" {}{},{}", cmdline::PACKING, prepared.compression, prepared.block_size));
    }
    line.push('\n');
    line
}
