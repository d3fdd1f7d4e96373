//! An error, as `--json` prints it.

use serde::{Deserialize, Serialize};

use super::{SCHEMA_VERSION, Tool};
use crate::error::{Error, Kind};

/// An error in the place of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The exit code.
    pub exit_code: u8,
    /// `failed`, `usage`, `input`, `missing`, `io` or `other`.
    pub kind: String,
    /// The error in words, with its causes.
    pub message: String,
    /// The file that it is about, escaped.
    pub file: Option<String>,
    /// The segment of the initrd, counted from 1.
    pub segment: Option<u64>,
    /// Byte offset in the file, or in the unpacked segment.
    pub offset: Option<u64>,
    /// Whether `offset` counts bytes of the unpacked segment.
    pub unpacked: bool,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// The report of an error with its `exit_code` and the whole `message`; `error` is its typed part, if it has one.
    #[must_use]
    pub fn new(exit_code: u8, message: String, error: Option<&Error>) -> Self {
        let place = error.map(|error| error.place.clone()).unwrap_or_default();
        Self {
            schema_version: SCHEMA_VERSION,
            tool: Tool::default(),
            exit_code,
            kind: error.map_or("other", |error| name(error.kind)).to_owned(),
            message,
            file: place.file.map(|file| crate::report::document::visible(&file.display().to_string())),
            segment: place.segment.map(|segment| segment as u64),
            offset: place.offset,
            unpacked: place.unpacked,
            hint: error.and_then(|error| error.hint.clone()),
        }
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Failed => "failed",
        Kind::Usage => "usage",
        Kind::Input => "input",
        Kind::Missing => "missing",
        Kind::Io => "io",
    }
}
