//! What an image is made of, and which of its files no boot needs.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::codec::{self, Encoding};
use crate::contract::paths::{MODULES, ORDER, format_1};
use crate::error::Error;
use crate::image::classify::Verdict;
use crate::image::{Opened, Part, holder, parts};
use crate::packages::Shares;
use crate::ram::{Estimate, Facts, Machine};
use crate::tree::{Content, InodeId, Node, Tree, content, display};

/// Rows of the lists of files.
const ROWS: usize = 20;
/// Examples of each kind of unneeded files.
const EXAMPLES: usize = 3;
/// No kernel module is larger than this when it is unpacked.
const MODULE: u64 = 256 << 20;

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSize {
    /// Its path, without a leading `/`.
    pub path: Vec<u8>,
    /// Bytes of content.
    pub bytes: u64,
}

/// Files with the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Size of one copy, bytes.
    pub bytes: u64,
    /// Bytes that all copies but one take.
    pub wasted: u64,
    /// Paths of the copies, sorted; hard links to one copy are one.
    pub paths: Vec<Vec<u8>>,
}

/// A kind of files that are not needed at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unneeded {
    /// Kernel images.
    Kernels,
    /// System.map.
    SystemMap,
    /// initrds inside the image.
    Initrds,
    /// Static libraries.
    StaticLibraries,
    /// Headers and sources.
    Headers,
    /// Manual pages and other documentation.
    Documentation,
    /// Separate debug information.
    DebugInformation,
    /// Caches.
    Caches,
}

/// Files of one kind that are not needed at boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Their kind.
    pub kind: Unneeded,
    /// How many.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// The largest of them.
    pub examples: Vec<FileSize>,
}

/// A kernel module in a boot initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleSize {
    /// Its name.
    pub name: String,
    /// Bytes, uncompressed.
    pub bytes: u64,
}

/// The modules for one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPart {
    /// The kernel's release.
    pub version: String,
    /// Its modules, in the order in which they are loaded where that is known.
    pub modules: Vec<ModuleSize>,
}

/// The boot initramfs of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontEnd {
    /// Its maker, with a version if the image tells it.
    pub maker: String,
    /// How its segments are packed; empty if it is in the segment of the runtime.
    pub encodings: Vec<Encoding>,
    /// Bytes in the image.
    pub compressed: u64,
    /// Bytes of the unpacked archives.
    pub unpacked: u64,
    /// What each kernel adds; empty for an image that is not converted.
    pub kernels: Vec<KernelPart>,
    /// What the files of /etc/cmdline.d say in a converted image.
    pub cmdline: String,
}

/// What [`inspect`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The parts of the file.
    pub parts: Vec<Part>,
    /// Its boot initramfs, if it has one.
    pub front_end: Option<FrontEnd>,
    /// Number of paths of the system, the root not counted.
    pub paths: u64,
    /// Bytes of their content, each file counted once.
    pub content: u64,
    /// The largest files.
    pub largest: Vec<FileSize>,
    /// The same content stored more than once, the most wasteful first.
    pub duplicates: Vec<Duplicate>,
    /// Bytes that all duplicates waste, including those not listed.
    pub duplicate_bytes: u64,
    /// Files that are not needed at boot, the largest kind first.
    pub weight: Vec<Weight>,
    /// Bytes of the image that hold each of its files.
    pub shares: Shares,
    /// The memory that it needs; `None` for a bare file system image.
    pub ram: Option<Estimate>,
}

/// Looks at everything in `image`, which is to boot on `machine`.
///
/// # Errors
/// If a content cannot be read.
pub fn inspect(image: &Opened, machine: &Machine) -> Result<Inspection, Error> {
    let files = Files::of(&image.system);
    let (duplicates, duplicate_bytes) = duplicates(&image.system, &files)?;
    Ok(Inspection {
        parts: parts(image),
        front_end: front_end(image),
        paths: files.paths,
        content: files.list.iter().map(|file| file.content.size).sum(),
        largest: top(files.list.iter(), ROWS),
        duplicates,
        duplicate_bytes,
        weight: weight(&files),
        shares: Shares::of(image),
        ram: Facts::of(image, &machine.kernel).map(|facts| facts.estimate(machine)),
    })
}

/// A regular file under the first of its names.
struct File<'a> {
    path: Vec<u8>,
    content: &'a Content,
}

/// The regular files of a tree, each once.
struct Files<'a> {
    list: Vec<File<'a>>,
    /// Number of paths of any kind, the root left out.
    paths: u64,
}

impl<'a> Files<'a> {
    fn of(tree: &'a Tree) -> Self {
        let (mut list, mut seen, mut paths) = (Vec::new(), HashSet::<InodeId>::new(), 0);
        for entry in tree.walk().skip(1) {
            paths += 1;
            let inode = tree.inode(entry.id);
            if let Node::Regular(content) = &inode.node
                && (inode.nlink < 2 || seen.insert(entry.id))
            {
                list.push(File { path: entry.path, content });
            }
        }
        Self { list, paths }
    }
}

