//! Appending files to an image: as a cpio archive after it, which Linux unpacks over what is there.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::{open_regular, pieces};
use crate::container;
use crate::error::Error;
use crate::image::{self, Opened};
use crate::initrd::{Limits, NewcWriter};
use crate::output::OutputFile;
use crate::tree::{Content, Inode, Node, Tree, display};

/// Archives start on a multiple of so many bytes (init/initramfs.c, `unpack_to_rootfs`).
const ALIGNMENT: u64 = 4;
/// Directories of the host are read to this depth.
const MAX_DEPTH: usize = 64;

/// What to append.
#[derive(Debug, Clone)]
pub struct Request {
    /// The image.
    pub image: PathBuf,
    /// Files and directories of the host; of a directory all that is in it.
    pub files: Vec<PathBuf>,
    /// Where they arrive: a directory, or the path of the file itself if there is one file, this does not end with `/`, and
    /// the system has no directory there (as for cp). The root directory if it is not given.
    pub at: Option<Vec<u8>>,
    /// Limits on what is read.
    pub limits: Limits,
}

/// What an entry of the archive does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The path was not there.
    Added,
    /// Something was there.
    Replaced,
    /// A directory that exists in the system, with the attributes that it has there: Linux needs its entry.
    Kept,
}

/// What was appended.
#[derive(Debug)]
pub struct Appended {
    /// Each path of the archive, and what it does to the system that boots.
    pub entries: Vec<(Vec<u8>, Effect)>,
    /// Bytes after the image, padding included.
    pub bytes: u64,
    /// Whether the runtime is in a separate file, so that what is there is not known.
    pub apart: bool,
}

/// What becomes an entry of the archive.
enum Source {
    /// A directory, as it is in the system or as it is new.
    Directory { mode: u32, uid: u32, gid: u32, mtime: i64 },
    /// A file of the host.
    File(PathBuf, Metadata),
    /// A symlink with this target.
    Symlink(Vec<u8>, i64),
}

/// Writes `request.image` and the archive into `out`, and reads the result as Linux would.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for files that cannot be read or appended, and for paths at which the system would not
/// see them; those of reading the image and of writing.
pub fn append(request: &Request, out: &mut OutputFile) -> Result<Appended, Error> {
    let input = container::open(std::slice::from_ref(&request.image), &request.limits)?;
    if input.wrapper.is_some() {
        return Err(Error::usage("holds its initrd inside: Linux would not see what follows the file")
            .file(&request.image)
            .hint("append to the initrd, and wrap it again"));
    }
    let old = image::of(&input, &request.limits, &|_| ())?;
    let system = visible(&old).ok_or_else(|| {
        Error::usage("is a bare file system: only to an initrd can files be appended").file(&request.image)
    })?;
    let mut sources = BTreeMap::new();
    for file in &request.files {
        collect(file, &destination(request, file, system)?, 0, &mut sources)?;
    }
    let sources = with_directories(sources, &old, system)?;

    let image = input.initrd.as_ref();
    let size = image.len();
    let path = out.path().to_owned();
    let writing = |e| Error::writing(e).file(&path);
    let mut unwritten = false;
    let copied = pieces(image, 0..size, |bytes| out.write_all(bytes).inspect_err(|_| unwritten = true));
    copied.map_err(|e| if unwritten { writing(e) } else { Error::reading(e).file(&request.image) })?;
    input.check_unchanged()?;
    let padding = size.next_multiple_of(ALIGNMENT) - size;
    out.write_all(&[0; ALIGNMENT as usize][..padding as usize]).map_err(writing)?;
    archive(&sources, &mut *out)?;

    let written = out.read_back()?;
    let bytes = written.metadata().map_err(Error::reading)?.len() - size;
    let new = image::read(Arc::new(written), out.path(), &request.limits, &|_| ())?;
    let entries = check(&sources, system, &new)?;
    Ok(Appended { entries, bytes, apart: old.apart })
}

/// What the system will be that boots: `None` for a bare file system.
fn visible(image: &Opened) -> Option<&Tree> {
    let initrd = image.initrd.as_ref()?;
    // A file inside stays a file: the archive is unpacked next to it.
    let inside = image.kept.is_some() || (image.carried.is_none() && !image.apart);
    Some(if inside { &initrd.tree } else { &image.system })
}

