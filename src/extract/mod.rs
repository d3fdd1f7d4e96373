//! Takes files out of an image: which ones, and into a tar archive or a directory of the host.
//!
//! This is the only place of the library where names of an image become names on the host. They do so one component
//! at a time, below a directory that the user names, and never through a symlink.

mod directory;
mod select;
mod tar;

pub use directory::{Extracted, into_directory};
pub use select::{Selection, with_parents};
pub use tar::{Archived, into_tar};

use std::io::{self, Write};

use crate::error::{Error, Kind, is_device_failure};
use crate::tree::{Content, Node, Tree, display};

/// How many bytes of a file are copied at a time.
const CHUNK: u64 = 1 << 20;

/// Why content could not be copied: one side cannot be read, or the other cannot be written.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl CopyError {
    /// The error for the file at `path`.
    fn at(self, path: &[u8]) -> Error {
        match self {
            Self::Read(e) => unreadable(path, e),
            Self::Write(e) => unwritable(e),
        }
    }
}

fn unreadable(path: &[u8], error: io::Error) -> Error {
    let kind = if is_device_failure(&error) { Kind::Io } else { Kind::Input };
    Error::new(kind, format!("/{} cannot be read", display(path))).caused_by(error)
}

fn unwritable(error: io::Error) -> Error {
    let mut error = Error::writing(error);
    error.what = "the output cannot be written".into();
    error
}

/// Writes all of `content` to `out`, holes as zeros.
fn copy(tree: &Tree, content: &Content, out: &mut dyn Write) -> Result<(), CopyError> {
    let mut buffer = vec![0; CHUNK.min(content.size) as usize];
    let mut at = 0;
    while at < content.size {
        let part = &mut buffer[..CHUNK.min(content.size - at) as usize];
        tree.read_at(content, part, at).map_err(CopyError::Read)?;
        out.write_all(part).map_err(CopyError::Write)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// Writes the content of the file at `path` to `out`; symlinks are followed inside the image.
///
/// # Errors
/// [`crate::error::Kind::Failed`] if there is nothing at `path`, [`crate::error::Kind::Usage`] if it is not a regular
/// file, [`crate::error::Kind::Input`] if the image
/// cannot be read. A closed pipe is no error.
pub fn cat(tree: &Tree, path: &str, out: &mut dyn Write) -> Result<(), Error> {
    let Some(id) = tree.resolve(path) else {
        let hint = "list the paths of the image with: btrsquash ls IMG";
        return Err(Error::failed(format!("the image has no file {path}")).hint(hint));
    };
    let kind = match &tree.inode(id).node {
        Node::Regular(content) => {
            return match copy(tree, content, out).and_then(|()| out.flush().map_err(CopyError::Write)) {
                Err(CopyError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                Err(e) => Err(e.at(path.trim_start_matches('/').as_bytes())),
                Ok(()) => Ok(()),
            };
        }
        Node::Directory(_) => "a directory",
        Node::CharDevice(_) | Node::BlockDevice(_) => "a device",
        Node::Fifo => "a named pipe",
        Node::Socket => "a socket",
        Node::Symlink(_) => "a symlink",
    };
    Err(Error::usage(format!("{path} is {kind}: only regular files have content")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::build::tree;

    #[test]
    fn cat_follows_symlinks_inside_the_image() {
        let tree =
            tree(&[("etc/real", b"content"), ("a/b", b"")], &[("etc/link", "../../etc/real"), ("x", "/a")]);
        let mut out = Vec::new();
        cat(&tree, "/etc/link", &mut out).unwrap();
        assert_eq!(out, b"content");
        assert!(cat(&tree, "x", &mut out).unwrap_err().what.contains("is a directory"));
        assert!(cat(&tree, "etc/none", &mut out).unwrap_err().what.contains("no file etc/none"));
    }
}
