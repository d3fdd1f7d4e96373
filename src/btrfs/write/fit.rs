//! Places the trees: the extent tree describes its own blocks, so that it is built until its size stays the same.

use std::collections::BTreeMap;
use std::ops::Range;

use super::data::Data;
use super::extents::ExtentWriter;
use super::image::PlacedTree;
use super::layout::Identity;
use super::pack::{Items, Packed};
use super::roots::{Root, chunk_items, dev_items, reloc_items, root_items, uuid_items};
use super::space::{Chunk, Cursor, METADATA_ROOM, MIB, MIN_DATA_CHUNK, SYSTEM, chunks};
use crate::btrfs::Options;
use crate::btrfs::disk::{flag, id};
use crate::error::Error;

/// More rounds than any tree takes: the extent tree grows by at most a few blocks with each.
const MAX_ROUNDS: usize = 64;

/// All trees but the chunk tree.
pub(super) struct Trees {
    fs: Packed,
    extent: Packed,
    csum: Packed,
    dev: Packed,
    root: Packed,
    reloc: Packed,
    uuid: Option<Packed>,
}

/// A round's result: where everything lies.
pub(super) struct Fitted {
    /// The addresses of each tree's blocks, in the order of [`Trees::in_order`].
    addresses: Vec<Vec<u64>>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) chunk_tree: Packed,
    /// Addresses of the blocks of the chunk tree.
    pub(super) system: Vec<u64>,
    /// The addresses from the first tree block to the end of the last.
    pub(super) metadata: Range<u64>,
    /// Size of the device in bytes.
    pub(super) total: u64,
    /// Bytes that are used in all chunks.
    pub(super) used: u64,
}

impl Trees {
    /// The trees with all that is known before they are placed.
    pub(super) fn new(fs: Packed, csum: Packed, options: &Options, identity: &Identity) -> Self {
        let features = &options.features;
        let node_size = features.node_size;
        let uuid = features.uuid_tree.then(|| uuid_items(identity).pack(id::UUID_TREE, node_size));
        let owners = [id::EXTENT_TREE, id::DEV_TREE, id::FS_TREE, id::CSUM_TREE, id::DATA_RELOC_TREE];
        let owners = owners.into_iter().chain(uuid.is_some().then_some(id::UUID_TREE));
        // The addresses come later and do not change its shape.
        let roots = owners.map(|owner| (owner, Root::default())).collect();
        Self {
            fs,
            extent: Items::default().pack(id::EXTENT_TREE, node_size),
            csum,
            dev: Items::default().pack(id::DEV_TREE, node_size),
            root: root_items(&roots, features, identity, options.time).pack(id::ROOT_TREE, node_size),
            reloc: reloc_items(options.time).pack(id::DATA_RELOC_TREE, node_size),
            uuid,
        }
    }

    /// In the order in which they lie in the image.
    fn in_order(&self) -> impl Iterator<Item = &Packed> {
        [&self.fs, &self.extent, &self.csum, &self.dev, &self.root, &self.reloc].into_iter().chain(&self.uuid)
    }

    /// Places all trees and completes the extent, device and root tree.
    pub(super) fn fit(
        &mut self,
        data: &Data,
        options: &Options,
        identity: &Identity,
    ) -> Result<Fitted, Error> {
        let features = &options.features;
        for _ in 0..MAX_ROUNDS {
            let mut fitted = self.place(data, options, identity);
            let extent = self.account(data, options, &mut fitted).pack(id::EXTENT_TREE, features.node_size);
            let dev = dev_items(&fitted.chunks, identity).pack(id::DEV_TREE, features.node_size);
            let same = extent.same_shape(&self.extent) && dev.same_shape(&self.dev);
            (self.extent, self.dev) = (extent, dev);
            if same {
                let roots: BTreeMap<u64, Root> = self
                    .in_order()
                    .zip(&fitted.addresses)
                    .filter(|(tree, _)| tree.owner != id::ROOT_TREE)
                    .map(|(tree, addresses)| (tree.owner, Root::of(tree, addresses)))
                    .collect();
                let root = root_items(&roots, features, identity, options.time);
                self.root = root.pack(id::ROOT_TREE, features.node_size);
                return Ok(fitted);
            }
        }
        Err(Error::input(
            "no size was found at which the extent tree describes itself; please report this image",
        ))
    }

