//! Contents on their way into an image: each stored once, and in an order that compresses well.
//!
//! `Stored::plan` reads every file once. Both file systems lay their data out by its result.

mod links;
mod order;
mod scan;

use std::collections::BTreeMap;

use crate::bytes::Hint;
use crate::error::Error;
use crate::tree::{Content, Tree, display};
use links::Linked;
use order::{Group, Place};
pub(crate) use scan::Piece;
use scan::{Data, Scanned, Settings};

/// `NAME_MAX` of include/uapi/linux/limits.h.
const NAME_MAX: usize = 255;

/// A regular file whose content is to be stored.
pub(crate) struct File<'a> {
    /// The first of its paths, without a leading `/`.
    pub(crate) path: &'a [u8],
    /// Its content.
    pub(crate) content: &'a Content,
}

/// A content that one or more files have.
#[derive(Debug)]
pub(crate) struct Blob {
    /// The first file that has it, by its number.
    pub(crate) file: usize,
    /// What it holds, for the compressor.
    pub(crate) hint: Hint,
    /// The parts that are stored; everything else is zeros.
    pub(crate) pieces: Vec<Piece>,
    /// CRC-32C of each stored sector, in order.
    pub(crate) csums: Vec<u32>,
}

/// Fails if `name` is none that Linux can give a file; `directory` is its path with a `/` at the end, for the message.
pub(crate) fn check_name(directory: &[u8], name: &[u8]) -> Result<(), Error> {
    let path = || display(&[directory, name].concat());
    if name.len() > NAME_MAX {
        let len = name.len();
        return Err(Error::input(format!("/{} has a name of {len} bytes; the limit is {NAME_MAX}", path())));
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&b| b == b'/' || b == 0) {
        return Err(Error::input(format!("/{} has a name that no file can have", path())));
    }
    Ok(())
}

/// All contents of a tree, without their repetitions.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The contents, in the order in which they are to lie in the image.
    pub(crate) blobs: Vec<Blob>,
    /// For each file the number of its content in `blobs`; `None` for a file that the caller keeps itself.
    pub(crate) of: Vec<Option<usize>>,
    /// Bytes that need not be stored because an earlier file has the same content.
    pub(crate) shared: u64,
    /// A hash of all contents in the order of the files.
    pub(crate) hash: blake3::Hash,
}

impl Stored {
    /// Reads `files` of `tree`, on every core. Contents of at most `kept` bytes are left to the caller.
    ///
    /// # Errors
    /// When a file's extents are not in order or its data cannot be read.
    pub(crate) fn plan(tree: &Tree, files: &[File<'_>], sector: u32, kept: u64) -> Result<Self, Error> {
        let contents: Vec<&Content> = files.iter().map(|file| file.content).collect();
        let scanned = scan::all(tree, &contents, Settings { sector, kept }).map_err(|(i, mut error)| {
            error.what = format!("/{}: {}", display(files[i].path), error.what);
            error
        })?;
        let mut hash = blake3::Hasher::new();
        scanned.iter().for_each(|scanned| {
            hash.update(&scanned.hash);
        });
        let mut shared = 0;
        let mut unique: Vec<(usize, Box<Data>)> = Vec::new();
        let mut known: BTreeMap<[u8; 32], usize> = BTreeMap::new();
        let mut of: Vec<Option<usize>> = Vec::with_capacity(files.len());
        for (file, Scanned { hash, data }) in scanned.into_iter().enumerate() {
            let Some(data) = data else {
                of.push(None);
                continue;
            };
            let blob = *known.entry(hash).or_insert(unique.len());
            if blob == unique.len() {
                unique.push((file, data));
            } else {
                shared += unique[blob].1.pieces.iter().map(|piece| piece.len).sum::<u64>();
            }
            of.push(Some(blob));
        }
        drop(known);
        let places = places(files, &unique);
        let mut order: Vec<usize> = (0..unique.len()).collect();
        order.sort_by(|&a, &b| places[a].cmp(&places[b]));
        let mut rank = vec![0; order.len()];
        for (place, &blob) in order.iter().enumerate() {
            rank[blob] = place;
        }
        of.iter_mut().flatten().for_each(|blob| *blob = rank[*blob]);
        let mut blobs: Vec<(usize, Blob)> = unique
            .into_iter()
            .zip(&places)
            .zip(rank)
            .map(|(((file, data), place), rank)| {
                let Data { pieces, csums, .. } = *data;
                (rank, Blob { file, hint: hint(place.group), pieces, csums })
            })
            .collect();
        blobs.sort_unstable_by_key(|(rank, _)| *rank);
        Ok(Self {
            blobs: blobs.into_iter().map(|(_, blob)| blob).collect(),
            of,
            shared,
            hash: hash.finalize(),
        })
    }
}

/// The place of each content among the others.
fn places(files: &[File<'_>], unique: &[(usize, Box<Data>)]) -> Vec<Place> {
    let linked: Vec<Option<Linked<'_>>> = unique
        .iter()
        .map(|(file, data)| {
            let kind = crate::elf::code(&data.head)?;
            let File { path, content } = &files[*file];
            Some(Linked { path, size: content.size, kind, links: data.links.as_ref()? })
        })
        .collect();
    unique
        .iter()
        .zip(links::closures(&linked))
        .map(|((file, data), closure)| {
            let File { path, content } = &files[*file];
            order::place(path, &data.head, data.entropy, content.size, closure)
        })
        .collect()
}

const fn hint(group: Group) -> Hint {
    match group {
        Group::Code(arch) => Hint::MachineCode(arch),
        Group::Object | Group::Other | Group::Dense => Hint::Data,
    }
}
