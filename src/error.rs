//! The errors on which a caller branches, and the exit code of each.

use std::fmt;
use std::path::PathBuf;

/// What kind of failure an [`Error`] is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A comparison, budget or boot failed (exit code 1).
    Failed,
    /// The command line asks for something that cannot be (exit code 2).
    Usage,
    /// The input is damaged or of a kind that is not supported (exit code 3).
    Input,
    /// A tool or a kernel module is missing (exit code 4).
    Missing,
}

impl Kind {
    /// The process exit code for this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::Missing => 4,
        }
    }
}

/// Where in an input something was found wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user named it.
    pub file: Option<PathBuf>,
    /// The segment of an initrd, counted from 1.
    pub segment: Option<usize>,
    /// Byte offset in `file` (or, where `segment` is compressed and `unpacked` is set, in the unpacked segment).
    pub offset: Option<u64>,
    /// Whether `offset` counts bytes of the unpacked segment.
    pub unpacked: bool,
}

/// An error that tells the user what was found, where, what was expected and what to do.
#[derive(Debug, Clone)]
pub struct Error {
    /// What kind of failure it is.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// What was found and what was expected: one sentence, lower case, no full stop.
    pub what: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Error {
    /// A new error of `kind` saying `what`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, place: Place::default(), what: what.into(), hint: None }
    }
    /// Damaged or unsupported input.
    pub fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }
    /// Something that is needed is missing.
    pub fn missing(what: impl Into<String>) -> Self {
        Self::new(Kind::Missing, what)
    }
    /// An impossible request.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }
    /// A failed comparison, budget or boot.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }
    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds the file.
    #[must_use]
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.place.file = Some(file.into());
        self
    }
    /// Adds the segment (counted from 1).
    #[must_use]
    pub fn segment(mut self, segment: usize) -> Self {
        self.place.segment = Some(segment);
        self
    }
    /// Adds a byte offset in the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.place.offset = Some(offset);
        self.place.unpacked = false;
        self
    }
    /// Adds a byte offset in the unpacked segment.
    #[must_use]
    pub fn at_unpacked(mut self, offset: u64) -> Self {
        self.place.offset = Some(offset);
        self.place.unpacked = true;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = Vec::new();
        if let Some(file) = &self.place.file {
            place.push(file.display().to_string());
        }
        if let Some(segment) = self.place.segment {
            place.push(format!("segment {segment}"));
        }
        if let Some(offset) = self.place.offset {
            place.push(format!("{}byte {offset}", if self.place.unpacked { "unpacked " } else { "" }));
        }
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
        }
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The exit code of any error: that of the [`Error`] in its chain, else 3 (input could not be read).
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|e| e.downcast_ref::<Error>()).map_or(3, |e| e.kind.exit_code())
}
