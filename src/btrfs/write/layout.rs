//! Lays a file system out: data in an order that compresses well, then the trees that say where it lies.

use super::data::Data;
use super::extents::csum_items;
use super::fit::Trees;
use super::image::{Facts, Image};
use super::namespace::{GENERATION, MAX_INLINE, Namespace};
use super::pack::Stamp;
use super::roots::Root;
use super::space::regions;
use super::superblock::{Super, incompat_flags, superblock};
use crate::btrfs::Options;
use crate::btrfs::disk::id;
use crate::error::Error;
use crate::store::{File, Stored};
use crate::tree::{Node, Tree};

/// Lays `tree` out as a btrfs file system.
///
/// All data is read once, on every core. The same tree and options give the same image, byte for byte.
///
/// # Errors
/// When data cannot be read, or for what btrfs cannot hold: names over 255 bytes, link targets that do not fit a tree
/// block, device numbers beyond 12:20 bits, directories with several names. The path is in the error.
pub fn plan(tree: &Tree, options: &Options) -> Result<Image, Error> {
    let features = &options.features;
    check_options(options)?;
    let space = Namespace::collect(tree, features)?;
    let files: Vec<File<'_>> = space
        .files
        .iter()
        .filter_map(|(id, path)| match &tree.inode(*id).node {
            Node::Regular(content) => Some(File { path, content }),
            _ => None,
        })
        .collect();
    let mut stored = Stored::plan(tree, &files, features.sector_size, MAX_INLINE)?;
    let (data, csums) = Data::place(&space, &files, &mut stored, options)?;
    let fs = space.items(tree, features, &data.files, &data.extents)?;

    let mut hasher = blake3::Hasher::new_derive_key("btrsquash 2026 btrfs file system identity");
    hasher.update(stored.hash.as_bytes());
    hasher.update(&options.free_space.to_le_bytes()).update(&options.time.to_le_bytes());
    hasher.update(&features.node_size.to_le_bytes()).update(&incompat_flags(features).to_le_bytes());
    fs.hash(&mut hasher);
    let identity = Identity::new(&hasher);

    let node_size = features.node_size;
    let csum = csum_items(&data.extents, &csums, features).pack(id::CSUM_TREE, node_size);
    drop(csums);
    let mut trees = Trees::new(fs.pack(id::FS_TREE, node_size), csum, options, &identity);
    let fitted = trees.fit(&data, options, &identity)?;
    let superblock = superblock(&Super {
        options,
        identity: &identity,
        root: fitted.root(&trees),
        chunk_root: Root::of(&fitted.chunk_tree, &fitted.system),
        total: fitted.total,
        used: fitted.used,
        device_used: fitted.chunks.iter().map(|c| c.len).sum(),
        system: fitted.chunks[0],
    });
    let node = u64::from(node_size);
    let regions = regions(&data.spans, &fitted.system, node, fitted.metadata.clone(), fitted.total);
    let (total, placed) = (fitted.total, trees.placed(fitted));
    let blocks = placed.iter().map(|tree| tree.addresses.len() as u64).sum::<u64>();
    let facts = Facts {
        data: data.stored,
        metadata: blocks * node,
        shared: stored.shared,
        inodes: space.slots.len() as u64,
    };
    Ok(Image {
        len: total,
        features: features.clone(),
        fsid: identity.fsid,
        stamp: Stamp { fsid: identity.fsid, chunk_tree: identity.chunk_tree, generation: GENERATION },
        superblock,
        source: Tree::new(tree.data.clone()),
        contents: data.contents,
        inline: data.inline,
        extents: data.extents,
        trees: placed,
        regions,
        facts,
        notes: space.notes,
    })
}

fn check_options(options: &Options) -> Result<(), Error> {
    let f = &options.features;
    let power = |n: u32, from: u32, to: u32| n.is_power_of_two() && (from..=to).contains(&n);
    if !power(f.sector_size, 4096, 65_536) || !power(f.node_size, f.sector_size, 65_536) {
        return Err(Error::usage(format!(
            "btrfs cannot have sectors of {} and nodes of {} bytes",
            f.sector_size, f.node_size
        )));
    }
    if !power(options.block_size, 4096, 1 << 30) || options.free_space > 1 << 60 {
        return Err(Error::usage("the block size or the free space is out of range"));
    }
    Ok(())
}

/// UUIDs that follow from the content.
pub(super) struct Identity {
    pub(super) fsid: [u8; 16],
    pub(super) device: [u8; 16],
    pub(super) chunk_tree: [u8; 16],
    pub(super) subvolume: [u8; 16],
}

impl Identity {
    fn new(hasher: &blake3::Hasher) -> Self {
        let mut output = hasher.finalize_xof();
        let mut next = || {
            let mut uuid = [0; 16];
            output.fill(&mut uuid);
            // RFC 9562: version 8 (made in a way of one's own), variant 10.
            uuid[6] = uuid[6] & 0x0f | 0x80;
            uuid[8] = uuid[8] & 0x3f | 0x80;
            uuid
        };
        Self { fsid: next(), device: next(), chunk_tree: next(), subvolume: next() }
    }
}
