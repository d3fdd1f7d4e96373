//! What other modules found out → the data of reports.

use std::collections::BTreeSet;

use super::data::{Folder, Identity, Part, SegmentRow};
use crate::classify::Classification;
use crate::frontend::Handover;
use crate::initrd::Segment;
use crate::tree::{InodeId, Node, Tree, display};

/// How many of the folders and files of one folder are listed.
const WIDEST: usize = 40;

impl From<&Classification> for Identity {
    fn from(class: &Classification) -> Self {
        Self {
            verdict: class.verdict.to_string(),
            why: class.why.clone(),
            init: class.init.clone(),
            init_kind: class.init_kind.clone(),
            handover: match class.handover {
                Handover::Bare => "bare".into(),
                Handover::Mounted => "mounted".into(),
            },
            handover_why: class.handover_why.clone(),
            architecture: class.architecture.clone(),
            kernels: class.kernels.clone(),
            distribution: class.distribution.clone(),
        }
    }
}

impl From<&Segment> for SegmentRow {
    fn from(segment: &Segment) -> Self {
        Self {
            number: segment.number as u64,
            offset: segment.offset,
            size: segment.size,
            padding: segment.padding,
            encoding: segment.encoding.to_string(),
            unpacked: segment.unpacked,
            entries: segment.entries,
            early: segment.early,
        }
    }
}

impl Folder {
    /// The folders and large files of `tree`, largest first, `depth` levels down. A file with several names counts
    /// once.
    #[must_use]
    pub fn of(tree: &Tree, depth: usize) -> Self {
        folder(tree, tree.root, "/".into(), depth, &mut BTreeSet::new())
    }
}

fn folder(tree: &Tree, id: InodeId, name: String, depth: usize, seen: &mut BTreeSet<InodeId>) -> Folder {
    let mut folder = Folder { name, ..Folder::default() };
    for (name, &child) in tree.names(id).into_iter().flatten() {
        let name = display(name);
        let part = match &tree.inode(child).node {
            Node::Directory(_) => self::folder(tree, child, name, depth.saturating_sub(1), seen),
            Node::Regular(content) if seen.insert(child) => {
                Folder { name, bytes: content.size, files: 1, folders: Vec::new() }
            }
            _ => Folder { name, bytes: 0, files: 1, folders: Vec::new() },
        };
        folder.bytes += part.bytes;
        folder.files += part.files;
        if depth > 0 && part.bytes > 0 {
            folder.folders.push(part);
        }
    }
    folder.folders.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    folder.folders.truncate(WIDEST);
    folder
}

/// The parts of an image of `size` bytes: its segments, in the order in which they lie in the file. `within` may give
/// the parts of a segment in its stead.
#[must_use]
pub fn parts(
    segments: &[Segment],
    size: u64,
    within: &dyn Fn(&Segment) -> Option<Vec<(String, u64, &'static str)>>,
) -> Vec<Part> {
    let mut parts: Vec<(String, u64, &str)> = Vec::new();
    for segment in segments {
        match within(segment) {
            Some(inner) => parts.extend(inner),
            None if segment.early => parts.push((
                format!("segment {}: early cpio", segment.number),
                segment.size,
                "the kernel reads it before it unpacks anything",
            )),
            None => parts.push((
                format!("segment {}: {}", segment.number, segment.encoding),
                segment.size,
                "unpacked into rootfs, where it stays",
            )),
        }
    }
    let rest = size.saturating_sub(parts.iter().map(|(_, bytes, _)| bytes).sum());
    parts.push(("padding and boot configuration".into(), rest, "between and behind the segments"));
    Part::list(size, parts.iter().map(|(name, bytes, why)| (name.as_str(), *bytes, *why)))
}
