//! What the RAM model has to know about an image.

use crate::codec::Compression;
use crate::contract::cmdline::{FETCHED, LOADED_TOGETHER, PACKING};
use crate::contract::paths::{CMDLINE, FETCHED as FETCHED_FILE, MODULES};
use crate::contract::{Handover, RuntimeFormat};
use crate::image::Opened;
use crate::image::classify::Verdict;
use crate::image::embedded::{Body, Carried};
use crate::initrd::Initrd;
use crate::squashfs;
use crate::tree::{Node, Tree};

use super::{Kernel, MIB, Packing};

/// What the model has to know about an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// The image file, bytes.
    pub file: u64,
    /// The unpacked files, each rounded up to whole pages, bytes.
    pub unpacked: u64,
    /// Inodes of rootfs.
    pub inodes: u64,
    /// The largest dictionary or window of a segment, bytes.
    pub dictionary: u64,
    /// What stays in memory while the system runs, bytes: everything that was unpacked, or the squashfs.
    pub pinned: u64,
    /// What the boot initramfs downloads into memory, where it stays, bytes.
    pub fetched: u64,
    /// Whether that has a file system of its own, not limited as rootfs is.
    pub apart: bool,
    /// What the image's own init copies into another file system in memory before it starts the system, bytes.
    pub copied: u64,
    /// Memory of the programs up to the first screen, drivers and slabs apart, bytes.
    pub programs: u64,
    /// Whether the image itself stays in memory too (`retain_initrd`).
    pub retained: bool,
    /// How the squashfs is packed that is mounted at boot, if one is.
    pub packing: Option<Packing>,
}

impl Facts {
    /// The facts about an opened image, with files in pages of `kernel`; `None` for a bare file system image, which no kernel unpacks.
    ///
    /// A monolith stays in rootfs; one that copies itself is there twice while it does. Of an initramfs with its system in
    /// a file inside, that file stays. A boot initramfs whose root is elsewhere is followed up to its own init only. Of a
    /// converted image the squashfs stays in memory, in rootfs or in the retained image; a squashfs on a medium does not
    /// count, and one that is downloaded or loaded separately has its size on the image's command line ([`FETCHED`],
    /// [`LOADED_TOGETHER`]).
    #[must_use]
    pub fn of(image: &Opened, kernel: &Kernel) -> Option<Self> {
        let initrd = image.initrd.as_ref()?;
        let page = kernel.page;
        Some(match image.verdict.as_ref()? {
            Verdict::Monolith => {
                let copied =
                    image.class.copy.as_ref().map_or(0, |copy| if copy.moved { 0 } else { copy.bytes });
                Self {
                    copied,
                    ..monolith(initrd, programs(image.class.handover, RuntimeFormat::Btrfs), page)
                }
            }
            Verdict::FrontEnd(_) => Self { pinned: 0, ..monolith(initrd, 0, page) },
            Verdict::SystemInside(_) => {
                let files = image.class.inside.iter().filter(|inside| inside.kind.holds_system());
                let pinned = files.map(|file| file.size.next_multiple_of(page)).sum();
                Self {
                    pinned,
                    ..monolith(initrd, programs(image.class.handover, RuntimeFormat::Btrfs), page)
                }
            }
            Verdict::Converted(_) => converted(image, initrd, page),
        })
    }
}

impl Facts {
    /// The same facts about an image that unpacks to `tree`, with files in pages of `kernel`.
    #[must_use]
    pub fn in_pages_of(self, kernel: &Kernel, tree: &Tree) -> Self {
        let (unpacked, inodes) = pages(tree, kernel.page);
        // All of a monolith, or a file inside.
        let whole = self.pinned == self.unpacked;
        let pinned = if whole { unpacked } else { self.pinned.next_multiple_of(kernel.page) };
        Self { unpacked, inodes, pinned, ..self }
    }
}

/// What programs and their page cache take up to the first screen, beside drivers and slabs: 30 MiB for an installer's
/// shell, udev and screen (24 were too few for Debian 13 in a retained squashfs); 74 MiB for systemd with its services:
/// Debian 12 under Linux 7.2 reached its login prompt with 200 MiB, of which kernel, squashfs and decompressors took the rest.
///
/// Both were measured with btrfs in a squashfs, where the page cache holds what programs read twice: as blocks of the btrfs
/// image, and as pages of its files. [`CACHED_TWICE`] less is needed where the squashfs holds the files themselves.
///
/// An init that finds its mounts done is taken for systemd. A monolith is taken to need as much as with btrfs.
pub(super) const fn programs(handover: Handover, runtime: RuntimeFormat) -> u64 {
    let programs = match handover {
        Handover::Mounted => 74 * MIB,
        Handover::Bare => 30 * MIB,
    };
    match runtime {
        RuntimeFormat::Btrfs => programs,
        RuntimeFormat::Squashfs => programs - CACHED_TWICE,
    }
}

/// Without btrfs, Debian 13's installer in a retained squashfs took 12 MiB beside drivers and slabs in five times its usual
/// time, and 19 MiB in its usual time; Debian 12's on a disk between 17 and 25 MiB.
const CACHED_TWICE: u64 = 12 * MIB;

