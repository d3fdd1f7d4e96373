//! Every compression in one place: what Linux unpacks as an initramfs, how packages and kernel modules are compressed,
//! and the methods of squashfs.

mod any;
mod compression;
mod lz4;
pub(crate) mod lzo;
mod lzop;
mod pack;
mod unpack;

use std::fmt;
use std::io;

use serde::Serialize;
use xz2::stream::LzmaOptions;

pub(crate) use any::{decoder as any, unpack, unpack_prefix};
pub use compression::Compression;
pub(crate) use pack::branch_filter;
pub use pack::{compress, compress_boot};
pub(crate) use unpack::{LargeDictionary, Refusal, decoder, dictionary, linux_words};

/// How a segment is packed: the methods of the kernel's lib/decompress.c, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Not compressed.
    Plain,
    /// gzip, RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// The legacy .lzma ("alone") format.
    Lzma,
    /// xz.
    Xz,
    /// The lzop container.
    Lzo,
    /// The legacy lz4 frame (`lz4 -l`).
    Lz4,
    /// zstd.
    Zstd,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Plain, Self::Gzip, Self::Bzip2, Self::Lzma, Self::Xz, Self::Lzo, Self::Lz4, Self::Zstd];

    /// The name by which the kernel's configuration and messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzo",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// `compressed_formats` of the kernel's lib/decompress.c, in its order: the two bytes by which Linux decides.
    pub(crate) const LINUX_MAGICS: [([u8; 2], Self); 8] = [
        ([0x1f, 0x8b], Self::Gzip),
        ([0x1f, 0x9e], Self::Gzip),
        ([b'B', b'Z'], Self::Bzip2),
        ([0x5d, 0x00], Self::Lzma),
        ([0xfd, b'7'], Self::Xz),
        ([0x89, b'L'], Self::Lzo),
        ([0x02, 0x21], Self::Lz4),
        ([0x28, 0xb5], Self::Zstd),
    ];
    /// The whole signature of each format, for files of any kind and for searching. That of lzma is weak: the properties
    /// lc=3 lp=0 pb=2, then a dictionary size that is a multiple of 64 KiB.
    pub(crate) const SIGNATURES: [(&'static [u8], Self); 7] = [
        (&[0x1f, 0x8b, 8], Self::Gzip),
        (b"\xfd7zXZ\0", Self::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
        (b"BZh", Self::Bzip2),
        (&lz4::MAGIC.to_le_bytes(), Self::Lz4),
        (&lzop::MAGIC, Self::Lzo),
        (&[0x5d, 0, 0], Self::Lzma),
    ];

    /// The method that Linux takes for a segment that begins with `start`.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        match Self::LINUX_MAGICS.into_iter().find(|(magic, _)| start.starts_with(magic)) {
            Some((_, encoding)) => Some(encoding),
            None => start.starts_with(b"0").then_some(Self::Plain),
        }
    }

    /// The compression whose whole signature `start` begins with.
    pub(crate) fn by_signature(start: &[u8]) -> Option<Self> {
        Self::SIGNATURES.into_iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, encoding)| encoding)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `XZ_PRESET_DEFAULT`, as mksquashfs has it.
const XZ_PRESET: u32 = 6;
/// The length at which a match is good enough, and how many candidates are tried: 32 and 12 instead of the preset's 64
/// and 48 save a fifth of the time on a real image and cost 0.6% in size.
const XZ_NICE: u32 = 32;
const XZ_DEPTH: u32 = 12;
/// The smallest dictionary of LZMA2.
const XZ_DICTIONARY_MIN: u32 = 4096;

/// The LZMA2 settings for blocks of the squashfs and for the boot initramfs, with a dictionary of at most so many bytes.
/// `thorough` takes the preset as it is: smaller and slower. What is small and in every image is worth the time.
pub(crate) fn xz_options(dictionary: u32, thorough: bool) -> io::Result<LzmaOptions> {
    let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
    options.dict_size(dictionary.max(XZ_DICTIONARY_MIN));
    if !thorough {
        options.nice_len(XZ_NICE).depth(XZ_DEPTH);
    }
    Ok(options)
}
