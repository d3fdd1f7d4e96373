//! What an image is made of, and what of it could go.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::codec;
use crate::codec::Encoding;
use crate::compare::content;
use crate::error::Error;
use crate::image::Opened;
use crate::image::classify::Verdict;
use crate::image::embedded::Body;
use crate::initrd::{self, Initrd, Segment};
use crate::ram::Rootfs;
use crate::report::{
    self, Duplicate, FileSize, Folder, FrontEndPart, ImageFile, Inspection, KernelPart, ModuleSize,
    SegmentRow, Tool, Weight, gather,
};
use crate::tree::{Content, InodeId, Node, Tree, display};

/// Rows of the lists of files.
const ROWS: usize = 20;
/// Examples of each kind of weight.
const EXAMPLES: usize = 3;
/// No kernel module is larger than this when it is unpacked.
const MODULE: u64 = 256 << 20;
/// Why the squashfs of a converted image is there.
const RUNTIME: &str = "the runtime: the system itself";

/// Looks at everything in `image`; the table of folders goes `depth` levels down.
///
/// # Errors
/// When a content cannot be read.
pub fn inspect(image: &Opened, depth: usize) -> Result<Inspection, Error> {
    let files = Files::of(&image.system);
    let (duplicates, duplicate_bytes) = duplicates(&image.system, &files)?;
    Ok(Inspection {
        schema_version: report::SCHEMA_VERSION,
        tool: Tool::default(),
        image: image_file(image),
        identity: image.identity(),
        segments: image
            .initrd
            .iter()
            .flat_map(|initrd| &initrd.segments)
            .map(|s| segment(image, s))
            .collect(),
        layers: image.layers(),
        front_end: front_end(image),
        entries: files.paths,
        content: files.list.iter().map(|file| file.content.size).sum(),
        folders: Folder::of(&image.system, depth),
        largest: largest(&files),
        duplicates,
        duplicate_bytes,
        weight: weight(&files),
        ram: image.facts().map(|facts| facts.ram(Rootfs::Tmpfs)),
        notes: image.notes.clone(),
        budgets: Vec::new(),
    })
}

fn segment(image: &Opened, segment: &Segment) -> SegmentRow {
    SegmentRow { appended: image.appended.segments.contains(&segment.number), ..SegmentRow::from(segment) }
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
    FileSize { path: display(&file.path), bytes: file.content.size }
}

/// The `count` largest of some files, largest first.
fn top<'a>(files: impl Iterator<Item = &'a File<'a>>, count: usize) -> Vec<FileSize> {
    let mut files: Vec<&File<'_>> = files.filter(|file| file.content.size > 0).collect();
    files.sort_by(|a, b| b.content.size.cmp(&a.content.size).then_with(|| a.path.cmp(&b.path)));
    files.into_iter().take(count).map(row).collect()
}

fn largest(files: &Files<'_>) -> Vec<FileSize> {
    top(files.list.iter(), ROWS)
}

/// Files with the same content that takes room more than once, the most wasteful first, and what all of them waste.
fn duplicates(tree: &Tree, files: &Files<'_>) -> Result<(Vec<Duplicate>, u64), Error> {
    let mut sizes: HashMap<u64, u32> = HashMap::new();
    for file in &files.list {
        *sizes.entry(file.content.size).or_default() += 1;
    }
    let mut work: Vec<&File<'_>> =
        files.list.iter().filter(|file| file.content.size > 0 && sizes[&file.content.size] > 1).collect();
    // In the order in which they lie: each compressed block is unpacked once.
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
            // Extents that a file system shares are there once.
            let mut places: Vec<_> =
                copies.iter().map(|file| file.content.extents.first().map(|e| e.data_offset)).collect();
            places.sort_unstable();
            places.dedup();
            let bytes = copies.first()?.content.size;
            copies.sort_by(|a, b| a.path.cmp(&b.path));
            let wasted = bytes * (places.len() as u64 - 1);
            let paths = copies.iter().map(|file| display(&file.path)).collect();
            (wasted > 0).then_some(Duplicate { bytes, wasted, paths })
        })
        .collect();
    found.sort_by(|a, b| b.wasted.cmp(&a.wasted).then_with(|| a.paths.cmp(&b.paths)));
    let all = found.iter().map(|duplicate| duplicate.wasted).sum();
    found.truncate(ROWS);
    Ok((found, all))
}