fn row(file: &File<'_>) -> FileSize {
    FileSize { path: file.path.clone(), bytes: file.content.size }
}

/// The `count` largest of some files, largest first.
fn top<'a>(files: impl Iterator<Item = &'a File<'a>>, count: usize) -> Vec<FileSize> {
    let mut files: Vec<&File<'_>> = files.filter(|file| file.content.size > 0).collect();
    files.sort_by(|a, b| b.content.size.cmp(&a.content.size).then_with(|| a.path.cmp(&b.path)));
    files.into_iter().take(count).map(row).collect()
}

/// Files with the same content that is stored more than once, the most wasteful first, and what all of them waste.
fn duplicates(tree: &Tree, files: &Files<'_>) -> Result<(Vec<Duplicate>, u64), Error> {
    let mut sizes: HashMap<u64, u32> = HashMap::new();
    for file in &files.list {
        *sizes.entry(file.content.size).or_default() += 1;
    }
    let mut work: Vec<&File<'_>> =
        files.list.iter().filter(|file| file.content.size > 0 && sizes[&file.content.size] > 1).collect();
    // In the order in which they are stored: each compressed block is unpacked only once.
    work.sort_by_key(|file| content::place(file.content));
    let mut buffers = content::Buffers::new();
    let mut groups: HashMap<[u8; 32], Vec<&File<'_>>> = HashMap::new();
    for file in work {
        let hash = content::hash(tree, file.content, &file.path, &mut buffers)?;
        groups.entry(hash).or_default().push(file);
    }
    let mut found: Vec<Duplicate> = groups
        .into_values()
        .filter_map(|mut copies| {
            // Extents that a file system shares are stored once.
            let mut places: Vec<_> =
                copies.iter().map(|file| file.content.extents.first().map(|e| e.data_offset)).collect();
            places.sort_unstable();
            places.dedup();
            let bytes = copies.first()?.content.size;
            copies.sort_by(|a, b| a.path.cmp(&b.path));
            let wasted = bytes * (places.len() as u64 - 1);
            let paths = copies.iter().map(|file| file.path.clone()).collect();
            (wasted > 0).then_some(Duplicate { bytes, wasted, paths })
        })
        .collect();
    found.sort_by(|a, b| b.wasted.cmp(&a.wasted).then_with(|| a.paths.cmp(&b.paths)));
    let all = found.iter().map(|duplicate| duplicate.wasted).sum();
    found.truncate(ROWS);
    Ok((found, all))
}

/// The kind of a file that no boot needs.
fn unneeded(path: &[u8]) -> Option<Unneeded> {
    let path = String::from_utf8_lossy(path);
    let name = path.rsplit('/').next().unwrap_or_default();
    let below = |directories: &[&str]| directories.iter().any(|directory| path.starts_with(directory));
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let build = path.contains("lib/modules/") && path.contains("/build/");
    let kernel = ["vmlinux", "vmlinuz", "bzImage", "Image.gz"]
        .iter()
        .any(|start| name == *start || name.starts_with(&format!("{start}-")));
    let documentation =
        ["usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/gtk-doc/", "usr/share/help/"];
    Some(if kernel {
        Unneeded::Kernels
    } else if name == "System.map" || name.starts_with("System.map-") {
        Unneeded::SystemMap
    } else if below(&["boot/initr"]) {
        Unneeded::Initrds
    } else if ends(&[".a", ".la"]) && path.contains("lib") {
        Unneeded::StaticLibraries
    } else if build || below(&["usr/include/", "usr/src/", "usr/local/include/"]) {
        Unneeded::Headers
    } else if below(&documentation) {
        Unneeded::Documentation
    } else if below(&["usr/lib/debug/"]) || ends(&[".debug"]) {
        Unneeded::DebugInformation
    } else if below(&["var/cache/", "var/lib/apt/lists/"]) {
        Unneeded::Caches
    } else {
        return None;
    })
}

fn weight(files: &Files<'_>) -> Vec<Weight> {
    let mut kinds: BTreeMap<Unneeded, Vec<&File<'_>>> = BTreeMap::new();
    for file in &files.list {
        if let Some(kind) = unneeded(&file.path) {
            kinds.entry(kind).or_default().push(file);
        }
    }
    let mut list: Vec<Weight> = kinds
        .into_iter()
        .map(|(kind, files)| Weight {
            kind,
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.content.size).sum(),
            examples: top(files.iter().copied(), EXAMPLES),
        })
        .filter(|weight| weight.bytes > 0)
        .collect();
    list.sort_by_key(|weight| (std::cmp::Reverse(weight.bytes), weight.kind));
    list
}

