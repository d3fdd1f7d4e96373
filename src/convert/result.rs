//! The result of a conversion.

use std::path::PathBuf;
use std::sync::Arc;

use super::assemble::Output;
use super::build::Built;
use super::choices::Choice;
use super::layout;
use super::maker::Maker;
use super::preflight::Prepared;
use super::request::Request;
use crate::codec::Encoding;
use crate::compare;
use crate::container::Input;
use crate::error::Error;
use crate::frontend;
use crate::image::classify::Classification;
use crate::image::split::Split;
use crate::image::{self, Opened, Part};
use crate::initrd::Limits;
use crate::packages::{Accounts, PackageMap, Packages, Shares};
use crate::ram::{Facts, Machine, Packing};
use crate::tree::{Tree, display};
use crate::{btrfs, squashfs};

/// Something about a conversion that the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// What a reader, the kernel preflight or the file system writer found, a sentence.
    Found(String),
    /// The new image starts the old init, which `rdinit=` named until now.
    NoRdinit(String),
    /// Nothing in the given front-end shows that it can mount a live image.
    NoLiveModule(PathBuf),
    /// What `--optimize ram` would do, which was not asked for.
    LessMemory {
        /// The minimum memory with the built-in front-end instead of dracut's and all else as it is, bytes, computed;
        /// `None` if the front-end is the built-in one.
        built_in: Option<u64>,
    },
}

/// The old image.
#[derive(Debug, Clone)]
pub struct Old {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its parts.
    pub parts: Vec<Part>,
    /// What it is.
    pub class: Classification,
    /// What the RAM model has to know.
    pub facts: Facts,
}

/// A kernel module in the front-end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSize {
    /// Its name.
    pub name: String,
    /// Bytes, uncompressed.
    pub bytes: u64,
}

/// The new front-end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontEndPart {
    /// Its maker: `dracut 059`, `built-in`, a file's name.
    pub maker: String,
    /// How its segments are packed.
    pub encodings: Vec<Encoding>,
    /// Bytes in the image.
    pub compressed: u64,
    /// Bytes of the unpacked archives.
    pub unpacked: u64,
    /// The modules of each kernel, in the order in which they are loaded.
    pub kernels: Vec<(String, Vec<ModuleSize>)>,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}

/// Sizes of the runtime's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeFacts {
    /// btrfs inside the squashfs.
    Btrfs(btrfs::Facts),
    /// The squashfs itself.
    Squashfs(squashfs::Facts),
}

/// The new image.
#[derive(Debug, Clone)]
pub struct New {
    /// Sizes of the parts of the image.
    pub parts: layout::Parts,
    /// Bytes of the squashfs.
    pub squashfs: u64,
    /// The file with the runtime and the file with boot loader entries, if the runtime is separate.
    pub separate: Option<(PathBuf, PathBuf)>,
    /// The front-end.
    pub front_end: FrontEndPart,
    /// Sizes of the runtime's file system.
    pub runtime: RuntimeFacts,
    /// What the RAM model has to know: the image is read as it was written, so that `inspect` says the same.
    pub facts: Facts,
    /// The system as the squashfs holds it.
    pub system: Stored,
}

/// A system in an image.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its files.
    pub tree: Tree,
    /// Bytes of the image that hold each of them.
    pub shares: Shares,
    /// Its packages and what they cost; `None` if their database is damaged, which a note says.
    pub packages: Option<(Packages, Accounts)>,
}

impl Stored {
    /// The system of `image`, and why its packages are not known.
    fn of(image: Opened, map: Option<&PackageMap>) -> (Self, Option<Note>) {
        let shares = Shares::of(&image);
        let (packages, damage) = match Packages::read(&image.system, map) {
            Ok(packages) => {
                let accounts = shares.accounts(&image.system, &packages);
                (Some((packages, accounts)), None)
            }
            // The image is good: it holds the damaged database of the old one.
            Err(e) => (None, Some(Note::Found(e.to_string()))),
        };
        (Self { tree: image.system, shares, packages }, damage)
    }
}

/// What a conversion did, or would do.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The old image.
    pub old: Old,
    /// The path of the new image.
    pub path: PathBuf,
    /// The new image; `None` in a dry run.
    pub new: Option<New>,
    /// The machine that the new image is meant for.
    pub machine: Machine,
    /// What was chosen.
    pub choices: Vec<Choice>,
    /// What went where.
    pub split: Split,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// What was compared, if the new image was verified.
    pub verified: Option<Verified>,
}

/// How much of the old image was compared with the new one, and found the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Paths.
    pub paths: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// The result before the slow work.
pub(super) fn dry_run(request: &Request, prepared: Prepared) -> Conversion {
    Conversion {
        old: prepared.old,
        path: request.new.clone(),
        new: None,
        machine: prepared.machine,
        choices: prepared.choices,
        split: prepared.split,
        notes: prepared.notes,
        verified: None,
    }
}