/// What a file is that no one boots from: the name of its kind and why.
fn idle(path: &[u8]) -> Option<(&'static str, &'static str)> {
    let path = String::from_utf8_lossy(path);
    let name = path.rsplit('/').next().unwrap_or_default();
    let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let modules = path.contains("lib/modules/");
    let kernel = ["vmlinux", "vmlinuz", "bzImage", "Image.gz"]
        .iter()
        .any(|start| name == *start || name.starts_with(&format!("{start}-")));
    Some(if kernel {
        ("kernels", "the boot loader has loaded a kernel long before this copy can be read")
    } else if name == "System.map" || name.starts_with("System.map-") {
        ("System.map", "symbols for debugging; the kernel has its own table")
    } else if below(&["boot/initr"]) {
        ("initrds", "the boot loader reads them, not the system that one of them became")
    } else if ends(&[".a", ".la"]) && path.contains("lib") {
        ("static libraries", "only compilers read them")
    } else if below(&["usr/include/", "usr/src/", "usr/local/include/"])
        || (modules && path.contains("/build/"))
    {
        ("headers and sources", "only compilers read them")
    } else if below(&[
        "usr/share/doc/",
        "usr/share/man/",
        "usr/share/info/",
        "usr/share/gtk-doc/",
        "usr/share/help/",
    ]) {
        ("documentation", "people read it elsewhere")
    } else if below(&["usr/lib/debug/"]) || ends(&[".debug"]) {
        ("debug information", "only debuggers read it")
    } else if below(&["var/cache/", "var/lib/apt/lists/"]) {
        ("caches", "made anew when they are needed")
    } else {
        return None;
    })
}

fn weight(files: &Files<'_>) -> Vec<Weight> {
    let mut kinds: BTreeMap<(&str, &str), Vec<&File<'_>>> = BTreeMap::new();
    for file in &files.list {
        if let Some(kind) = idle(&file.path) {
            kinds.entry(kind).or_default().push(file);
        }
    }
    let mut list: Vec<Weight> = kinds
        .into_iter()
        .map(|((what, why), files)| Weight {
            what: what.into(),
            why: why.into(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.content.size).sum(),
            examples: top(files.iter().copied(), EXAMPLES),
        })
        .filter(|weight| weight.bytes > 0)
        .collect();
    list.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.what.cmp(&b.what)));
    list
}

/// The segment that carries the squashfs of a converted image, and where in the file the squashfs lies; not known
/// where the segment is compressed.
fn carrier<'a>(image: &'a Opened, initrd: &'a Initrd) -> Option<(&'a Segment, Option<std::ops::Range<u64>>)> {
    let carried = image.carried.as_ref()?;
    let plain =
        initrd.segments.iter().filter(|segment| segment.encoding == Encoding::Plain && !segment.early);
    let place = match &carried.body {
        Body::Skipped(range) => Some(range.clone()),
        Body::File(_) => plain
            .clone()
            .filter_map(|segment| initrd::find_body(image.source.as_ref(), segment, &carried.path))
            .next_back(),
    };
    match place {
        Some(place) => plain.clone().find(|s| s.range().contains(&place.start)).map(|s| (s, Some(place))),
        None => {
            let size = image.layers.first()?.source.len();
            initrd
                .segments
                .iter()
                .find(|s| s.encoding != Encoding::Plain && s.unpacked > size)
                .map(|s| (s, None))
        }
    }
}

