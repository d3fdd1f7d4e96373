//! Any image, opened: an initrd, converted or not, or a bare file system image → the system that is inside.
//!
//! Nothing is mounted and nothing is copied: the content of a converted image is unpacked when it is read, through
//! cpio, squashfs and btrfs, a block at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::btrfs;
use crate::bytes::{ReadAt, Slice};
use crate::container::{self, Input};
use crate::error::Error;
use crate::image::archives;
use crate::image::classify::{self, Classification, InsideKind, Sign, Verdict, classify};
use crate::image::embedded::{Body, Carried, carried, rootfs};
use crate::image::in_place;
use crate::image::overlay::{self, Appended};
use crate::initrd::{self, Initrd, Limits};
use crate::squashfs;
use crate::tree::{Node, Tree, display};

/// Squashfs images in one another are opened to this depth.
const MAX_LAYERS: usize = 4;

/// The format of a file system image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// squashfs.
    Squashfs,
    /// btrfs.
    Btrfs,
    /// ISO 9660.
    Iso,
    /// tar.
    Tar,
    /// cpio.
    Cpio,
}

impl Format {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Btrfs => "btrfs",
            Self::Iso => "ISO 9660",
            Self::Tar => "tar",
            Self::Cpio => "cpio",
        }
    }
}

/// A file system image inside an image.
pub struct FileSystem {
    /// Its format.
    pub format: Format,
    /// The path of the file that holds it, escaped for display; empty if it is the whole image file.
    pub path: String,
    /// Its name in errors.
    pub name: PathBuf,
    /// Its bytes.
    pub source: Arc<dyn ReadAt>,
    /// What is in it.
    pub tree: Tree,
}

/// What was appended to a converted image.
#[derive(Debug, Default)]
pub struct Additional {
    /// Numbers of the segments that are neither early nor of the conversion's making.
    pub segments: Vec<usize>,
    /// How many paths of the system are theirs.
    pub paths: u64,
    /// Whether they bring an /init, which the kernel starts in place of the boot initramfs's own.
    pub init: bool,
}

/// Something about an image that its user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// What the reader of the initrd found, a sentence.
    Initrd(String),
    /// The runtime is in a separate file, so that only the boot initramfs was opened.
    RuntimeSeparate,
    /// The front-end is not one of btrsquash's: which appended files it copies into the runtime is not known.
    ForeignFrontEnd,
    /// So many paths of appended archives are laid over the runtime.
    Overlaid(u64),
    /// Archives were appended, and none of their files goes into the runtime.
    NothingOverlaid,
    /// So many appended paths cannot be laid over the runtime, because something of another type is in their way; the
    /// first of them.
    NotOverlaid(u64, Vec<u8>),
    /// An appended /init starts instead of that of the boot initramfs.
    AppendedInit,
    /// The file that should hold the root file system is not a btrfs file system.
    NotBtrfs(&'static str),
    /// A file system image inside that cannot be read: its path, and why.
    Unreadable(String, String),
}

impl Note {
    /// Whether it is about archives that were appended to the image.
    #[must_use]
    pub const fn is_about_appended(&self) -> bool {
        matches!(self, Self::Overlaid(_) | Self::NothingOverlaid | Self::NotOverlaid(..) | Self::AppendedInit)
    }
}

/// An image that was opened.
pub struct Opened {
    /// The file, as the user named it.
    pub name: PathBuf,
    /// Its bytes.
    pub source: Arc<dyn ReadAt>,
    /// The image as the kernel unpacks it; `None` for a bare file system image.
    pub initrd: Option<Initrd>,
    /// The squashfs that the initrd carries, where its system lies in there.
    pub carried: Option<Carried>,
    /// The file systems inside, outermost first.
    pub layers: Vec<FileSystem>,
    /// The system: the innermost tree, and over it what the front-end carries into it at boot.
    pub system: Tree,
    /// What was appended to the image after its conversion.
    pub appended: Additional,
    /// Whether the image was converted and its runtime is elsewhere: the system is then that of the front-end.
    pub apart: bool,
    /// The initramfs as it was before a conversion that left it as it is, with its system in a file inside.
    pub kept: Option<Tree>,
    /// What the image is; `None` for a bare file system image.
    pub verdict: Option<Verdict>,
    /// What the system is.
    pub class: Classification,
    /// The evidence for the verdict; none for a bare file system image.
    pub why: Vec<Sign>,
    /// What else its user should know.
    pub notes: Vec<Note>,
}

/// Opens the image `path`; `progress` is called with the number of bytes read.
///
/// # Errors
/// [`crate::error::Kind::Input`] where it is none of the kinds of image that can be opened, or is damaged.
pub fn open(path: &Path, limits: &Limits, progress: &dyn Fn(u64)) -> Result<Opened, Error> {
    let input = container::open(&in_boot_order(path), limits)?;
    let mut opened = of(&input, limits, progress)?;
    opened.notes.splice(0..0, input.notes.iter().cloned().map(Note::Initrd));
    opened.name = path.to_owned();
    input.check_unchanged()?;
    Ok(opened)
}

