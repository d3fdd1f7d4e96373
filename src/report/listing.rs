//! What `ls` shows: one line a path, or JSON.

use serde::{Deserialize, Serialize};

use super::data::{SCHEMA_VERSION, Tool};
use super::units;
use crate::tree::{Entry, Node, Tree, display};

/// What `ls` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image, as the user named it.
    pub image: String,
    /// The paths in the order asked for.
    pub entries: Vec<ListedPath>,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symlink.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
}

/// A path with the attributes of its inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedPath {
    /// The path without a leading `/`; `.` for the root directory.
    pub path: String,
    /// What it is.
    pub kind: PathKind,
    /// Permission bits with setuid, setgid and sticky, in octal: `0755`.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content; 0 for all but regular files.
    pub bytes: u64,
    /// Time of last modification, seconds since 1970.
    pub mtime: i64,
    /// How many names the inode has (1 for a directory).
    pub links: u32,
    /// Where a symlink leads.
    pub target: Option<String>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

impl ListedPath {
    /// The row of `entry` in `tree`.
    #[must_use]
    pub fn new(tree: &Tree, entry: &Entry) -> Self {
        let inode = tree.inode(entry.id);
        let (mut bytes, mut target, mut device) = (0, None, None);
        let kind = match &inode.node {
            Node::Directory(_) => PathKind::Directory,
            Node::Regular(content) => {
                bytes = content.size;
                PathKind::File
            }
            Node::Symlink(to) => {
                target = Some(display(to));
                PathKind::Symlink
            }
            Node::CharDevice(number) => {
                device = Some((number.major, number.minor));
                PathKind::CharacterDevice
            }
            Node::BlockDevice(number) => {
                device = Some((number.major, number.minor));
                PathKind::BlockDevice
            }
            Node::Fifo => PathKind::Pipe,
            Node::Socket => PathKind::Socket,
        };
        Self {
            path: if entry.path.is_empty() { ".".into() } else { display(&entry.path) },
            kind,
            mode: format!("{:04o}", inode.mode),
            uid: inode.uid,
            gid: inode.gid,
            bytes,
            mtime: inode.mtime,
            links: inode.nlink,
            target,
            device,
        }
    }

    /// Type and permissions as `ls -l` shows them: `-rwsr-xr-x`.
    fn permissions(&self) -> String {
        let mode = u32::from_str_radix(&self.mode, 8).unwrap_or_default();
        let kind = match self.kind {
            PathKind::Directory => 'd',
            PathKind::File => '-',
            PathKind::Symlink => 'l',
            PathKind::CharacterDevice => 'c',
            PathKind::BlockDevice => 'b',
            PathKind::Pipe => 'p',
            PathKind::Socket => 's',
        };
        let mut text = String::from(kind);
        for (shift, special, mark) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bits = mode >> shift;
            text.push(if bits & 4 != 0 { 'r' } else { '-' });
            text.push(if bits & 2 != 0 { 'w' } else { '-' });
            text.push(match (mode & special != 0, bits & 1 != 0) {
                (true, true) => mark,
                (true, false) => mark.to_ascii_uppercase(),
                (false, true) => 'x',
                (false, false) => '-',
            });
        }
        text
    }
}

impl Listing {
    /// The list of `entries` of `tree`.
    #[must_use]
    pub fn new(image: String, tree: &Tree, entries: &[Entry]) -> Self {
        let entries = entries.iter().map(|entry| ListedPath::new(tree, entry)).collect();
        Self { schema_version: SCHEMA_VERSION, tool: Tool::default(), image, entries }
    }

    /// One line a path; with `long` as `ls -ln` shows them, with times in UTC.
    #[must_use]
    pub fn text(&self, long: bool) -> String {
        let mut text = String::new();
        if !long {
            for entry in &self.entries {
                text.push_str(&entry.path);
                text.push('\n');
            }
            return text;
        }
        let owners = |entry: &ListedPath| format!("{}/{}", entry.uid, entry.gid);
        let size = |entry: &ListedPath| {
            entry.device.map_or_else(|| entry.bytes.to_string(), |(major, minor)| format!("{major},{minor}"))
        };
        let widest = |cell: &dyn Fn(&ListedPath) -> String| {
            self.entries.iter().map(|entry| cell(entry).len()).max().unwrap_or_default()
        };
        let (owners_width, size_width) = (widest(&owners), widest(&size));
        let links_width = widest(&|entry| entry.links.to_string());
        for entry in &self.entries {
            let time = units::time(entry.mtime);
            let time = time.strip_suffix(" UTC").unwrap_or(&time);
            text.push_str(&format!(
                "{} {:>links_width$} {:>owners_width$} {:>size_width$} {time} {}",
                entry.permissions(),
                entry.links,
                owners(entry),
                size(entry),
                entry.path
            ));
            if let Some(target) = &entry.target {
                text.push_str(" -> ");
                text.push_str(target);
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::build::tree;
    use crate::tree::{Device, Inode};

    #[test]
    fn long_lines_read_as_those_of_ls() {
        let mut tree = tree(&[("bin/su", b"12345"), ("tmp/x", b"")], &[("bin/sh", "busybox")]);
        let su = tree.get("bin/su").unwrap();
        tree.inode_mut(su).mode = 0o4755;
        let tmp = tree.get("tmp").unwrap();
        tree.inode_mut(tmp).mode = 0o1776;
        let inode = Inode {
            mode: 0o620,
            uid: 0,
            gid: 5,
            mtime: 1_112_822_355,
            nlink: 1,
            node: Node::CharDevice(Device { major: 5, minor: 1 }),
        };
        let console = tree.add(inode);
        let root = tree.root;
        if let Node::Directory(names) = &mut tree.inode_mut(root).node {
            names.insert((*b"console\n").into(), console);
        }
        let entries: Vec<Entry> = tree.walk().collect();
        insta::assert_snapshot!(Listing::new("x.img".into(), &tree, &entries).text(true));
        insta::assert_snapshot!(Listing::new("x.img".into(), &tree, &entries).text(false));
    }
}
