//! What goes into an image: a tree, and the contents of its files, each stored once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::bytes::{Hint, ReadAt, Region};
use crate::error::{Error, Kind};
use crate::store::{self, Stored};
use crate::tree::{Content, Inode, InodeId, Node, Tree, display};

/// The largest file: its list of blocks is held in memory, by us and by the kernel.
const MAX_FILE: u64 = 2 << 40;
/// `PATH_MAX` without its NUL: a longer target cannot be used.
const MAX_TARGET: usize = 4095;

/// A file that is to lie in an image of few files.
pub struct File<'a> {
    /// Its path without a leading `/`.
    pub path: &'a str,
    /// Its content.
    pub content: &'a dyn ReadAt,
    /// What lies where in it, sorted by offset. Whatever no region covers is taken for data.
    pub regions: &'a [Region],
}

/// Figures about an image, for the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of content, each content once.
    pub data: u64,
    /// Bytes of content that are not stored because another file has the same.
    pub shared: u64,
    /// Inodes.
    pub inodes: u64,
}

/// A content that one or more files have.
pub(super) struct Blob<'a> {
    pub(super) content: Box<dyn ReadAt + 'a>,
    /// What lies where in it, sorted by offset.
    pub(super) regions: Cow<'a, [Region]>,
}

/// An image that is to be written.
pub struct Image<'a> {
    pub(super) tree: Cow<'a, Tree>,
    /// In the order in which they lie in the image.
    pub(super) blobs: Vec<Blob<'a>>,
    /// For each inode the number of its content in `blobs`.
    pub(super) content_of: Vec<Option<u32>>,
    facts: Facts,
    notes: Vec<String>,
}

/// A content of a tree, as bytes.
struct InTree<'a>(&'a Tree, &'a Content);

impl ReadAt for InTree<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(self.1, buf, offset)
    }

    fn len(&self) -> u64 {
        self.1.size
    }
}

/// Bytes that someone else owns.
struct Borrowed<'a>(&'a dyn ReadAt);

impl ReadAt for Borrowed<'_> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<'a> Image<'a> {
    /// An image that holds `tree` itself. All data is read once, on every core; equal contents are stored once.
    ///
    /// # Errors
    /// When data cannot be read, or for what squashfs cannot hold: names over 255 bytes, symlink targets over 4095
    /// bytes, device numbers beyond 12:20 bits, directories with several names. The path is in the error.
    pub fn of_tree(tree: &'a Tree) -> Result<Self, Error> {
        let (ids, paths) = check(tree)?;
        let files: Vec<store::File<'_>> = ids
            .iter()
            .zip(&paths)
            .filter_map(|(&id, path)| match &tree.inode(id).node {
                Node::Regular(content) => Some(store::File { path, content }),
                _ => None,
            })
            .collect();
        let stored = Stored::plan(tree, &files, 4096, 0)?;
        let mut image = Self {
            tree: Cow::Borrowed(tree),
            blobs: Vec::with_capacity(stored.blobs.len()),
            content_of: vec![None; tree.inodes.len()],
            facts: Facts { shared: stored.shared, ..Facts::default() },
            notes: Vec::new(),
        };
        for blob in &stored.blobs {
            let Node::Regular(content) = &tree.inode(ids[blob.file]).node else { continue };
            image.facts.data += blob.pieces.iter().map(|piece| piece.len).sum::<u64>();
            let regions = regions(&blob.pieces, blob.hint, content.size);
            image.blobs.push(Blob { content: Box::new(InTree(tree, content)), regions: regions.into() });
        }
        for (id, blob) in ids.iter().zip(&stored.of) {
            image.content_of[id.0 as usize] = blob.map(|blob| blob as u32);
        }
        let mut odd_times = 0;
        let mut seen = vec![false; tree.inodes.len()];
        for entry in tree.walk() {
            if !std::mem::replace(&mut seen[entry.id.0 as usize], true) {
                image.facts.inodes += 1;
                odd_times += u64::from(u32::try_from(tree.inode(entry.id).mtime).is_err());
            }
        }
        if odd_times > 0 {
            image.notes.push(format!(
                "squashfs holds times from 1970 to 2106: those of {odd_times} files were set to the nearest of these"
            ));
        }
        Ok(image)
    }

    /// An image that holds only `files` (0644, their directories 0755, all root's), with this time.
    ///
    /// # Errors
    /// For a path that no file of an image can have.
    pub fn of_files(files: &[File<'a>], time: u32) -> Result<Self, Error> {
        let mut tree = Tree::new(Arc::new(Vec::new()));
        let inode = |mode, node| Inode { mode, uid: 0, gid: 0, mtime: time.into(), nlink: 1, node };
        let root = tree.root;
        *tree.inode_mut(root) = inode(0o755, Node::Directory(BTreeMap::new()));
        let mut image = Self {
            tree: Cow::Owned(tree),
            blobs: Vec::new(),
            content_of: Vec::new(),
            facts: Facts::default(),
            notes: Vec::new(),
        };
        let mut contents = Vec::new();
        for file in files {
            let tree = image.tree.to_mut();
            let mut directory = root;
            let (above, name) = file.path.rsplit_once('/').unwrap_or(("", file.path));
            for part in above.split('/').filter(|_| !above.is_empty()) {
                let known = tree.names(directory).and_then(|names| names.get(part.as_bytes()).copied());
                let id = known.unwrap_or_else(|| tree.add(inode(0o755, Node::Directory(BTreeMap::new()))));
                insert(tree, directory, part, id);
                directory = id;
            }
            let content = Content { size: file.content.len(), extents: Vec::new() };
            let id = tree.add(inode(0o644, Node::Regular(content)));
            insert(tree, directory, name, id);
            if !file.content.is_empty() {
                contents.push((id, image.blobs.len() as u32));
                let content = Box::new(Borrowed(file.content));
                image.facts.data += content.len();
                image.blobs.push(Blob { content, regions: Cow::Borrowed(file.regions) });
            }
        }
        check(&image.tree).map_err(|error| Error { kind: Kind::Usage, ..error })?;
        image.facts.inodes = image.tree.inodes.len() as u64;
        image.content_of = vec![None; image.tree.inodes.len()];
        for (id, blob) in contents {
            image.content_of[id.0 as usize] = Some(blob);
        }
        Ok(image)
    }

    /// Figures about the image.
    #[must_use]
    pub const fn facts(&self) -> Facts {
        self.facts
    }

    /// What could not be kept as it was, a sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Every content that is stored, with what lies where in it.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&dyn ReadAt, &[Region])> {
        self.blobs.iter().map(|blob| (blob.content.as_ref() as &dyn ReadAt, blob.regions.as_ref()))
    }

    /// Bytes of all contents, for progress.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.content.len()).sum()
    }

    /// Whether no file has content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }
}

