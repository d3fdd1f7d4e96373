//! Where Linux stops unpacking, and what it prints there (init/initramfs.c, lib/decompress_*.c).

use std::fmt;
use std::io;

use crate::codec::{Encoding, LargeDictionary, Refusal, linux_words};
use crate::error::Error;

const DAMAGED: &str = "the image is damaged or was cut short: fetch it again and compare its checksum";

/// The point at which Linux stops unpacking an image. What it unpacked before stays, and it boots with that.
#[derive(Debug, Clone)]
pub struct Stop {
    /// What Linux prints; `None` if it stops without a message, as it does when a plain archive is cut short.
    pub linux: Option<&'static str>,
    /// What is wrong and where, and what to do.
    pub error: Error,
    /// The bytes of the file from the segment in which Linux stops to the end.
    pub left: u64,
    /// How many entries of that segment Linux unpacks.
    pub entries: u64,
}

impl fmt::Display for Stop {
    /// What it means, as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, place) = (self.error.place.segment.unwrap_or(1), &self.error.place);
        write!(f, "Linux stops in segment {number}")?;
        if let Some(offset) = place.offset {
            write!(f, " at {}byte {offset}", if place.unpacked { "unpacked " } else { "" })?;
        }
        match self.linux {
            Some(words) => write!(f, " and prints '{words}'")?,
            None => write!(f, " without a message")?,
        }
        write!(f, " ({}): ", self.error.what)?;
        if self.entries == 0 {
            write!(f, "the last {} bytes of the file are not unpacked", self.left)
        } else {
            write!(
                f,
                "of the last {} bytes of the file it unpacks {} entries and nothing else",
                self.left, self.entries
            )
        }
    }
}

/// Why reading ends before the end of the image.
#[derive(Debug)]
pub(super) enum Halt {
    /// Linux stops here too.
    Linux(Box<Stop>),
    /// A limit, or a device that failed: nothing is known of what follows.
    Fatal(Box<Error>),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Fatal(Box::new(error))
    }
}

impl Halt {
    fn linux(linux: Option<&'static str>, error: Error) -> Self {
        Self::Linux(Box::new(Stop { linux, error, left: 0, entries: 0 }))
    }

    /// Linux prints `words` at `offset` of the unpacked segment.
    pub(super) fn new(words: &'static str, offset: u64, what: impl Into<String>, remedy: &str) -> Self {
        let error = Error::input(what).at_unpacked(offset);
        Self::linux(Some(words), error.hint(format!("Linux stops here with '{words}': {remedy}")))
    }

    /// Data at `offset` that no packer writes; Linux prints `words`.
    pub(super) fn damaged(words: &'static str, offset: u64, what: impl Into<String>) -> Self {
        Self::new(words, offset, what, DAMAGED)
    }

    /// The archive ends at `offset`. For a compressed one that is the end of its stream.
    pub(super) fn end(encoding: Encoding, offset: u64, expected: &str) -> Self {
        let what = format!("unexpected end of archive: expected {expected}");
        if encoding == Encoding::Plain {
            // The kernel waits for more and never says so.
            return Self::linux(None, Error::input(what).at_unpacked(offset).hint(DAMAGED));
        }
        let remedy = format!(
            "the image was cut short, or it was packed as several {encoding} streams, which are separate archives \
             for Linux: pack it as one stream{}",
            if encoding == Encoding::Bzip2 { " (bzip2, not pbzip2)" } else { "" }
        );
        Self::new("junk at the end of compressed archive", offset, what, &remedy)
    }

    /// A read of `expected` at `offset` that failed.
    pub(super) fn reading(encoding: Encoding, offset: u64, error: io::Error, expected: &str) -> Self {
        if let Some(Refusal { linux, remedy, .. }) = inner(&error) {
            return Self::new(linux, offset, error.to_string(), remedy);
        }
        if inner::<LargeDictionary>(&error).is_some() {
            let hint = "unpack it yourself and give the result, or pack it with a smaller dictionary: xz -9 --check=crc32 \
                        takes 64 MiB, on the target machine too";
            return Error::input(error.to_string()).at_unpacked(offset).hint(hint).into();
        }
        if let Some(Damaged { truncated, source }) = inner(&error) {
            let words = linux_words(encoding, *truncated);
            if encoding == Encoding::Lz4 {
                let remedy = "the image is damaged, or another segment follows too soon: an lz4 stream has no end mark, \
                              so that at least four zero bytes have to follow it";
                return Self::new(words, offset, format!("the compressed data is damaged: {source}"), remedy);
            }
            let what = if *truncated {
                "the compressed data ends in the middle of its stream".to_owned()
            } else {
                format!("the compressed data is damaged: {source}")
            };
            return Self::damaged(words, offset, what);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::end(encoding, offset, expected);
        }
        Error::reading(error).at_unpacked(offset).into()
    }

    /// Changes the error inside.
    pub(super) fn map(mut self, change: impl FnOnce(Error) -> Error) -> Self {
        let error = match &mut self {
            Self::Linux(stop) => &mut stop.error,
            Self::Fatal(error) => &mut **error,
        };
        *error = change(error.clone());
        self
    }
}

fn inner<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref()?.downcast_ref()
}

/// What a decompressor says of damaged data.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct Damaged {
    truncated: bool,
    source: io::Error,
}

impl Damaged {
    /// Marks an error of a decompressor, unless the source itself cannot be read.
    pub(super) fn mark(error: io::Error) -> io::Error {
        if error.raw_os_error().is_some()
            || inner::<Refusal>(&error).is_some()
            || inner::<LargeDictionary>(&error).is_some()
        {
            return error;
        }
        let (kind, truncated) = (error.kind(), error.kind() == io::ErrorKind::UnexpectedEof);
        io::Error::new(kind, Self { truncated, source: error })
    }
}