/// The whole result.
pub(super) fn done(
    request: &Request,
    input: &Input,
    prepared: Prepared,
    built: Built,
    output: &mut Output,
) -> Result<Conversion, Error> {
    let image = open(request, output)?;
    let facts = facts(request, &prepared, &image)?;
    let verified = request.verify.then(|| verify(request, input, &image)).transpose()?;
    let (system, damage) = Stored::of(with_runtime(image, &built, output)?, request.package_map.as_ref());
    let new = New {
        parts: output.parts,
        squashfs: built.written.size,
        separate: output
            .runtime
            .is_some()
            .then(|| (image::runtime_file(&request.new), image::entries_file(&request.new))),
        front_end: front_end(request, &prepared, &built),
        runtime: built.facts,
        facts,
        system,
    };
    let less = less_memory(request, &prepared, &built, &new.facts);
    let built_notes = built.notes;
    let next_steps =
        prepared.wrapper.as_ref().map_or_else(Vec::new, |wrapper| wrapper.next_steps(&request.new));
    let mut conversion = dry_run(request, prepared);
    conversion.notes.extend(next_steps.into_iter().map(Note::Found));
    conversion.notes.extend(built_notes.into_iter().map(Note::Found));
    conversion.notes.extend(damage);
    conversion.notes.extend(less);
    conversion.new = Some(new);
    conversion.verified = verified;
    Ok(conversion)
}

fn front_end(request: &Request, prepared: &Prepared, built: &Built) -> FrontEndPart {
    let (encodings, unpacked, kernels) = match &prepared.maker {
        Maker::File(ready) => {
            let segments = &ready.image.segments;
            let mut encodings: Vec<Encoding> = segments.iter().map(|s| s.encoding).collect();
            encodings.dedup();
            (encodings, segments.iter().map(|s| s.unpacked).sum(), &[][..])
        }
        Maker::Dracut(_) | Maker::BuiltIn | Maker::Kept(_) => {
            (vec![prepared.encoding], built.front_end.cpio.len() as u64, &prepared.modules[..])
        }
    };
    let size = |module: &crate::kernel::Module| ModuleSize {
        name: module.name.clone(),
        bytes: module.elf.len() as u64,
    };
    let plan = prepared.plan(request);
    FrontEndPart {
        maker: built.front_end.maker.clone(),
        encodings,
        compressed: built.packed.len() as u64,
        unpacked,
        kernels: kernels
            .iter()
            .map(|kernel| (kernel.version.clone(), plan.divide(kernel).0.iter().map(size).collect()))
            .collect(),
        notes: built.front_end.notes.clone(),
    }
}

/// The note on `--optimize ram`, unless the user said what the image is to be best at or chose all that it decides on.
fn less_memory(request: &Request, prepared: &Prepared, built: &Built, facts: &Facts) -> Option<Note> {
    let reached = frontend::built_in::check_runtime(&request.runtime).is_ok();
    let free = request.optimize.is_none() && reached && request.format.is_none();
    if free && matches!(prepared.maker, Maker::BuiltIn) {
        return Some(Note::LessMemory { built_in: None });
    }
    let (unpacked, packed) = built.built_in?;
    let changed = |all: u64, old: &[u8], new: u64| (all + new).saturating_sub(old.len() as u64);
    let other = Facts {
        // Only the built-in one has a place apart from rootfs for what it fetches.
        apart: facts.fetched > 0,
        unpacked: changed(facts.unpacked, &built.front_end.cpio, unpacked),
        file: changed(facts.file, &built.packed, packed),
        ..*facts
    };
    let (now, then) = (facts.minimum(&prepared.machine), other.minimum(&prepared.machine));
    (then < now).then_some(Note::LessMemory { built_in: Some(then) })
}

/// The user's limits are for the old image.
const LIMITS: Limits = Limits { max_unpacked: u64::MAX, accept_partial: false };

/// What holds the system: the new image, or the squashfs next to it.
fn with_runtime(image: Opened, built: &Built, output: &Output) -> Result<Opened, Error> {
    match &output.runtime {
        Some((path, _)) => {
            let squashfs = built.squashfs.try_clone().map_err(Error::temporary)?;
            image::read(Arc::new(squashfs), path, &LIMITS, &|_| ())
        }
        None => Ok(image),
    }
}

/// The new image, opened as it was written.
fn open(request: &Request, output: &mut Output) -> Result<Opened, Error> {
    let file = match output.initrd.take() {
        Some(initrd) => initrd,
        None => output.image.read_back()?,
    };
    image::read(Arc::new(file), &request.new, &LIMITS, &|_| ())
}

/// Compares every path of the old image with the new one.
///
/// # Errors
/// [`crate::error::Kind::Failed`] if they differ.
fn verify(request: &Request, input: &Input, new: &Opened) -> Result<Verified, Error> {
    let old = image::of(input, &request.limits, &|_| ())?;
    let found = compare::verify(&old, new)?;
    if found.holds() {
        return Ok(Verified { paths: found.compared, bytes: found.bytes });
    }
    let missing = found.missing.iter().chain(&found.unexpected).map(|item| item.path.clone());
    let changed = found.changed.iter().map(|pair| display(&pair.path));
    let paths: Vec<String> = missing.chain(changed).take(3).collect();
    let all = found.missing.len() + found.unexpected.len() + found.changed.len();
    Err(Error::failed(format!(
        "the new image would not hold the same system: {all} paths differ, such as {}",
        paths.join(", ")
    ))
    .file(&request.new)
    .hint(
        "please report this; convert without --verify and compare with btrsquash verify to see all of them",
    ))
}

/// What the RAM model has to know about the new image.
fn facts(request: &Request, prepared: &Prepared, image: &Opened) -> Result<Facts, Error> {
    let facts = Facts::of(image, &prepared.machine.kernel).ok_or_else(|| {
        Error::input("the new image is not the initrd that it should be: please report this")
            .file(&request.new)
    })?;
    // Also that of a squashfs which is not in the image.
    let block = u64::from(prepared.block_size);
    Ok(Facts { packing: Some(Packing { compression: prepared.compression, block }), ..facts })
}