fn insert(tree: &mut Tree, directory: InodeId, name: &str, id: InodeId) {
    if let Node::Directory(names) = &mut tree.inode_mut(directory).node {
        names.insert(name.as_bytes().into(), id);
    }
}

/// A content's stored pieces and the zeros between them.
fn regions(pieces: &[store::Piece], hint: Hint, size: u64) -> Vec<Region> {
    let mut regions = Vec::with_capacity(2 * pieces.len() + 1);
    let mut push = |offset: u64, end: u64, hint| {
        if offset < end {
            regions.push(Region { offset, len: end - offset, hint });
        }
    };
    let mut at = 0;
    for piece in pieces {
        push(at, piece.offset, Hint::Zero);
        at = (piece.offset + piece.len).min(size);
        push(piece.offset, at, hint);
    }
    push(at, size, Hint::Zero);
    regions
}

/// Checks that squashfs can hold the tree. The results are the regular files with content and the first path of each.
fn check(tree: &Tree) -> Result<(Vec<InodeId>, Vec<Vec<u8>>), Error> {
    if tree.names(tree.root).is_none() {
        return Err(Error::input("the tree has no root directory"));
    }
    let mut seen = vec![false; tree.inodes.len()];
    let (mut files, mut paths) = (Vec::new(), Vec::new());
    for entry in tree.walk() {
        let path = entry.path;
        let known = std::mem::replace(&mut seen[entry.id.0 as usize], true);
        let fail = |what: String| Err(Error::input(format!("/{} {what}", display(&path))));
        match &tree.inode(entry.id).node {
            Node::Directory(_) if known => return fail("is a directory with several names".into()),
            Node::Directory(names) => {
                let directory = if path.is_empty() { Vec::new() } else { [path.as_slice(), b"/"].concat() };
                names.keys().try_for_each(|name| store::check_name(&directory, name))?;
            }
            Node::Regular(content) if content.size > 0 && !known => {
                if content.size > MAX_FILE {
                    return fail(format!("has {} bytes; the limit of squashfs is 2 TiB", content.size));
                }
                files.push(entry.id);
                paths.push(path);
            }
            Node::Symlink(target)
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) =>
            {
                return fail(format!(
                    "is a symlink to {} bytes; 1 to {MAX_TARGET} without a zero byte can be stored",
                    target.len()
                ));
            }
            Node::CharDevice(device) | Node::BlockDevice(device)
                if device.major >= 1 << 12 || device.minor >= 1 << 20 =>
            {
                let (major, minor) = (device.major, device.minor);
                return fail(format!(
                    "is device {major}:{minor}; Linux knows 12 bits of major and 20 of minor"
                ));
            }
            _ => {}
        }
    }
    Ok((files, paths))
}
