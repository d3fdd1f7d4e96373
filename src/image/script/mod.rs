//! Follows a boot script without running it: what it mounts, what it copies, and what it starts at its end.
//!
//! [`follow`] walks a script's commands as a shell would, with variables, functions, sourced files and the scripts that
//! it calls, and takes for granted that mounts and copies succeed and that the kernel's command line asks for nothing
//! unusual. Both sides of a condition that cannot be known are followed, and what they do is marked as uncertain. Text
//! that is not known, such as what a program prints, is [`UNKNOWN`].

mod arguments;
mod builtins;
mod call;
mod commands;
mod expand;
mod listing;
mod syntax;
mod trace;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::tree::Tree;

/// Stands for text that is not known. Bytes of a script that are not UTF-8 become this as well.
pub(crate) const UNKNOWN: char = char::REPLACEMENT_CHARACTER;

/// Scripts larger than this are not read.
pub(crate) const MAX_TEXT: u64 = 512 << 10;

/// A program that makes another directory the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// switch_root(8), of util-linux or busybox.
    SwitchRoot,
    /// run-init of klibc.
    RunInit,
    /// pivot_root(8).
    PivotRoot,
    /// chroot(8).
    Chroot,
}

impl Tool {
    /// The tool's own name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SwitchRoot => "switch_root",
            Self::RunInit => "run-init",
            Self::PivotRoot => "pivot_root",
            Self::Chroot => "chroot",
        }
    }
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `-t`, or what the kernel's own file systems are called where it is left out.
    pub kind: String,
    /// The device, file or directory; may be empty.
    pub source: String,
    /// Absolute path of the mount point.
    pub target: String,
    /// `-o`.
    pub options: String,
    /// Whether an existing mount is moved here or bound.
    pub moved: bool,
}

/// A copy of files and directories into a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Absolute paths.
    pub sources: Vec<String>,
    /// Absolute paths that are left out.
    pub excluded: Vec<String>,
    /// Absolute path of the directory.
    pub target: String,
    /// The program that copies.
    pub by: &'static str,
}

/// What is started in the script's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// What changes the root first.
    pub tool: Option<Tool>,
    /// Whether the tool is busybox's: it moves no mounts.
    pub busybox: bool,
    /// The root: absolute path of a directory, `/` where it stays.
    pub root: String,
    /// The program, as it is named below that root.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What the script exported.
    pub environment: Vec<(String, String)>,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// It mounts a file system, or moves a mount.
    Mount(Mount),
    /// It ends a mount of this path.
    Unmount(String),
    /// It copies files.
    Copy(Copied),
    /// It unpacks an archive of the image.
    Unpack {
        /// Absolute path of the archive.
        archive: String,
    },
    /// It ends the script by starting a program.
    Start(Start),
    /// Something else that may matter to what comes after.
    Other(String),
}

/// A command that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// What it does.
    pub action: Action,
    /// Whether it is sure to run.
    pub certain: bool,
}

/// What a script does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// In order.
    pub events: Vec<Event>,
    /// Absolute paths of files and directories that it makes.
    pub made: BTreeSet<String>,
    /// Whether all of it was followed; else it was too long.
    pub complete: bool,
}

/// What a script finds that is started again in a copy of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Again {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Files and directories that were made in the copy, as they are named below its root.
    pub made: BTreeSet<String>,
}

/// Follows `text`, the script that is `path` in `tree`.
pub(crate) fn follow(tree: &Tree, path: &str, text: &str) -> Trace {
    follow_again(tree, path, text, &Again::default())
}

/// The same, for a script that was started by an earlier one.
pub(crate) fn follow_again(tree: &Tree, path: &str, text: &str, again: &Again) -> Trace {
    trace::Tracer::run(tree, path, text, again)
}