    /// Places the trees as large as they are now, and the chunks around them.
    fn place(&self, data: &Data, options: &Options, identity: &Identity) -> Fitted {
        let features = &options.features;
        let node = u64::from(features.node_size);
        let block = u64::from(options.block_size).max(MIB);
        let start = Data::start(options);
        let data_zone = start..data.end.max(start + MIN_DATA_CHUNK).next_multiple_of(block);
        let mut cursor = Cursor::new(data_zone.end);
        let addresses: Vec<Vec<u64>> =
            self.in_order().map(|tree| (0..tree.blocks()).map(|_| cursor.take(node).0).collect()).collect();
        let metadata = data_zone.end..cursor.at;
        let zone = metadata.start..(metadata.end + METADATA_ROOM).next_multiple_of(block);
        let total = zone.end + options.free_space.next_multiple_of(MIB.max(features.sector_size.into()));
        let chunks: Vec<Chunk> = chunks(SYSTEM, flag::GROUP_SYSTEM)
            .chain(chunks(data_zone, flag::GROUP_DATA))
            .chain(chunks(zone, flag::GROUP_METADATA))
            .collect();
        let chunk_tree =
            chunk_items(&chunks, total, features, identity).pack(id::CHUNK_TREE, features.node_size);
        let mut cursor = Cursor::new(SYSTEM.start);
        let system = (0..chunk_tree.blocks()).map(|_| cursor.take(node).0).collect();
        Fitted { addresses, chunks, chunk_tree, system, metadata, total, used: 0 }
    }

    /// Makes the extent tree for this placement, and counts the bytes that are used.
    fn account(&self, data: &Data, options: &Options, fitted: &mut Fitted) -> Items {
        let node = u64::from(options.features.node_size);
        let mut groups: Vec<(Chunk, u64)> = fitted.chunks.iter().map(|&chunk| (chunk, 0)).collect();
        let mut count = |address: u64, len: u64| {
            let i = groups.partition_point(|(c, _)| c.start + c.len <= address);
            groups[i].1 += len;
        };
        let blocks = fitted.system.iter().chain(fitted.addresses.iter().flatten());
        blocks.for_each(|&address| count(address, node));
        data.extents.iter().for_each(|e| count(e.address, e.len));
        fitted.used = groups.iter().map(|(_, used)| used).sum();

        let mut writer = ExtentWriter::new(groups, &options.features);
        writer.tree(&fitted.chunk_tree, &fitted.system);
        data.extents.iter().for_each(|e| writer.data(e, &data.users[e.content as usize]));
        self.in_order().zip(&fitted.addresses).for_each(|(tree, addresses)| writer.tree(tree, addresses));
        writer.finish()
    }

    /// Every tree with the addresses of its blocks.
    pub(super) fn placed(self, fitted: Fitted) -> Vec<PlacedTree> {
        let Self { fs, extent, csum, dev, root, reloc, uuid } = self;
        let trees = [fs, extent, csum, dev, root, reloc].into_iter().chain(uuid).zip(fitted.addresses);
        [(fitted.chunk_tree, fitted.system)]
            .into_iter()
            .chain(trees)
            .map(|(tree, addresses)| PlacedTree { tree, addresses })
            .collect()
    }
}

impl Fitted {
    /// The root of the root tree.
    pub(super) fn root(&self, trees: &Trees) -> Root {
        let of_root = trees.in_order().zip(&self.addresses).find(|(tree, _)| tree.owner == id::ROOT_TREE);
        of_root.map_or_else(Root::default, |(tree, addresses)| Root::of(tree, addresses))
    }
}
