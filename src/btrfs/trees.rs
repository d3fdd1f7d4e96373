//! Sorted items → packed leaves and the nodes above them.

use super::disk::{GENERATION, HEADER, ITEM, KEY_PTR, Key, set_checksum};

/// One item of a tree.
pub type Item = (Key, Vec<u8>);

/// One block of a tree that has no address yet.
#[derive(Debug)]
pub struct Block {
    pub level: u8,
    pub first: Key,
    /// Items of a leaf, or children of a node (as places among the tree's blocks).
    pub range: std::ops::Range<usize>,
}

/// The shape of a tree: its blocks, leaves first, the top last.
#[derive(Debug)]
pub struct Shape {
    pub owner: u64,
    pub blocks: Vec<Block>,
}

impl Shape {
    /// Packs `items`, which are sorted and each small enough for a leaf, as tightly as they go.
    pub fn new(owner: u64, items: &[Item], node_size: u32) -> Self {
        let room = node_size as usize - HEADER;
        let mut blocks = Vec::new();
        let (mut start, mut used) = (0, 0);
        for (i, (_, data)) in items.iter().enumerate() {
            let size = ITEM + data.len();
            if used + size > room && i > start {
                blocks.push(Block { level: 0, first: items[start].0, range: start..i });
                (start, used) = (i, 0);
            }
            used += size;
        }
        // A tree without items is one empty leaf.
        let first = items.get(start).map_or(Key::new(0, 0, 0), |item| item.0);
        blocks.push(Block { level: 0, first, range: start..items.len() });

        let fan_out = room / KEY_PTR;
        let (mut level, mut below) = (0, 0..blocks.len());
        while below.len() > 1 {
            level += 1;
            let next = blocks.len();
            for from in below.clone().step_by(fan_out) {
                let range = from..(from + fan_out).min(below.end);
                let first = blocks[from].first;
                blocks.push(Block { level, first, range });
            }
            below = next..blocks.len();
        }
        Self { owner, blocks }
    }

    /// Level of the top.
    pub fn level(&self) -> u8 {
        self.blocks.last().map_or(0, |top| top.level)
    }

    /// Writes the blocks, block `i` at `address(i)`, behind each other into `out`.
    pub fn write(
        &self,
        items: &[Item],
        node_size: u32,
        fsid: &[u8; 16],
        chunk_tree_uuid: &[u8; 16],
        address: &dyn Fn(usize) -> u64,
        out: &mut Vec<u8>,
    ) {
        for (i, block) in self.blocks.iter().enumerate() {
            let mut bytes = vec![0; node_size as usize];
            let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
            put(32, fsid);
            put(48, &address(i).to_le_bytes());
            // BTRFS_HEADER_FLAG_WRITTEN, and BTRFS_MIXED_BACKREF_REV in the top byte.
            put(56, &(1 | 1_u64 << 56).to_le_bytes());
            put(64, chunk_tree_uuid);
            put(80, &GENERATION.to_le_bytes());
            put(88, &self.owner.to_le_bytes());
            put(96, &(block.range.len() as u32).to_le_bytes());
            put(100, &[block.level]);
            let key = |key: &Key| {
                let mut bytes = super::disk::Bytes::default();
                key.put(&mut bytes);
                bytes.0
            };
            if block.level == 0 {
                let mut end = node_size as usize;
                for (slot, (item, data)) in items[block.range.clone()].iter().enumerate() {
                    end -= data.len();
                    let at = HEADER + slot * ITEM;
                    put(at, &key(item));
                    put(at + 17, &((end - HEADER) as u32).to_le_bytes());
                    put(at + 21, &(data.len() as u32).to_le_bytes());
                    put(end, data);
                }
            } else {
                for (slot, child) in block.range.clone().enumerate() {
                    let at = HEADER + slot * KEY_PTR;
                    put(at, &key(&self.blocks[child].first));
                    put(at + 17, &address(child).to_le_bytes());
                    put(at + 25, &GENERATION.to_le_bytes());
                }
            }
            set_checksum(&mut bytes);
            out.extend_from_slice(&bytes);
        }
    }
}
