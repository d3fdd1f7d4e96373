//! Flattened image trees (FIT): a flattened device tree whose /images hold kernels, ramdisks and device trees (the
//! Devicetree Specification 0.4, chapter 5, and the Flat Image Tree specification of U-Boot).

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::bytes::{ReadAt, Slice, pieces};
use crate::error::Error;
use crate::tree::display;

const MAGIC: u32 = 0xd00d_feed;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// Bounds of a tree; an image has some dozens of nodes.
const MAX_TOKENS: usize = 100_000;
const MAX_DEPTH: usize = 32;
/// The longest value that is read; only the data of images is longer.
const MAX_VALUE: u64 = 64 << 10;
const MAX_STRINGS: u64 = 1 << 20;

/// A property's value.
#[derive(Debug, Clone)]
enum Value {
    /// Where it lies in the file.
    At(Range<u64>),
    /// A new one.
    New(Vec<u8>),
    /// The new ramdisk.
    Ramdisk,
}

#[derive(Debug, Clone, Default)]
struct Node {
    name: Vec<u8>,
    properties: Vec<(Vec<u8>, Value)>,
    children: Vec<Node>,
}

impl Node {
    fn child(&self, name: &[u8]) -> Option<&Self> {
        self.children.iter().find(|node| node.name == name)
    }
    fn property(&self, name: &str) -> Option<&Value> {
        self.properties.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value)
    }
    fn set(&mut self, name: &str, value: Value) {
        if let Some((_, old)) = self.properties.iter_mut().find(|(key, _)| key == name.as_bytes()) {
            *old = value;
        }
    }
    fn has_signature(&self) -> bool {
        self.name.starts_with(b"signature") || self.children.iter().any(Self::has_signature)
    }
}

/// A flattened image tree with a ramdisk.
#[derive(Clone)]
pub struct Fit {
    source: Arc<dyn ReadAt>,
    /// Size of the device tree, after which external data follows.
    size: u64,
    /// The memory reservations.
    reserved: Range<u64>,
    boot_cpu: u32,
    root: Node,
    ramdisk: Vec<u8>,
    kernel: Option<Vec<u8>>,
}

impl fmt::Debug for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fit").field("ramdisk", &display(&self.ramdisk)).finish_non_exhaustive()
    }
}

fn damaged(what: &str) -> Error {
    Error::input(format!("is a damaged device tree (FIT): {what}"))
        .hint("fetch it again and compare its checksum; dumpimage -l lists its parts")
}

/// Reads the structure block.
struct Cursor<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl Cursor<'_> {
    fn word(&mut self) -> Option<u32> {
        let mut bytes = [0; 4];
        if self.at + 4 > self.end {
            return None;
        }
        self.source.read_exact_at(&mut bytes, self.at).ok()?;
        self.at += 4;
        Some(u32::from_be_bytes(bytes))
    }

    /// A name that ends in NUL, and its padding.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; (self.end - self.at).min(256) as usize];
        self.source.read_exact_at(&mut bytes, self.at).ok()?;
        let len = bytes.iter().position(|&b| b == 0)?;
        bytes.truncate(len);
        self.at = (self.at + len as u64 + 1).next_multiple_of(4);
        Some(bytes)
    }
}

fn structure(mut cursor: Cursor<'_>, strings: &[u8]) -> Option<Node> {
    let mut open: Vec<Node> = vec![Node::default()];
    for _ in 0..MAX_TOKENS {
        match cursor.word()? {
            BEGIN_NODE if open.len() < MAX_DEPTH => {
                open.push(Node { name: cursor.name()?, ..Node::default() });
            }
            END_NODE => {
                let node = open.pop()?;
                open.last_mut()?.children.push(node);
            }
            PROP => {
                let (len, name) = (u64::from(cursor.word()?), cursor.word()? as usize);
                let name = strings.get(name..)?.split(|&b| b == 0).next()?.to_vec();
                let range = cursor.at..cursor.at + len;
                if range.end > cursor.end {
                    return None;
                }
                cursor.at = range.end.next_multiple_of(4);
                open.last_mut()?.properties.push((name, Value::At(range)));
            }
            NOP => {}
            END => {
                let mut top = open.pop().filter(|_| open.is_empty())?;
                return (top.children.len() == 1).then(|| top.children.remove(0));
            }
            _ => return None,
        }
    }
    None
}