/// Opens the image in `input`, without the notes on what it is packed in.
///
/// # Errors
/// As [`open`].
pub fn of(input: &Input, limits: &Limits, progress: &dyn Fn(u64)) -> Result<Opened, Error> {
    read(Arc::clone(&input.initrd), &input.name, limits, progress)
}

/// The files that `path` names: itself, or several in boot order with `+` between, if there are such files.
fn in_boot_order(path: &Path) -> Vec<PathBuf> {
    let parts: Vec<PathBuf> =
        path.to_str().map_or_else(Vec::new, |text| text.split('+').map(PathBuf::from).collect());
    if parts.len() > 1 && !path.exists() && parts.iter().all(|part| part.is_file()) {
        parts
    } else {
        vec![path.to_owned()]
    }
}

/// Opens the image with the bytes `source`; `name` is its name in errors.
///
/// # Errors
/// As [`open`].
pub fn read(
    source: Arc<dyn ReadAt>,
    name: &Path,
    limits: &Limits,
    progress: &dyn Fn(u64),
) -> Result<Opened, Error> {
    let mut layers = Layers { limits, list: Vec::new(), notes: Vec::new() };
    if squashfs::is_squashfs(source.as_ref()) {
        let system = layers.squashfs(Arc::clone(&source), String::new(), name.to_owned())?;
        return Ok(bare(source, name, layers, system));
    }
    if btrfs::is_btrfs(source.as_ref()) {
        let system = layers.btrfs(Arc::clone(&source), String::new(), name.to_owned())?;
        return Ok(bare(source, name, layers, system));
    }
    let initrd = initrd::read(source.as_ref(), name, limits, progress)?;
    let outer = classify(&initrd);
    let carried = carried(&initrd);
    layers.notes.extend(initrd.notes.iter().cloned().map(Note::Initrd));
    let apart = carried.is_none() && matches!(outer.verdict, Verdict::Converted(_));
    let (mut additional, mut kept) = (Additional::default(), None);
    let (system, class) = match &carried {
        None => {
            if apart {
                additional.segments = Appended::of(&initrd).map_or_else(Vec::new, |it| it.segments());
                layers.notes.push(Note::RuntimeSeparate);
            }
            let system = layers.system_inside(&initrd.tree, &outer, name);
            (system.unwrap_or_else(|| initrd.tree.clone()), outer.clone())
        }
        Some(carried) => {
            let path = display(&carried.path);
            let inner: Arc<dyn ReadAt> = match &carried.body {
                Body::File(id) => squashfs::file(&initrd.tree, *id)
                    .ok_or_else(|| Error::input(format!("/{path} is not a regular file")).file(name))?,
                Body::Skipped(range) => Arc::new(Slice::new(Arc::clone(&source), range.clone())),
            };
            let within = inside(name, &path);
            let runtime = layers.squashfs(inner, path, within)?;
            let system;
            let in_place = overlay::config(&initrd.tree).and_then(|(config, _)| config.in_place);
            if let Some(path) = in_place {
                let outer = layers.list.first().map(|layer| &layer.tree);
                kept = outer.and_then(|outer| in_place::restore(&initrd.tree, &path, outer));
                system = runtime;
            } else {
                (system, additional) = with_appended(&initrd, runtime, &mut layers.notes);
            }
            let class = classify::runtime(&system);
            (system, class)
        }
    };
    Ok(Opened {
        name: name.to_owned(),
        source,
        initrd: Some(initrd),
        carried,
        layers: layers.list,
        system,
        appended: additional,
        apart,
        kept,
        verdict: Some(outer.verdict),
        class,
        why: outer.signs,
        notes: layers.notes,
    })
}

/// The runtime with what was appended to the image laid over it, and the notes on that.
fn with_appended(initrd: &Initrd, runtime: Tree, notes: &mut Vec<Note>) -> (Tree, Additional) {
    let Some(appended) = Appended::of(initrd) else {
        notes.push(Note::ForeignFrontEnd);
        return (runtime, Additional::default());
    };
    let over = appended.over(runtime);
    let found = Additional {
        segments: appended.segments(),
        paths: over.paths.len() as u64,
        init: appended.takes_over(),
    };
    if found.paths > 0 {
        notes.push(Note::Overlaid(found.paths));
    } else if !found.segments.is_empty() {
        notes.push(Note::NothingOverlaid);
    }
    if let Some(first) = over.failed.first() {
        notes.push(Note::NotOverlaid(over.failed.len() as u64, first.clone()));
    }
    if found.init {
        notes.push(Note::AppendedInit);
    }
    (over.system, found)
}

/// `IMAGE:PATH`: the name of a file inside an image in errors.
fn inside(image: &Path, path: &str) -> PathBuf {
    PathBuf::from(format!("{}:/{}", image.display(), path.trim_start_matches('/')))
}

