//! What was done → the report.

use super::assemble::Output;
use super::build::Built;
use super::preflight::{Maker, Prepared};
use super::request::{Layout, Request};
use crate::compare;
use crate::contract::Handover;
use crate::error::Error;
use crate::image::classify::Classification;
use crate::initrd::Limits;
use crate::kernel::{KernelModules, Module};
use crate::ram::{self, Facts, Rootfs};
use crate::report::{
    self, Added, Conversion, Folder, FrontEndPart, Identity, ImageFile, KernelPart, ModuleSize, Part,
    Portion, TextDifference, Tool, gather,
};
use crate::tree::Tree;

fn is_systemd(class: &Classification) -> bool {
    class.handover == Handover::Mounted
}

/// The old file: its segments.
fn old_file(request: &Request, prepared: &Prepared) -> ImageFile {
    let image = &prepared.image;
    ImageFile {
        path: request.old.display().to_string(),
        size: image.size,
        parts: gather::parts(&image.segments, image.size, &|_| None),
    }
}

fn portions<'a>(parts: impl Iterator<Item = (&'a String, &'a String, u64, u64)>) -> Vec<Portion> {
    parts
        .map(|(what, why, files, bytes)| Portion { what: what.clone(), why: why.clone(), files, bytes })
        .collect()
}

/// The report before the slow work.
pub(super) fn dry_run(request: &Request, prepared: &Prepared) -> Result<Conversion, Error> {
    let split = &prepared.split;
    let additions =
        split.additions.iter().map(|a| Added { path: a.path.clone(), why: a.why.clone() }).collect();
    Ok(Conversion {
        schema_version: report::SCHEMA_VERSION,
        tool: Tool::default(),
        dry_run: true,
        old: old_file(request, prepared),
        new: None,
        identity: Identity::from(&prepared.class),
        choices: prepared.choices.clone(),
        front_end: None,
        ram_before: ram::monolith(&prepared.image, is_systemd(&prepared.class)).ram(Rootfs::Tmpfs),
        ram_after: None,
        boot: portions(split.boot.iter().map(|p| (&p.what, &p.why, p.files, p.bytes))),
        runtime: portions(split.runtime_parts.iter().map(|p| (&p.what, &p.why, p.files, p.bytes))),
        folders: Folder::map(&split.runtime),
        additions,
        text_differences: Vec::new(),
        notes: prepared.notes.clone(),
        timings: None,
        budgets: Vec::new(),
    })
}

/// The whole report.
pub(super) fn done(
    request: &Request,
    prepared: &Prepared,
    built: &Built,
    output: &mut Output,
) -> Result<Conversion, Error> {
    let mut report = dry_run(request, prepared)?;
    report.dry_run = false;
    let parts = &output.parts;
    let squashfs = if output.runtime.is_none() { built.written.size } else { 0 };
    let runtime = output.runtime.as_ref().map_or(0, |(_, bytes)| *bytes);
    let total = parts.total + runtime;
    let small = parts.squashfs_cpio - squashfs;
    report.new = Some(ImageFile {
        path: request.new.display().to_string(),
        size: total,
        parts: Part::list(
            total,
            [
                (
                    "early cpio",
                    parts.early,
                    "what the kernel reads before it unpacks anything, byte for byte",
                ),
                ("squashfs.img", squashfs, "the runtime: LiveOS/rootfs.img, a btrfs file system"),
                ("cpio around it", small, "headers, padding, /etc/cmdline.d"),
                ("front-end", parts.front_end, "mounts the runtime and hands over to it"),
                ("boot configuration", parts.bootconfig, "as it was, byte for byte"),
                ("squashfs.img, apart", runtime, "the runtime: LiveOS/rootfs.img, a btrfs file system"),
            ],
        ),
    });
    report.front_end = Some(front_end(prepared, built));
    report.text_differences = text_differences(prepared, built)?;
    let facts = new_facts(request, output)?;
    report.ram_after = Some(facts.ram(Rootfs::Tmpfs));
    report.notes.push(format!(
        "btrfs: {} of data and {} of metadata; {} of content is stored once for several files",
        report::units::size(built.facts.data),
        report::units::size(built.facts.metadata),
        report::units::size(built.facts.shared),
    ));
    report.notes.extend(built.notes.iter().cloned());
    if request.layout == Layout::Split {
        report.notes.extend(super::delivery::notes(request, output.parts.total));
    }
    Ok(report)
}

fn front_end(prepared: &Prepared, built: &Built) -> FrontEndPart {
    let (encoding, unpacked, kernels) = match &prepared.maker {
        Maker::File(ready) => {
            let segments = &ready.image.segments;
            let mut encodings: Vec<String> = segments.iter().map(|s| s.encoding.to_string()).collect();
            encodings.dedup();
            (encodings.join(", "), segments.iter().map(|s| s.unpacked).sum(), &[][..])
        }
        Maker::Dracut(_) | Maker::BuiltIn => {
            (prepared.encoding.to_string(), built.front_end.cpio.len() as u64, &prepared.modules[..])
        }
    };
    let kernel = |kernel: &KernelModules| {
        let size = |m: &Module| ModuleSize { name: m.name.clone(), bytes: m.elf.len() as u64 };
        KernelPart {
            version: kernel.version.clone(),
            bytes: kernel.modules.iter().map(|m| m.elf.len() as u64).sum(),
            modules: kernel.modules.iter().map(size).collect(),
        }
    };
    FrontEndPart {
        maker: built.front_end.maker.clone(),
        encoding,
        compressed: built.packed.len() as u64,
        unpacked,
        kernels: kernels.iter().map(kernel).collect(),
        notes: built.front_end.notes.clone(),
    }
}

/// What the model has to know about the new image: it is read as it was written, so that `inspect` says the same.
fn new_facts(request: &Request, output: &mut Output) -> Result<Facts, Error> {
    let file = output.image.read_back()?;
    // The user's limits are for the old image.
    let image = crate::initrd::read(&file, &request.new, &Limits::default(), &|_| ())?;
    Ok(ram::converted(&image))
}

/// So many lines of unified diffs are shown at most: the report is a list of what differs, not the files themselves.
const DIFF_LINES: usize = 120;

/// Text files of the front-end that stand at the path of another in the old image. The runtime's own are its files,
/// byte for byte, which `verify` proves.
fn text_differences(prepared: &Prepared, built: &Built) -> Result<Vec<TextDifference>, Error> {
    if built.front_end.cpio.is_empty() {
        return Ok(Vec::new());
    }
    let name = std::path::Path::new("the front-end");
    let front = crate::initrd::read(&built.front_end.cpio, name, &Limits::default(), &|_| ())?.tree;
    let old = &prepared.image.tree;
    let mut left = DIFF_LINES;
    let mut differences = Vec::new();
    for entry in front.walk() {
        let Some(was) = old.get(&entry.path) else { continue };
        let text = |tree: &Tree, id| tree.read(id, compare::TEXT_LIMIT).ok().flatten();
        let Some((was, is)) = text(old, was).zip(text(&front, entry.id)) else { continue };
        if was == is {
            continue;
        }
        let Some(mut found) = compare::text_difference(&entry.path, &was, &is) else { continue };
        let kept: Vec<&str> = found.diff.split_inclusive('\n').take(left).collect();
        left -= kept.len();
        let kept = kept.concat();
        found.truncated |= kept.len() < found.diff.len();
        found.diff = kept;
        differences.push(found);
    }
    Ok(differences)
}
