//! The compression methods of squashfs.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::Error;

/// How the blocks of a squashfs are compressed: the methods that have a number in `fs/squashfs/squashfs_fs.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// LZMA2 in an .xz container, with a branch filter where it helps.
    Xz,
    /// Zstandard.
    Zstd,
    /// A zlib stream.
    Gzip,
    /// LZ4 blocks. Of the fast kind: no crate without C code has LZ4 HC.
    Lz4,
    /// LZO1X.
    Lzo,
}

impl Compression {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Xz, Self::Zstd, Self::Gzip, Self::Lz4, Self::Lzo];

    /// The number of `squashfs_fs.h` (`ZLIB_COMPRESSION` and so on).
    #[must_use]
    pub(crate) const fn id(self) -> u16 {
        match self {
            Self::Gzip => 1,
            Self::Lzo => 3,
            Self::Xz => 4,
            Self::Lz4 => 5,
            Self::Zstd => 6,
        }
    }

    /// The method with this number.
    pub(crate) fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.id() == id)
    }

    /// Its name, as mksquashfs spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Lzo => "lzo",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|compression| compression.name() == name).ok_or_else(|| {
            Error::usage(format!("squashfs has no compression called {name:?}"))
                .hint("use xz, zstd, gzip, lz4 or lzo")
        })
    }
}