/// Where `file` arrives.
fn destination(request: &Request, file: &Path, system: &Tree) -> Result<Vec<u8>, Error> {
    let at = request.at.as_deref().unwrap_or(b"/");
    let mut path = components(at)?;
    let directory = at.ends_with(b"/") || file.is_dir() || request.files.len() > 1 || {
        let there = system.resolve(path.join(&b'/')).map(|id| &system.inode(id).node);
        matches!(there, Some(Node::Directory(_)))
    };
    let exact = request.at.is_some() && !directory;
    if !exact {
        let name = file.file_name().ok_or_else(|| {
            Error::usage("has no name of its own").file(file).hint("name a file or a directory")
        })?;
        path.push(name.as_bytes());
    }
    Ok(path.join(&b'/'))
}

/// The names in a path.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let names: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&&b".."[..]) {
        return Err(Error::usage(format!("--at {}: .. is not allowed", display(path))));
    }
    Ok(names)
}

/// Adds `file`, and what is in it, under `path`.
fn collect(
    file: &Path,
    path: &[u8],
    depth: usize,
    into: &mut BTreeMap<Vec<u8>, Source>,
) -> Result<(), Error> {
    let reading = |e| Error::unreadable(e).file(file);
    let metadata = file.symlink_metadata().map_err(reading)?;
    let kind = metadata.file_type();
    let source = if kind.is_file() {
        Source::File(file.to_owned(), metadata)
    } else if kind.is_symlink() {
        let target = fs::read_link(file).map_err(reading)?;
        Source::Symlink(target.as_os_str().as_bytes().to_vec(), metadata.mtime())
    } else if kind.is_dir() {
        if depth > MAX_DEPTH {
            return Err(Error::usage(format!("is more than {MAX_DEPTH} directories deep")).file(file));
        }
        for entry in fs::read_dir(file).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let inner = [path, b"/", entry.file_name().as_bytes()].concat();
            collect(&entry.path(), &inner, depth + 1, into)?;
        }
        Source::Directory { mode: metadata.mode() & 0o7777, uid: 0, gid: 0, mtime: metadata.mtime() }
    } else {
        return Err(Error::usage("is neither a file, a directory nor a symlink").file(file));
    };
    if into.insert(path.to_vec(), source).is_some() {
        return Err(Error::usage(format!("two files would both be /{}", display(path))).file(file));
    }
    Ok(())
}

/// Puts each path where symlinks of the system lead, and adds the directories on the way that Linux does not have when it
/// unpacks the archive.
fn with_directories(
    sources: BTreeMap<Vec<u8>, Source>,
    old: &Opened,
    system: &Tree,
) -> Result<BTreeMap<Vec<u8>, Source>, Error> {
    let unpacked = old.initrd.as_ref().map(|initrd| &initrd.tree);
    let newest = sources.values().map(|source| match source {
        Source::Directory { mtime, .. } | Source::Symlink(_, mtime) => *mtime,
        Source::File(_, metadata) => metadata.mtime(),
    });
    let newest = newest.max().unwrap_or(0);
    let mut all = BTreeMap::new();
    for (path, source) in sources {
        let mut real = Vec::new();
        let mut names = path.split(|&byte| byte == b'/').peekable();
        while let Some(name) = names.next() {
            if !real.is_empty() {
                real.push(b'/');
            }
            real.extend_from_slice(name);
            if names.peek().is_none() {
                break;
            }
            if let Some(led) = system.real_path(&real) {
                real = led;
            }
            let inode = system.get(&real).map(|id| system.inode(id));
            if inode.is_some_and(|inode| !matches!(inode.node, Node::Directory(_))) {
                let what = format!("/{} is not a directory, so nothing can be below it", display(&real));
                return Err(Error::usage(what).file(&old.name));
            }
            let there = unpacked.and_then(|tree| tree.get(&real).map(|id| tree.inode(id)));
            if !there.is_some_and(|inode| matches!(inode.node, Node::Directory(_))) && !real.is_empty() {
                all.entry(real.clone()).or_insert(match inode {
                    Some(&Inode { mode, uid, gid, mtime, .. }) => Source::Directory { mode, uid, gid, mtime },
                    None => Source::Directory { mode: 0o755, uid: 0, gid: 0, mtime: newest },
                });
            }
        }
        // A directory that the system has keeps its attributes.
        let source = match (&source, system.get(&real).map(|id| system.inode(id))) {
            (
                Source::Directory { .. },
                Some(&Inode { mode, uid, gid, mtime, node: Node::Directory(_), .. }),
            ) => Source::Directory { mode, uid, gid, mtime },
            _ => source,
        };
        all.insert(real, source);
    }
    Ok(all)
}