impl Fit {
    /// Reads the tree; `None` if `start` does not begin with its magic.
    ///
    /// # Errors
    /// If it is damaged, or has no ramdisk.
    pub(super) fn parse(start: &[u8], source: &Arc<dyn ReadAt>) -> Result<Option<Self>, Error> {
        let field =
            |index: usize| start.get(index * 4..index * 4 + 4)?.try_into().ok().map(u32::from_be_bytes);
        if field(0) != Some(MAGIC) {
            return Ok(None);
        }
        let field = |index| field(index).map(u64::from).ok_or_else(|| damaged("its header is cut short"));
        let (size, structure_at, strings_at, reserved) = (field(1)?, field(2)?, field(3)?, field(4)?);
        let (strings_size, structure_size) = (field(8)?, field(9)?);
        let inside = |at: u64, len: u64| at + len <= size && size <= source.len();
        if !inside(structure_at, structure_size)
            || !inside(strings_at, strings_size)
            || strings_size > MAX_STRINGS
        {
            return Err(damaged("its blocks are not in the file"));
        }
        let mut strings = vec![0; strings_size as usize];
        source.read_exact_at(&mut strings, strings_at).map_err(Error::reading)?;
        let cursor = Cursor { source: source.as_ref(), at: structure_at, end: structure_at + structure_size };
        let root = structure(cursor, &strings).ok_or_else(|| damaged("its structure block is wrong"))?;
        let mut fit = Self {
            source: Arc::clone(source),
            size,
            reserved: reserved..reserved,
            boot_cpu: field(7)? as u32,
            root,
            ramdisk: Vec::new(),
            kernel: None,
        };
        fit.reserved =
            fit.reservations(reserved).ok_or_else(|| damaged("its memory reservations are wrong"))?;
        let Some(ramdisk) = fit.part("ramdisk") else {
            return Err(Error::input("is a device tree without a ramdisk: expected a FIT image with one")
                .hint("give a FIT image that has a ramdisk (dumpimage -l lists the parts), or the initrd itself"));
        };
        fit.ramdisk = ramdisk;
        fit.kernel = fit.part("kernel");
        Ok(Some(fit))
    }

    /// The list of memory reservations: pairs of 64-bit numbers up to a pair of zeros.
    fn reservations(&self, start: u64) -> Option<Range<u64>> {
        let mut at = start;
        for _ in 0..1024 {
            let mut pair = [0; 16];
            self.source.read_exact_at(&mut pair, at).ok()?;
            at += 16;
            if pair == [0; 16] {
                return Some(start..at);
            }
        }
        None
    }