fn bare(source: Arc<dyn ReadAt>, name: &Path, layers: Layers<'_>, system: Tree) -> Opened {
    let class = classify(&Initrd::of_tree(system.clone()));
    Opened {
        name: name.to_owned(),
        source,
        initrd: None,
        carried: None,
        layers: layers.list,
        system,
        appended: Additional::default(),
        apart: false,
        kept: None,
        verdict: None,
        class,
        why: Vec::new(),
        notes: layers.notes,
    }
}

/// The file systems while they are being opened.
struct Layers<'a> {
    limits: &'a Limits,
    list: Vec<FileSystem>,
    notes: Vec<Note>,
}

impl Layers<'_> {
    /// Opens a squashfs and what is inside it; gives the innermost tree.
    fn squashfs(&mut self, source: Arc<dyn ReadAt>, path: String, name: PathBuf) -> Result<Tree, Error> {
        let tree = squashfs::read(Arc::clone(&source), &name)?;
        self.bounded(&tree, &name)?;
        let inner = rootfs(&tree).and_then(|(path, id)| Some((path, squashfs::file(&tree, id)?)));
        self.list.push(FileSystem {
            format: Format::Squashfs,
            path,
            name: name.clone(),
            source,
            tree: tree.clone(),
        });
        match inner {
            Some((path, file)) if btrfs::is_btrfs(file.as_ref()) => {
                self.btrfs(file, path.to_owned(), inside(&name, path))
            }
            Some((path, file)) if squashfs::is_squashfs(file.as_ref()) && self.list.len() < MAX_LAYERS => {
                self.squashfs(file, path.to_owned(), inside(&name, path))
            }
            Some((path, _)) => {
                self.notes.push(Note::NotBtrfs(path));
                Ok(tree)
            }
            None => Ok(tree),
        }
    }

    /// Opens the file that holds the system of an initramfs, if it can be read; gives the innermost tree.
    fn system_inside(&mut self, outer: &Tree, class: &Classification, name: &Path) -> Option<Tree> {
        if !matches!(class.verdict, Verdict::SystemInside(_)) {
            return None;
        }
        let largest = class.inside.first()?;
        let source: Arc<dyn ReadAt> = squashfs::file(outer, largest.id)?;
        let (path, within) = (largest.path.trim_start_matches('/').to_owned(), inside(name, &largest.path));
        let found = match (largest.kind, largest.compressed) {
            (InsideKind::Squashfs, false) => self.squashfs(source, path, within),
            (InsideKind::Btrfs, false) => self.btrfs(source, path, within),
            (InsideKind::Tar, _) => self.archive(Format::Tar, source, largest.compressed, path, within),
            (InsideKind::Iso, _) => self.archive(Format::Iso, source, largest.compressed, path, within),
            (InsideKind::Cpio, _) => self.archive(Format::Cpio, source, largest.compressed, path, within),
            _ => return None,
        };
        found.map_err(|error| self.notes.push(Note::Unreadable(largest.path.clone(), error.to_string()))).ok()
    }

    /// Opens an archive or an ISO image, unpacked if need be.
    fn archive(
        &mut self,
        format: Format,
        mut source: Arc<dyn ReadAt>,
        compressed: bool,
        path: String,
        name: PathBuf,
    ) -> Result<Tree, Error> {
        if compressed {
            source = archives::unpacked(source, self.limits.max_unpacked)?;
        }
        let tree = match format {
            Format::Tar => archives::tar(Arc::clone(&source))?,
            Format::Iso => archives::iso(Arc::clone(&source))?,
            _ => initrd::read(source.as_ref(), &name, self.limits, &|_| ())?.tree,
        };
        self.bounded(&tree, &name)?;
        self.list.push(FileSystem { format, path, name, source, tree: tree.clone() });
        Ok(tree)
    }

    /// Refuses a tree with more content than may be unpacked, holes left out. Files can share what is stored: a few blocks
    /// are content without end to whoever reads all files.
    fn bounded(&self, tree: &Tree, name: &Path) -> Result<(), Error> {
        let limit = self.limits.max_unpacked;
        let extents = tree.inodes.iter().flat_map(|inode| match &inode.node {
            Node::Regular(content) => content.extents.as_slice(),
            _ => &[],
        });
        if extents.fold(0, |sum: u64, extent| sum.saturating_add(extent.len)) > limit {
            return Err(Error::input(format!("the files hold more than the {limit} bytes allowed"))
                .file(name)
                .hint("if you trust it, raise --max-unpacked"));
        }
        Ok(())
    }

    fn btrfs(&mut self, source: Arc<dyn ReadAt>, path: String, name: PathBuf) -> Result<Tree, Error> {
        let tree = btrfs::read(Arc::clone(&source), &name, self.limits.max_unpacked)?;
        self.bounded(&tree, &name)?;
        self.list.push(FileSystem { format: Format::Btrfs, path, name, source, tree: tree.clone() });
        Ok(tree)
    }
}

impl Opened {
    /// What the image unpacks to, as far as the original has it too: the initramfs that stayed as it was, or the system.
    #[must_use]
    pub fn whole(&self) -> &Tree {
        self.kept.as_ref().unwrap_or(&self.system)
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.source.len()
    }
}