/// Writes the archive. Byte order puts directories before what is in them.
fn archive(sources: &BTreeMap<Vec<u8>, Source>, out: &mut OutputFile) -> Result<(), Error> {
    let path = out.path().to_owned();
    let writing = |e: io::Error| Error::writing(e).file(&path);
    let mut archive = NewcWriter::new(out, 0);
    for (name, source) in sources {
        match source {
            Source::Directory { mode, uid, gid, mtime } => {
                archive.owner(*uid, *gid);
                archive.time(*mtime);
                archive.directory(name, *mode).map_err(writing)?;
            }
            Source::Symlink(target, mtime) => {
                archive.owner(0, 0);
                archive.time(*mtime);
                archive.symlink(name, target).map_err(writing)?;
            }
            Source::File(file, metadata) => {
                archive.owner(0, 0);
                archive.time(metadata.mtime());
                put_file(&mut archive, name, file, metadata)?;
            }
        }
    }
    archive.finish().map_err(writing)?;
    Ok(())
}

fn put_file(
    archive: &mut NewcWriter<&mut OutputFile>,
    name: &[u8],
    path: &Path,
    metadata: &Metadata,
) -> Result<(), Error> {
    let usage = |e| Error::usage("cannot be appended").caused_by(e).file(path);
    let mut file = open_regular(path).map_err(usage)?;
    let size = metadata.len();
    archive.header(name, metadata.mode(), &Node::Fifo, size, 0).map_err(usage)?;
    let (mut left, mut buffer) = (size, vec![0; 1 << 16]);
    loop {
        let len = file.read(&mut buffer).map_err(usage)?;
        if len as u64 > left || (len == 0 && left > 0) {
            return Err(Error::usage("was changed while it was read").file(path).hint("try again"));
        }
        if len == 0 {
            break;
        }
        archive.content(&buffer[..len]).map_err(Error::writing)?;
        left -= len as u64;
    }
    archive.pad().map_err(Error::writing)
}

/// Whether the file of the host has this content.
fn same(file: &Path, tree: &Tree, content: &Content) -> Result<bool, Error> {
    let reading = |e| Error::usage("cannot be read again").caused_by(e).file(file);
    let mut host = open_regular(file).map_err(reading)?;
    if host.metadata().map_err(reading)?.len() != content.size {
        return Ok(false);
    }
    let (mut ours, mut theirs, mut at) = (vec![0; 1 << 16], vec![0; 1 << 16], 0_u64);
    while at < content.size {
        let len = (content.size - at).min(1 << 16) as usize;
        host.read_exact(&mut ours[..len]).map_err(reading)?;
        tree.read_at(content, &mut theirs[..len], at).map_err(Error::reading)?;
        if ours[..len] != theirs[..len] {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

/// Compares what was meant with what the new image holds.
fn check(
    sources: &BTreeMap<Vec<u8>, Source>,
    before: &Tree,
    new: &Opened,
) -> Result<Vec<(Vec<u8>, Effect)>, Error> {
    if new.appended.init && sources.contains_key(&b"init"[..]) {
        return Err(Error::usage("/init would replace the init that mounts the runtime")
            .hint("append it under another name, and start it with init= on the kernel command line"));
    }
    let hint = "Linux or the boot initramfs has something else there: choose another path with --at";
    let Some(after) = visible(new) else { return Err(Error::failed("the new image is not an initrd")) };
    let mut entries = Vec::new();
    for (path, source) in sources {
        let found = after.get(path).map(|id| after.inode(id));
        let arrived = match (source, found.map(|inode| &inode.node)) {
            (Source::Directory { .. }, Some(Node::Directory(_))) => true,
            (Source::Symlink(target, _), Some(Node::Symlink(found))) => target[..] == found[..],
            (Source::File(file, _), Some(Node::Regular(content))) => same(file, after, content)?,
            _ => false,
        };
        if !arrived {
            return Err(Error::usage(format!("/{} would not reach the system", display(path))).hint(hint));
        }
        let was = before.get(path).map(|id| before.inode(id));
        entries.push((
            path.clone(),
            match (was, source) {
                (None, _) => Effect::Added,
                (Some(Inode { node: Node::Directory(_), .. }), Source::Directory { .. }) => Effect::Kept,
                (Some(_), _) => Effect::Replaced,
            },
        ));
    }
    Ok(entries)
}