/// Bytes of the regular files of `tree` in whole pages, and its inodes.
fn pages(tree: &Tree, page: u64) -> (u64, u64) {
    let mut seen = vec![false; tree.inodes.len()];
    let (mut bytes, mut inodes) = (0, 0);
    for entry in tree.walk() {
        if std::mem::replace(&mut seen[entry.id.0 as usize], true) {
            continue;
        }
        inodes += 1;
        if let Node::Regular(content) = &tree.inode(entry.id).node {
            // The kernel writes zeros too: holes take pages.
            bytes += content.size.next_multiple_of(page);
        }
    }
    (bytes, inodes)
}

/// The facts about an image that stays in rootfs.
fn monolith(initrd: &Initrd, programs: u64, page: u64) -> Facts {
    let (unpacked, inodes) = pages(&initrd.tree, page);
    Facts {
        file: initrd.size,
        unpacked,
        inodes,
        dictionary: initrd.segments.iter().map(|s| s.dictionary).max().unwrap_or(0),
        pinned: unpacked,
        fetched: 0,
        apart: false,
        copied: 0,
        programs,
        retained: false,
        packing: None,
    }
}

fn converted(image: &Opened, initrd: &Initrd, page: u64) -> Facts {
    let tree = &initrd.tree;
    let (inside, retained) = match &image.carried {
        Some(Carried { body: Body::File(id), .. }) => (size(&tree.inode(*id).node, page), false),
        Some(Carried { body: Body::Skipped(_), .. }) => (0, true),
        None => (0, false),
    };
    let fetched = stated(tree, FETCHED).next_multiple_of(page);
    // Loaded together, it becomes part of the image.
    let beside = if image.carried.is_none() { stated(tree, LOADED_TOGETHER) } else { 0 };
    let squashfs = inside + beside.next_multiple_of(page);
    // Drivers for any disk that may hold the runtime are many, and those that the built-in front-end loads stay loaded.
    let apart = fetched > 0 && tree.get(FETCHED_FILE).is_some();
    let drivers = if squashfs == 0 && !retained && (fetched == 0 || apart) { modules(tree, page) } else { 0 };
    let (handover, runtime) = made_for(image, tree);
    let alone = monolith(initrd, programs(handover, runtime), page);
    Facts {
        file: alone.file + beside,
        unpacked: alone.unpacked + beside.next_multiple_of(page),
        inodes: alone.inodes + u64::from(beside > 0),
        pinned: squashfs + fetched + drivers,
        fetched,
        apart,
        retained,
        packing: Some(packing(image, tree)),
        ..alone
    }
}

/// How the squashfs of a converted image is packed: by its superblock, or by the image's command line ([`PACKING`]) if it
/// is a separate file. An image that says nothing, with a boot initramfs of the user's, is taken to have large blocks.
fn packing(image: &Opened, tree: &Tree) -> Packing {
    let layer = image.layers.first().and_then(|layer| squashfs::packing(layer.source.as_ref()));
    let stated = || {
        let (compression, block) =
            word(tree, PACKING)?.split_once(',').map(|(c, b)| (c.to_owned(), b.parse()))?;
        let compression = Compression::ALL.into_iter().find(|known| known.name() == compression)?;
        let block = block
            .ok()
            .filter(|block| (squashfs::MIN_BLOCK_SIZE..=squashfs::MAX_BLOCK_SIZE).contains(block))?;
        Some((compression, block))
    };
    let (compression, block) = layer.or_else(stated).unwrap_or((Compression::Xz, squashfs::MAX_BLOCK_SIZE));
    Packing { compression, block: u64::from(block) }
}

/// Bytes of a regular file in whole pages.
fn size(node: &Node, page: u64) -> u64 {
    match node {
        Node::Regular(content) => content.size.next_multiple_of(page),
        _ => 0,
    }
}

/// Bytes of the modules that the built-in front-end loads.
fn modules(tree: &Tree, page: u64) -> u64 {
    let inside = |path: &[u8]| path.starts_with(MODULES.as_bytes());
    tree.walk().filter(|entry| inside(&entry.path)).map(|entry| size(&tree.inode(entry.id).node, page)).sum()
}

/// The last value of `argument` on a converted image's own command line.
fn word(tree: &Tree, argument: &str) -> Option<String> {
    let file = tree.get(CMDLINE).and_then(|id| tree.read(id, 64 << 10).ok().flatten())?;
    let text = String::from_utf8(file).ok()?;
    text.split_whitespace().filter_map(|word| word.strip_prefix(argument)).next_back().map(str::to_owned)
}

/// The number of bytes that `argument` states on a converted image's own command line.
fn stated(tree: &Tree, argument: &str) -> u64 {
    let bytes: Option<u64> = word(tree, argument).and_then(|bytes| bytes.parse().ok());
    // No image holds more; a made-up size must not overflow.
    bytes.map_or(0, |bytes| bytes.min(1 << 40))
}

/// How the front-end hands over, and what the squashfs holds: by the configuration that the front-end was made with
/// (`frontend::built_in`, `frontend::dracut`), and by the runtime itself where the front-end was ready-made.
fn made_for(image: &Opened, tree: &Tree) -> (Handover, RuntimeFormat) {
    if let Some((config, _)) = crate::image::overlay::config(tree) {
        return (config.handover, config.runtime);
    }
    let handover = if image.carried.is_some() { image.class.handover } else { Handover::Bare };
    let runtime = if image.layers.len() == 1 { RuntimeFormat::Squashfs } else { RuntimeFormat::Btrfs };
    (handover, runtime)
}