    fn value(&self, value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::New(bytes) => Some(bytes.clone()),
            Value::Ramdisk => None,
            Value::At(range) => {
                let len = range.end - range.start;
                let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| len <= MAX_VALUE)?];
                self.source.read_exact_at(&mut bytes, range.start).ok()?;
                Some(bytes)
            }
        }
    }

    /// A property that is a text.
    fn text(&self, node: &Node, name: &str) -> Option<Vec<u8>> {
        let bytes = self.value(node.property(name)?)?;
        Some(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec())
    }

    fn number(&self, node: &Node, name: &str) -> Option<u64> {
        Some(u64::from(u32::from_be_bytes(self.value(node.property(name)?)?.try_into().ok()?)))
    }

    fn image(&self, name: &[u8]) -> Option<&Node> {
        self.root.child(b"images")?.child(name)
    }

    /// The name of the image that the default configuration uses as its `kind`, else of the first of this type.
    fn part(&self, kind: &str) -> Option<Vec<u8>> {
        let configurations = self.root.child(b"configurations");
        let named = configurations.and_then(|node| {
            let default = self.text(node, "default")?;
            self.text(node.child(&default)?, kind)
        });
        let images = self.root.child(b"images")?;
        let is_kind =
            |node: &&Node| self.text(node, "type").is_some_and(|text| text.starts_with(kind.as_bytes()));
        let first = || images.children.iter().find(is_kind).map(|node| node.name.clone());
        named.filter(|name| images.child(name).is_some()).or_else(first)
    }

    /// Where the data of an image lies: in its node, or after the tree.
    fn data(&self, node: &Node) -> Option<Range<u64>> {
        if let Some(Value::At(range)) = node.property("data") {
            return Some(range.clone());
        }
        let len = self.number(node, "data-size")?;
        let start = match self.number(node, "data-offset") {
            Some(offset) => self.size.next_multiple_of(4) + offset,
            None => self.number(node, "data-position")?,
        };
        (start + len <= self.source.len()).then_some(start..start + len)
    }

    fn slice(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>> {
        Some(Arc::new(Slice::new(Arc::clone(&self.source), self.data(self.image(name)?)?)))
    }

    pub(super) fn initrd(&self) -> Result<Arc<dyn ReadAt>, Error> {
        self.slice(&self.ramdisk).ok_or_else(|| damaged("the data of its ramdisk is not in the file"))
    }

    pub(super) fn kernel(&self) -> Option<Arc<dyn ReadAt>> {
        self.slice(self.kernel.as_ref()?)
    }

    pub(super) fn describe(&self) -> Vec<String> {
        let kernel =
            self.kernel.as_ref().map_or(String::new(), |name| format!(" and the kernel {}", display(name)));
        vec![format!("the file is a FIT image with the ramdisk {}{kernel}", display(&self.ramdisk))]
    }

    pub(super) fn next_steps(&self, new: &str) -> Vec<String> {
        let mut steps = vec![format!("{new} is a FIT image with new checksums; dumpimage -l {new} shows it")];
        if self.root.has_signature() {
            steps.push(format!(
                "the signatures in it are those of the old ramdisk: sign it anew with mkimage -F -k KEYDIR -r {new}, or U-Boot \
                 refuses it"
            ));
        }
        steps
    }

    /// Writes the image with another ramdisk.
    pub(super) fn write(&self, initrd: &dyn ReadAt, out: &mut dyn Write) -> io::Result<u64> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let mut root = self.root.clone();
        let images = root.children.iter_mut().find(|node| node.name == b"images");
        let images = images.ok_or_else(|| invalid("the FIT image has no images"))?;
        // Data after the tree, in the order of the images.
        let mut external: Vec<Value> = Vec::new();
        let mut offset = 0_u64;
        for node in &mut images.children {
            let new = node.name == self.ramdisk;
            if new {
                self.replace(node, initrd)?;
            }
            if node.property("data").is_some() {
                continue;
            }
            if node.property("data-position").is_some() {
                return Err(invalid(
                    "the FIT image has data at fixed positions (data-position), which cannot be moved",
                ));
            }
            let Some(range) = self.data(node) else { continue };
            let len = if new { initrd.len() } else { range.end - range.start };
            let number =
                |value: u64| u32::try_from(value).map_err(|_| invalid("a FIT image holds less than 4 GiB"));
            node.set("data-offset", Value::New(number(offset)?.to_be_bytes().to_vec()));
            node.set("data-size", Value::New(number(len)?.to_be_bytes().to_vec()));
            external.push(if new { Value::Ramdisk } else { Value::At(range) });
            offset = (offset + len).next_multiple_of(4);
        }
        let mut tree = Writer::default();
        tree.node(&root, initrd.len());
        tree.word(END);
        self.assemble(&tree, &external, initrd, out)
    }

    /// Sets what depends on the data of the ramdisk's node.
    fn replace(&self, node: &mut Node, initrd: &dyn ReadAt) -> io::Result<()> {
        node.set("data", Value::Ramdisk);
        // U-Boot would unpack it before Linux does.
        node.set("compression", Value::New(b"none\0".to_vec()));
        for index in 0..node.children.len() {
            let Some(algorithm) = self.text(&node.children[index], "algo") else { continue };
            if !node.children[index].name.starts_with(b"hash") {
                continue;
            }
            let sum = hash(&algorithm, initrd)?;
            node.children[index].set("value", Value::New(sum));
        }
        Ok(())
    }

    fn assemble(
        &self,
        tree: &Writer,
        external: &[Value],
        initrd: &dyn ReadAt,
        out: &mut dyn Write,
    ) -> io::Result<u64> {
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "a FIT image holds less than 4 GiB");
        // A multiple of eight already.
        let reserved_at = HEADER as u64;
        let structure_at = reserved_at + (self.reserved.end - self.reserved.start);
        let strings_at = structure_at + tree.len;
        let size = (strings_at + tree.strings.len() as u64).next_multiple_of(4);
        let number = |value: u64| u32::try_from(value).map_err(|_| too_large());
        let fields = [
            MAGIC,
            number(size)?,
            number(structure_at)?,
            number(strings_at)?,
            number(reserved_at)?,
            17,
            16,
            self.boot_cpu,
            number(tree.strings.len() as u64)?,
            number(tree.len)?,
        ];
        for field in fields {
            out.write_all(&field.to_be_bytes())?;
        }
        pieces(self.source.as_ref(), self.reserved.clone(), |bytes| out.write_all(bytes))?;
        for piece in &tree.pieces {
            self.put(piece, initrd, out)?;
        }
        out.write_all(&tree.strings)?;
        let mut at = strings_at + tree.strings.len() as u64;
        for piece in external {
            out.write_all(&[0; 4][..(at.next_multiple_of(4) - at) as usize])?;
            at = at.next_multiple_of(4) + self.put(piece, initrd, out)?;
        }
        let zeros = at.next_multiple_of(4) - at;
        out.write_all(&[0; 4][..zeros as usize])?;
        Ok(at + zeros)
    }

    fn put(&self, piece: &Value, initrd: &dyn ReadAt, out: &mut dyn Write) -> io::Result<u64> {
        match piece {
            Value::New(bytes) => out.write_all(bytes).map(|()| bytes.len() as u64),
            Value::At(range) => {
                pieces(self.source.as_ref(), range.clone(), |bytes| out.write_all(bytes))?;
                Ok(range.end - range.start)
            }
            Value::Ramdisk => {
                pieces(initrd, 0..initrd.len(), |bytes| out.write_all(bytes))?;
                Ok(initrd.len())
            }
        }
    }
}