/// The file and its parts.
#[must_use]
pub fn image_file(image: &Opened) -> ImageFile {
    let size = image.size();
    let parts = match &image.initrd {
        None => {
            let kind = image.layers.first().map_or("file system", |layer| layer.kind);
            report::Part::list(size, [(kind, size, "the file itself")])
        }
        Some(initrd) => {
            let carrier = carrier(image, initrd);
            gather::parts(&initrd.segments, size, &|segment| {
                let converted = carrier.is_some() && !segment.early;
                match &carrier {
                    Some((holder, Some(place))) if holder.number == segment.number => {
                        let squashfs = place.end - place.start;
                        let path = image.carried.as_ref().map_or(String::new(), |c| display(&c.path));
                        Some(vec![
                            (path, squashfs, RUNTIME),
                            (
                                format!("segment {}: cpio around it", segment.number),
                                segment.size.saturating_sub(squashfs),
                                "headers, padding and small files",
                            ),
                        ])
                    }
                    Some((holder, None)) if holder.number == segment.number => None,
                    _ if image.appended.segments.contains(&segment.number) => Some(vec![(
                        format!("segment {}: appended, {}", segment.number, segment.encoding),
                        segment.size,
                        "its files go into the runtime, over those of the same name",
                    )]),
                    _ if converted => Some(vec![(
                        format!("segment {}: front-end, {}", segment.number, segment.encoding),
                        segment.size,
                        "mounts the runtime and hands over to it",
                    )]),
                    _ => None,
                }
            })
        }
    };
    ImageFile { path: image.name.display().to_string(), size, parts }
}

/// The front-end: of a converted image what is not the runtime, of an ordinary one all of it.
fn front_end(image: &Opened) -> Option<FrontEndPart> {
    let initrd = image.initrd.as_ref()?;
    let (maker, converted) = match image.verdict.as_ref()? {
        Verdict::Monolith => return None,
        Verdict::FrontEnd(maker) | Verdict::SystemInside(maker) => (maker, false),
        Verdict::Converted(maker) => (maker, true),
    };
    let holder = carrier(image, initrd).map(|(segment, _)| segment.number);
    let foreign = |number: usize| Some(number) == holder || image.appended.segments.contains(&number);
    let others = || initrd.segments.iter().filter(|s| !s.early && !foreign(s.number));
    let mut encodings: Vec<String> = others().map(|segment| segment.encoding.to_string()).collect();
    encodings.dedup();
    let mut notes = Vec::new();
    let cmdline = cmdline(&initrd.tree);
    if converted && !cmdline.is_empty() {
        notes.push(format!("command line in the image: {cmdline}"));
    }
    if encodings.is_empty() {
        notes.push("it lies in the segment of the runtime".into());
    }
    Some(FrontEndPart {
        maker: version(&initrd.tree).map_or_else(|| maker.clone(), |version| format!("{maker} {version}")),
        encoding: encodings.join(", "),
        compressed: others().map(|segment| segment.size).sum(),
        unpacked: others().map(|segment| segment.unpacked).sum(),
        // Those of an ordinary front-end are hundreds: they are among the folders.
        kernels: if converted { kernels(&initrd.tree) } else { Vec::new() },
        notes,
    })
}

/// A text of a few KiB.
fn text(tree: &Tree, path: &str) -> Option<String> {
    let bytes = tree.read(tree.resolve(path)?, 64 << 10).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The version of dracut that it leaves in its images.
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
    let Some(folder) = tree.resolve("etc/cmdline.d") else { return String::new() };
    let names =
        tree.names(folder).into_iter().flatten().map(|(name, _)| format!("etc/cmdline.d/{}", display(name)));
    let texts: Vec<String> = names.filter_map(|path| text(tree, &path)).collect();
    texts.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The kernel modules of a front-end, by kernel, in the order in which they are loaded where that is known.
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
                [format!(".btrsquash/modules/{version}/order"), format!("usr/lib/btrsquash/load/{version}")]
                    .iter()
                    .find_map(|path| text(tree, path))
                    .unwrap_or_default();
            let place = |name: &str| order.lines().position(|line| line == name).unwrap_or(usize::MAX);
            modules.sort_by(|a, b| place(&a.name).cmp(&place(&b.name)).then_with(|| a.name.cmp(&b.name)));
            KernelPart { version, bytes: modules.iter().map(|module| module.bytes).sum(), modules }
        })
        .collect()
}

/// The size of a compressed kernel module when it is unpacked.
fn unpacked(tree: &Tree, id: InodeId) -> Option<u64> {
    let packed = tree.read(id, MODULE).ok()??;
    codec::unpack(&packed, MODULE).ok().map(|bytes| bytes.len() as u64)
}