/// The boot initramfs: of a converted image what is not the runtime, of an ordinary one all of it.
fn front_end(image: &Opened) -> Option<FrontEnd> {
    let initrd = image.initrd.as_ref()?;
    let (maker, converted) = match image.verdict.as_ref()? {
        Verdict::Monolith => return None,
        Verdict::FrontEnd(maker) | Verdict::SystemInside(maker) => (maker, false),
        Verdict::Converted(maker) => (maker, true),
    };
    let holder = holder(image, initrd).map(|(segment, _)| segment.number);
    let foreign = |number: usize| Some(number) == holder || image.appended.segments.contains(&number);
    let others = || initrd.segments.iter().filter(|s| !s.early && !foreign(s.number));
    let mut encodings: Vec<Encoding> = others().map(|segment| segment.encoding).collect();
    encodings.dedup();
    Some(FrontEnd {
        maker: version(&initrd.tree).map_or_else(|| maker.clone(), |version| format!("{maker} {version}")),
        encodings,
        compressed: others().map(|segment| segment.size).sum(),
        unpacked: others().map(|segment| segment.unpacked).sum(),
        // An ordinary initramfs has hundreds: they are among the directories.
        kernels: if converted { kernels(&initrd.tree) } else { Vec::new() },
        cmdline: if converted { cmdline(&initrd.tree) } else { String::new() },
    })
}

/// A text of a few KiB.
fn text(tree: &Tree, path: &str) -> Option<String> {
    let bytes = tree.read(tree.resolve(path)?, 64 << 10).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The version that dracut writes into its images.
fn version(tree: &Tree) -> Option<String> {
    ["etc/initrd-release", "usr/lib/initrd-release"].iter().filter_map(|path| text(tree, path)).find_map(
        |text| {
            let value = text.lines().find_map(|line| line.strip_prefix("DRACUT_VERSION="))?;
            Some(value.trim_matches(['"', '\'']).to_owned())
        },
    )
}

/// What the files of /etc/cmdline.d say, in one line.
fn cmdline(tree: &Tree) -> String {
    let Some(directory) = tree.resolve("etc/cmdline.d") else { return String::new() };
    let names = tree
        .names(directory)
        .into_iter()
        .flatten()
        .map(|(name, _)| format!("etc/cmdline.d/{}", display(name)));
    let texts: Vec<String> = names.filter_map(|path| text(tree, &path)).collect();
    texts.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The kernel modules of a boot initramfs, by kernel, in the order in which they are loaded where that is known.
fn kernels(tree: &Tree) -> Vec<KernelPart> {
    let mut found: BTreeMap<String, Vec<ModuleSize>> = BTreeMap::new();
    for entry in tree.walk() {
        let Node::Regular(content) = &tree.inode(entry.id).node else { continue };
        let path = display(&entry.path);
        let parts: Vec<&str> = path.split('/').collect();
        let Some(version) = parts.iter().position(|part| *part == "modules").and_then(|at| parts.get(at + 1))
        else {
            continue;
        };
        let file = parts.last().copied().unwrap_or_default();
        let Some((name, "ko" | "ko.gz" | "ko.xz" | "ko.zst")) = file.split_once('.') else { continue };
        let name = name.replace('-', "_");
        let modules = found.entry((*version).to_owned()).or_default();
        if modules.iter().any(|module| module.name == name) {
            continue;
        }
        let bytes = if file.ends_with(".ko") {
            content.size
        } else {
            unpacked(tree, entry.id).unwrap_or(content.size)
        };
        modules.push(ModuleSize { name, bytes });
    }
    found
        .into_iter()
        .map(|(version, mut modules)| {
            let order =
                [format!("{MODULES}/{version}/{ORDER}"), format!("{}/load/{version}", format_1::DRACUT)]
                    .iter()
                    .find_map(|path| text(tree, path))
                    .unwrap_or_default();
            let place = |name: &str| {
                {
                    // The path of a file, or in images of format 1 the name of a module.
                    let stem = |line: &str| {
                        line.rsplit('/').next().unwrap_or(line).trim_end_matches(".ko").replace('-', "_")
                    };
                    order.lines().position(|line| stem(line) == name)
                }
                .unwrap_or(usize::MAX)
            };
            modules.sort_by(|a, b| place(&a.name).cmp(&place(&b.name)).then_with(|| a.name.cmp(&b.name)));
            KernelPart { version, modules }
        })
        .collect()
}

/// The size of a compressed kernel module when it is unpacked.
fn unpacked(tree: &Tree, id: InodeId) -> Option<u64> {
    let packed = tree.read(id, MODULE).ok()??;
    codec::unpack(&packed, MODULE).ok().map(|bytes| bytes.len() as u64)
}
