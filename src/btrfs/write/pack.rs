//! B-trees: sorted items packed into leaves, leaves under nodes, and each block made when it is asked for.

use crate::btrfs::disk::{
    HEADER_FLAG_WRITTEN, HEADER_SIZE, ITEM_SIZE, Key, MIXED_BACKREF_REV, POINTER_SIZE, Put,
};

/// Where the body of an item comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// From this offset of the arena.
    Arena(u64),
    /// The file with this number follows a header that is made from its size.
    Inline(u32),
}

/// An item in 32 bytes: a system of many small files has millions of them, all in memory at once.
#[derive(Debug, Clone, Copy)]
struct Item {
    objectid: u64,
    offset: u64,
    /// An offset of the arena, or with [`INLINE`] the number of a file.
    body: u64,
    size: u32,
    kind: u8,
}

/// No arena is so large.
const INLINE: u64 = 1 << 63;

impl Item {
    fn new(key: Key, size: u32, body: Body) -> Self {
        let body = match body {
            Body::Arena(at) => at,
            Body::Inline(number) => INLINE | u64::from(number),
        };
        Self { objectid: key.objectid, offset: key.offset, body, size, kind: key.kind }
    }

    const fn key(&self) -> Key {
        Key { objectid: self.objectid, kind: self.kind, offset: self.offset }
    }

    const fn body(&self) -> Body {
        if self.body & INLINE == 0 { Body::Arena(self.body) } else { Body::Inline(self.body as u32) }
    }
}

/// A tree's items in the order of their keys. Bodies of inline files stay where they are: only their number is kept.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: Vec<Item>,
    arena: Vec<u8>,
}

impl Items {
    /// Appends an item; keys have to come in ascending order.
    pub(super) fn push(&mut self, key: Key, body: &[u8]) {
        debug_assert!(self.items.last().is_none_or(|last| last.key() < key), "{key:?} out of order");
        let at = self.arena.len() as u64;
        self.arena.extend_from_slice(body);
        self.items.push(Item::new(key, body.len() as u32, Body::Arena(at)));
    }

    /// Appends the inline extent of file `number`; `size` is that of the item with its header.
    pub(super) fn push_inline(&mut self, key: Key, number: u32, size: u32) {
        self.items.push(Item::new(key, size, Body::Inline(number)));
    }

    /// Takes the last item away; its body stays in the arena.
    pub(super) fn pop(&mut self) {
        self.items.pop();
    }

    /// Feeds all that is known of the items to `hasher`.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        let mut keys = Vec::new();
        for items in self.items.chunks(1024) {
            keys.clear();
            for item in items {
                keys.key(item.key()).u32(item.size);
            }
            hasher.update(&keys);
        }
        hasher.update(&self.arena);
    }

    /// Distributes the items over blocks of `node_size` bytes.
    pub(super) fn pack(self, owner: u64, node_size: u32) -> Packed {
        let room = node_size as usize - HEADER_SIZE;
        let mut leaves = vec![0];
        let mut used = 0;
        for (i, item) in self.items.iter().enumerate() {
            let need = ITEM_SIZE + item.size as usize;
            if used + need > room && used > 0 {
                leaves.push(i);
                used = 0;
            }
            used += need;
        }
        let fanout = room / POINTER_SIZE;
        let mut levels = vec![leaves.len()];
        while let Some(&blocks) = levels.last().filter(|&&blocks| blocks > 1) {
            levels.push(blocks.div_ceil(fanout));
        }
        Packed { owner, items: self.items, arena: self.arena, leaves, levels }
    }
}

/// A tree whose blocks are numbered from the first leaf to the root, level by level.
#[derive(Debug)]
pub(super) struct Packed {
    /// Object id of the tree.
    pub owner: u64,
    items: Vec<Item>,
    arena: Vec<u8>,
    /// Number of the first item of each leaf.
    leaves: Vec<usize>,
    /// Number of blocks of each level.
    levels: Vec<usize>,
}

/// What all tree blocks of a file system have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// File system UUID.
    pub fsid: [u8; 16],
    /// UUID of the chunk tree.
    pub chunk_tree: [u8; 16],
    /// Transaction in which everything was written.
    pub generation: u64,
}

