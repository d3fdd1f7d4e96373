//! The errors on which a caller branches, and the exit code of each.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// A device failed or is full: nothing is wrong with the input (exit code 5).
    Io,
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
            Self::Io => 5,
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
    /// Byte offset in `file`, or in the unpacked segment if `unpacked` is set.
    pub offset: Option<u64>,
    /// Whether `offset` counts bytes of the unpacked segment.
    pub unpacked: bool,
}

/// An error that says what was found, where, what was expected and what to do.
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
    /// The error that caused this one; [`fmt::Display`] includes its text.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Whether a system call failed because of the device, the space on it or a limit on it, whatever was asked of it.
#[must_use]
pub fn is_device_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StaleNetworkFileHandle, StorageFull,
    };
    // EIO has no kind of its own.
    matches!(
        error.kind(),
        StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem | StaleNetworkFileHandle
    ) || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl Error {
    /// A new error of `kind` saying `what`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, place: Place::default(), what: what.into(), hint: None, source: None }
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
    /// A system call that failed while input was being read: [`Kind::Io`].
    pub fn reading(source: io::Error) -> Self {
        Self::new(Kind::Io, "reading failed").caused_by(source)
    }
    /// A file that the user named and that cannot be read: [`Kind::Io`] if the device failed, else [`Kind::Usage`].
    pub fn unreadable(source: io::Error) -> Self {
        Self::new(Kind::Usage, "cannot be read").caused_by(source)
    }
    /// An output that cannot be written: [`Kind::Io`] if the device failed or is full, else [`Kind::Usage`].
    pub fn writing(source: io::Error) -> Self {
        let error = Self::new(Kind::Usage, "cannot be written");
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let error = error.caused_by(source);
        if full { error.hint("free some space there, or write to another file system") } else { error }
    }
    /// A temporary file that cannot be made or written: [`Kind::Io`], with the directory.
    pub fn temporary(source: io::Error) -> Self {
        Self::new(Kind::Io, "the temporary files cannot be written")
            .caused_by(source)
            .file(std::env::temp_dir())
            .hint("set TMPDIR to a directory with more room")
    }
    /// A thread that cannot be started: [`Kind::Io`].
    pub fn thread(source: io::Error) -> Self {
        Self::new(Kind::Io, "no thread can be started")
            .caused_by(source)
            .hint("raise the limit on processes (ulimit -u, or pids.max of the control group)")
    }
    /// Adds the error that caused this one. If a device failed or is full, this one becomes [`Kind::Io`]: nothing is wrong
    /// with what was asked for, or with the input.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let io = (&source as &dyn std::any::Any).downcast_ref::<io::Error>();
        if io.is_some_and(is_device_failure) {
            self.kind = Kind::Io;
        }
        self.source = Some(Arc::new(source));
        self
    }
    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds the file, unless there is one.
    #[must_use]
    pub fn or_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.place.file.get_or_insert_with(|| file.into());
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
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The exit code of any error: that of the [`Error`] in its chain, else 5 for a failed system call, else 3.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let known = error.chain().find_map(|e| e.downcast_ref::<Error>());
    let system = || error.chain().any(|e| e.downcast_ref::<io::Error>().is_some());
    known.map_or_else(|| if system() { Kind::Io } else { Kind::Input }, |e| e.kind).exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_part_of_the_text_and_of_the_chain() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::writing(full()).file("out");
        assert_eq!(error.kind, Kind::Io);
        assert!(error.to_string().starts_with("out: cannot be written: "), "{error}");
        assert!(std::error::Error::source(&error).is_some());
        // The same cause is the same class, wherever it happens.
        let codes = [Error::temporary(full()), Error::writing(full()), Error::reading(full())];
        assert!(codes.into_iter().all(|e| exit_code(&anyhow::Error::new(e).context("x")) == 5));
        assert_eq!(exit_code(&anyhow::Error::new(full()).context("copying")), 5);
        assert_eq!(Error::writing(io::ErrorKind::NotFound.into()).kind, Kind::Usage);
    }
}