/// The structure block of a tree.
#[derive(Default)]
struct Writer {
    pieces: Vec<Value>,
    len: u64,
    strings: Vec<u8>,
}

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Value::New(last)) => last.extend_from_slice(bytes),
            _ => self.pieces.push(Value::New(bytes.to_vec())),
        }
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn pad(&mut self) {
        let zeros = self.len.next_multiple_of(4) - self.len;
        self.bytes(&[0; 4][..zeros as usize]);
    }

    /// Where `name` is in the strings block.
    fn string(&mut self, name: &[u8]) -> u32 {
        let with_nul = [name, b"\0"].concat();
        let found = self.strings.windows(with_nul.len()).position(|window| window == with_nul);
        let at = found.unwrap_or_else(|| {
            self.strings.extend_from_slice(&with_nul);
            self.strings.len() - with_nul.len()
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn node(&mut self, node: &Node, ramdisk: u64) {
        self.word(BEGIN_NODE);
        self.bytes(&node.name);
        self.bytes(b"\0");
        self.pad();
        for (name, value) in &node.properties {
            let len = match value {
                Value::New(bytes) => bytes.len() as u64,
                Value::At(range) => range.end - range.start,
                Value::Ramdisk => ramdisk,
            };
            self.word(PROP);
            // What is larger does not fit the tree either, which `assemble` refuses.
            self.word(u32::try_from(len).unwrap_or(u32::MAX));
            let name = self.string(name);
            self.word(name);
            match value {
                Value::New(bytes) => self.bytes(bytes),
                other => {
                    self.pieces.push(other.clone());
                    self.len += len;
                }
            }
            self.pad();
        }
        for child in &node.children {
            self.node(child, ramdisk);
        }
        self.word(END_NODE);
    }
}

/// The hash of all of `source` by U-Boot's name of the algorithm.
fn hash(algorithm: &[u8], source: &dyn ReadAt) -> io::Result<Vec<u8>> {
    fn digest<D: Digest>(source: &dyn ReadAt) -> io::Result<Vec<u8>> {
        let mut digest = D::new();
        pieces(source, 0..source.len(), |bytes| {
            digest.update(bytes);
            Ok(())
        })?;
        Ok(digest.finalize().to_vec())
    }
    match algorithm {
        b"crc32" => {
            let mut crc = flate2::Crc::new();
            pieces(source, 0..source.len(), |bytes| {
                crc.update(bytes);
                Ok(())
            })?;
            Ok(crc.sum().to_be_bytes().to_vec())
        }
        b"sha1" => digest::<Sha1>(source),
        b"sha256" => digest::<Sha256>(source),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the ramdisk of the FIT image has a hash of the kind {}: only crc32, sha1 and sha256 can be made",
                display(other)
            ),
        )),
    }
}