impl Packed {
    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        self.levels.iter().sum()
    }

    /// Whether the other tree has the same keys in the same blocks.
    pub(super) fn same_shape(&self, other: &Self) -> bool {
        self.leaves == other.leaves
            && self.levels == other.levels
            && self.items.iter().map(Item::key).eq(other.items.iter().map(Item::key))
    }

    /// Level of the root.
    pub(super) fn height(&self) -> u8 {
        (self.levels.len() - 1) as u8
    }

    /// Level of block `number` and its place in the level.
    pub(super) fn place(&self, number: usize) -> (u8, usize) {
        let mut rest = number;
        for (level, &blocks) in self.levels.iter().enumerate() {
            if rest < blocks {
                return (level as u8, rest);
            }
            rest -= blocks;
        }
        (self.height(), 0)
    }

    /// Children of the `i`th node of `level`, as places in the level below: spread evenly.
    fn children(&self, level: u8, i: usize) -> std::ops::Range<usize> {
        let (above, below) = (self.levels[level as usize], self.levels[level as usize - 1]);
        i * below / above..(i + 1) * below / above
    }

    fn leaf_items(&self, leaf: usize) -> &[Item] {
        let end = self.leaves.get(leaf + 1).copied().unwrap_or(self.items.len());
        &self.items[self.leaves[leaf]..end]
    }

    /// Key of the first item below the `i`th block of `level`.
    pub(super) fn first_key(&self, mut level: u8, mut i: usize) -> Key {
        while level > 0 {
            i = self.children(level, i).start;
            level -= 1;
        }
        self.leaf_items(i).first().map_or(Key::default(), Item::key)
    }

    /// Makes block `number` in `block`, whose size is the node size. `addresses` are those of the tree's blocks by
    /// number; `inline` fills a file's bytes.
    ///
    /// # Errors
    /// When an inline file cannot be read.
    pub(super) fn write(
        &self,
        number: usize,
        addresses: &[u64],
        stamp: &Stamp,
        block: &mut [u8],
        inline: &dyn Fn(u32, &mut [u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let (level, i) = self.place(number);
        let mut head = Vec::with_capacity(block.len());
        head.zeros(32).bytes(&stamp.fsid).u64(addresses[number]).u64(HEADER_FLAG_WRITTEN | MIXED_BACKREF_REV);
        head.bytes(&stamp.chunk_tree).u64(stamp.generation).u64(self.owner);
        block.fill(0);
        if level == 0 {
            let items = self.leaf_items(i);
            head.u32(items.len() as u32).u8(0);
            let mut end = block.len();
            for item in items {
                let start = end - item.size as usize;
                let body = &mut block[start..end];
                match item.body() {
                    Body::Arena(at) => {
                        body.copy_from_slice(&self.arena[at as usize..at as usize + item.size as usize]);
                    }
                    Body::Inline(file) => inline(file, body)?,
                }
                head.key(item.key()).u32((start - HEADER_SIZE) as u32).u32(item.size);
                end = start;
            }
        } else {
            let children = self.children(level, i);
            head.u32(children.len() as u32).u8(level);
            let below: usize = self.levels[..level as usize - 1].iter().sum();
            for child in children {
                head.key(self.first_key(level - 1, child))
                    .u64(addresses[below + child])
                    .u64(stamp.generation);
            }
        }
        block[..head.len()].copy_from_slice(&head);
        let csum = crc32c::crc32c(&block[32..]);
        block[..4].copy_from_slice(&csum.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_full_and_nodes_even() {
        let mut items = Items::default();
        for i in 0..100_000_u64 {
            items.push(Key::new(i, 1, 0), &[0; 100]);
        }
        let tree = items.pack(5, 4096);
        // 31 items of 125 bytes fit 3995 bytes; 121 pointers a node.
        assert_eq!(tree.levels, [3226, 27, 1]);
        assert_eq!((tree.blocks(), tree.height()), (3254, 2));
        assert_eq!(tree.place(3226), (1, 0));
        assert_eq!(tree.place(3253), (2, 0));
        assert_eq!(tree.first_key(1, 1).objectid, tree.first_key(0, 119).objectid);
        let covered: usize = (0..27).map(|i| tree.children(1, i).len()).sum();
        assert_eq!(covered, 3226);
    }

    #[test]
    fn items_are_small_and_keep_all() {
        assert_eq!(size_of::<Item>(), 32);
        let key = Key::new(u64::MAX, 255, u64::MAX - 1);
        for body in [Body::Arena(0), Body::Arena(INLINE - 1), Body::Inline(0), Body::Inline(u32::MAX)] {
            let item = Item::new(key, u32::MAX, body);
            assert_eq!((item.key(), item.size, item.body()), (key, u32::MAX, body));
        }
    }

    #[test]
    fn an_empty_tree_is_one_leaf() {
        let tree = Items::default().pack(7, 4096);
        assert_eq!((tree.blocks(), tree.height()), (1, 0));
        assert_eq!(tree.first_key(0, 0), Key::default());
    }
}
