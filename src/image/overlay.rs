//! What was appended to a converted image, laid over its runtime: by the rules and the lists in the image by which its
//! front-end carries it there at boot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use crate::bytes::ReadAt;
use crate::contract::paths::CMDLINE_FILE;
use crate::frontend::built_in::{self, Own};
use crate::frontend::dracut;
use crate::initrd::Initrd;
use crate::tree::{Content, Extent, Inode, InodeId, Node, Tree};

/// Lists in an image have at most this many bytes.
const LIST: u64 = 64 << 20;
/// Where a tree lies that is to be laid over the runtime, whatever stands there.
const UPDATES: &str = "updates";

/// A front-end of ours, as an image tells.
enum FrontEnd {
    BuiltIn(Own),
    /// Paths of its own, and paths that came with the runtime.
    Dracut {
        own: HashSet<Vec<u8>>,
        not_carried: HashSet<Vec<u8>>,
    },
}

/// The front-end of a converted image, where it is one of ours, and what lies beside it.
pub struct Appended<'a> {
    initrd: &'a Initrd,
    front_end: FrontEnd,
    /// The number of its segment.
    segment: usize,
}

/// What [`Appended::over`] gives.
pub struct Over {
    /// The runtime as its first program finds it.
    pub system: Tree,
    /// Paths that were added, replaced or changed, no folders of the way to them.
    pub paths: Vec<Vec<u8>>,
    /// Paths that the front-end cannot put where they belong.
    pub failed: Vec<Vec<u8>>,
}

impl<'a> Appended<'a> {
    /// Looks for the front-end in `initrd`; `None` where there is none of ours.
    #[must_use]
    pub fn of(initrd: &'a Initrd) -> Option<Self> {
        let bytes = |path: &str| initrd.tree.read(initrd.tree.get(path)?, LIST).ok().flatten();
        let list = |path: &str| -> HashSet<Vec<u8>> {
            let bytes = bytes(path).unwrap_or_default();
            let lines = bytes.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"./"));
            lines.map(<[u8]>::to_vec).collect()
        };
        let (id, front_end) = if let Some(id) = initrd.tree.get(built_in::CONFIG) {
            let not_carried = bytes(built_in::NOT_CARRIED).unwrap_or_default();
            (id, FrontEnd::BuiltIn(Own::new(&String::from_utf8_lossy(&not_carried))))
        } else {
            let id = initrd.tree.get(dracut::OWN)?;
            (id, FrontEnd::Dracut { own: list(dracut::OWN), not_carried: list(dracut::NOT_CARRIED) })
        };
        Some(Self { initrd, front_end, segment: initrd.writers(id)?.first })
    }

    /// Numbers of the segments that are neither early nor of the conversion's making: the front-end, and the archive
    /// with the runtime or where it is.
    #[must_use]
    pub fn segments(&self) -> Vec<usize> {
        let maker = |path: &str| self.initrd.tree.get(path).and_then(|id| self.initrd.writers(id));
        let runtime = maker(CMDLINE_FILE).map(|writers| writers.first);
        let added = |number: &usize| *number != self.segment && Some(*number) != runtime;
        self.initrd.segments.iter().filter(|s| !s.early).map(|s| s.number).filter(added).collect()
    }

    /// Whether the image's /init, which the kernel starts, is no longer the front-end's.
    #[must_use]
    pub fn takes_over(&self) -> bool {
        let writers = self.initrd.tree.get("init").and_then(|id| self.initrd.writers(id));
        writers.is_some_and(|writers| writers.last != self.segment)
    }

    /// Lays what was appended over `runtime`.
    ///
    /// The times of folders that are there stay what they are, as they do where the kernel unpacks one archive over
    /// another. An appended /init is laid over the runtime's too: it starts in the front-end's stead, so that the image
    /// no longer boots as its runtime alone would tell.
    #[must_use]
    pub fn over(&self, runtime: Tree) -> Over {
        let from = &self.initrd.tree;
        let base = runtime.data.len();
        let over = Over { system: runtime, paths: Vec::new(), failed: Vec::new() };
        let mut carrier = Carrier { from, base, over, links: HashMap::new() };
        match &self.front_end {
            FrontEnd::BuiltIn(own) => {
                let names = |path: &str| {
                    let names = from.names(from.resolve(path)?)?;
                    Some(names.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
                };
                let stays = |path: &[u8]| {
                    let path = format!("/{}", String::from_utf8_lossy(path));
                    own.stays(&path, &names) && !(path == "/init" && self.takes_over())
                };
                carrier.tree(from.root, &stays);
                if let Some(updates) = from.get(UPDATES) {
                    carrier.tree(updates, &|_| false);
                }
            }
            FrontEnd::Dracut { own, not_carried } => {
                let below = |path: &[u8], folder: &str| {
                    path.strip_prefix(folder.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
                };
                // dmsquash-live's own hook comes first; it gives folders no attributes.
                if let Some(updates) = from.get(UPDATES) {
                    for (path, id) in below_of(from, updates) {
                        carrier.path(&path, id, false);
                    }
                }
                let mut replaced = Vec::new();
                for entry in from.walk().skip(1) {
                    if below(&entry.path, UPDATES) || below(&entry.path, dracut::OURS) {
                        continue;
                    }
                    let inode = from.inode(entry.id);
                    if own.contains(&entry.path) {
                        let folder = matches!(inode.node, Node::Directory(_));
                        if !folder && inode.mtime != dracut::MARKER_TIME {
                            replaced.push(entry);
                        }
                    } else if !not_carried.contains(&entry.path) {
                        carrier.path(&entry.path, entry.id, true);
                    }
                }
                for entry in replaced {
                    carrier.path(&entry.path, entry.id, true);
                }
            }
        }
        let mut over = carrier.over;
        if !over.paths.is_empty() {
            let (first, second) = (Arc::clone(&over.system.data), Arc::clone(&from.data));
            over.system.data = Arc::new(Joined { first, second });
        }
        over
    }
}

/// Every path below a folder of `tree`, as from there, a folder before its content.
fn below_of(tree: &Tree, folder: InodeId) -> Vec<(Vec<u8>, InodeId)> {
    let below = Tree { root: folder, ..tree.clone() };
    below.walk().skip(1).map(|entry| (entry.path, entry.id)).collect()
}

/// Two runs of bytes, one behind the other. No read goes over both: no extent of a tree does.
struct Joined {
    first: Arc<dyn ReadAt>,
    second: Arc<dyn ReadAt>,
}

impl ReadAt for Joined {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match offset.checked_sub(self.first.len()) {
            Some(offset) => self.second.read_exact_at(buf, offset),
            None => self.first.read_exact_at(buf, offset),
        }
    }
    fn len(&self) -> u64 {
        self.first.len() + self.second.len()
    }
}

/// Puts inodes of one tree into another.
struct Carrier<'a> {
    from: &'a Tree,
    /// Where the bytes of `from` lie in the data of the system.
    base: u64,
    over: Over,
    /// Files with several names that were carried.
    links: HashMap<InodeId, InodeId>,
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, name].join(&b'/') }
}

impl Carrier<'_> {
    /// What is in the folder `from`, as the built-in front-end carries it (src/init/carry.rs).
    fn tree(&mut self, from: InodeId, stays: &dyn Fn(&[u8]) -> bool) {
        let source = self.from;
        let mut todo = vec![(Vec::new(), from, self.over.system.root)];
        while let Some((folder, from, to)) = todo.pop() {
            for (name, &id) in source.names(from).into_iter().flatten() {
                let path = join(&folder, name);
                if stays(&path) {
                    continue;
                }
                let inode = source.inode(id);
                let there = self.child(to, name);
                match (&inode.node, there.map(|there| &self.over.system.inode(there).node)) {
                    (Node::Directory(_), _) => {
                        let to = self.folder(to, name, &path, id, there);
                        todo.push((path, id, to));
                    }
                    // The front-end has the runtime's links to folders.
                    (Node::Symlink(target), Some(Node::Symlink(same))) if target == same => {}
                    _ => self.put(to, name, &path, id),
                }
            }
        }
    }

    /// A folder at `name` of `to`, where `there` stands: the folder in which its content goes.
    fn folder(
        &mut self,
        to: InodeId,
        name: &[u8],
        path: &[u8],
        id: InodeId,
        there: Option<InodeId>,
    ) -> InodeId {
        let (mode, uid, gid) = attributes(self.from.inode(id));
        match there.map(|there| (there, &self.over.system.inode(there).node)) {
            Some((there, Node::Directory(_))) => {
                self.own(there, path, (mode, uid, gid));
                return there;
            }
            Some((_, Node::Symlink(_))) => {
                let through = self.over.system.resolve(path);
                if let Some(through) = through.filter(|id| self.over.system.names(*id).is_some()) {
                    return through;
                }
            }
            _ => {}
        }
        self.unlink(to, name);
        let made = Inode { node: Node::Directory(BTreeMap::new()), nlink: 1, ..self.from.inode(id).clone() };
        self.over.paths.push(path.to_vec());
        self.insert(to, name, made)
    }

    /// The path `path`, as the script of dracut's front-end carries it (src/frontend/dracut/scripts/carry).
    fn path(&mut self, path: &[u8], id: InodeId, attributed: bool) {
        let inode = self.from.inode(id);
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        if let Node::Directory(_) = inode.node {
            let system = &self.over.system;
            let new = system.resolve(path).is_none_or(|id| system.names(id).is_none());
            let Some(there) = self.enter(path) else { return self.over.failed.push(path.to_vec()) };
            if new {
                self.over.system.inode_mut(there).mtime = inode.mtime;
                self.over.paths.push(path.to_vec());
            }
            if attributed {
                self.own(there, path, attributes(inode));
            }
            return;
        }
        let Some(to) = self.enter(parent) else { return self.over.failed.push(path.to_vec()) };
        self.put(to, name, path, id);
    }

    /// What is no folder, at `name` of `to`: a folder gives way where it is empty, a file is written over with all the
    /// names it has, anything else is replaced.
    fn put(&mut self, to: InodeId, name: &[u8], path: &[u8], id: InodeId) {
        let inode = self.from.inode(id);
        let there = self.child(to, name);
        let regular = |node: &Node| matches!(node, Node::Regular(_));
        match there.map(|there| (there, &self.over.system.inode(there).node)) {
            Some((_, Node::Directory(names))) if !names.is_empty() => {
                return self.over.failed.push(path.to_vec());
            }
            // A file is written over: all its names have the new content.
            Some((there, node)) if regular(node) && regular(&inode.node) && !self.links.contains_key(&id) => {
                let nlink = self.over.system.inode(there).nlink;
                *self.over.system.inode_mut(there) = Inode { nlink, ..self.copy(inode) };
                if inode.nlink > 1 {
                    self.links.insert(id, there);
                }
                return self.over.paths.push(path.to_vec());
            }
            _ => {}
        }
        self.unlink(to, name);
        self.file(to, name, path, id);
    }

    /// The folder `path` of the system, made where there is none: what is no folder gives way to one, but a link that
    /// leads to a folder stays.
    fn enter(&mut self, path: &[u8]) -> Option<InodeId> {
        let mut at = Vec::new();
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let to = join(&at, name);
            let system = &self.over.system;
            let real = system.real_path(&to);
            let folder = real.filter(|real| system.get(real).is_some_and(|id| system.names(id).is_some()));
            at = match folder {
                Some(folder) => folder,
                None => {
                    let parent = system.get(&at)?;
                    self.unlink(parent, name);
                    let node = Node::Directory(BTreeMap::new());
                    self.insert(
                        parent,
                        name,
                        Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node },
                    );
                    to
                }
            };
        }
        self.over.system.get(&at)
    }

    fn child(&self, folder: InodeId, name: &[u8]) -> Option<InodeId> {
        self.over.system.names(folder)?.get(name).copied()
    }

    /// Gives a folder that is there the mode and owner of the one that is carried.
    fn own(&mut self, id: InodeId, path: &[u8], (mode, uid, gid): (u32, u32, u32)) {
        let there = self.over.system.inode_mut(id);
        if attributes(there) != (mode, uid, gid) {
            (there.mode, there.uid, there.gid) = (mode, uid, gid);
            if self.over.paths.last().is_none_or(|last| last != path) {
                self.over.paths.push(path.to_vec());
            }
        }
    }

    /// Puts what is no folder where nothing stands.
    fn file(&mut self, to: InodeId, name: &[u8], path: &[u8], id: InodeId) {
        self.over.paths.push(path.to_vec());
        let inode = self.from.inode(id);
        if let Some(&first) = self.links.get(&id) {
            self.over.system.inode_mut(first).nlink += 1;
            self.name(to, name, first);
            return;
        }
        let made = self.insert(to, name, Inode { nlink: 1, ..self.copy(inode) });
        if inode.nlink > 1 {
            self.links.insert(id, made);
        }
    }

    /// An inode of `from`, as it is in the system.
    fn copy(&self, inode: &Inode) -> Inode {
        let mut copy = inode.clone();
        if let Node::Regular(Content { extents, .. }) = &mut copy.node {
            for Extent { data_offset, .. } in extents {
                *data_offset += self.base;
            }
        }
        copy
    }

    fn insert(&mut self, folder: InodeId, name: &[u8], inode: Inode) -> InodeId {
        let id = self.over.system.add(inode);
        self.name(folder, name, id);
        id
    }

    fn name(&mut self, folder: InodeId, name: &[u8], id: InodeId) {
        if let Node::Directory(names) = &mut self.over.system.inode_mut(folder).node {
            names.insert(name.into(), id);
        }
    }

    /// Removes a name and whatever is below it.
    fn unlink(&mut self, folder: InodeId, name: &[u8]) {
        let Node::Directory(names) = &mut self.over.system.inode_mut(folder).node else { return };
        let mut gone: Vec<InodeId> = names.remove(name).into_iter().collect();
        while let Some(id) = gone.pop() {
            let inode = self.over.system.inode_mut(id);
            inode.nlink = inode.nlink.saturating_sub(1);
            if let Node::Directory(names) = &inode.node {
                gone.extend(names.values());
            }
        }
    }
}

fn attributes(inode: &Inode) -> (u32, u32, u32) {
    (inode.mode, inode.uid, inode.gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::Writers;

    /// An image whose second segment is the front-end with `files`, and the third, appended, the rest.
    fn image(files: &[(&str, &[u8])], appended: &[(&str, &[u8])], links: &[(&str, &str)]) -> Initrd {
        let mut initrd =
            crate::initrd::build::initrd(crate::tree::build::tree(&[files, appended].concat(), links));
        let number = |number| Writers { first: number, last: number, early: false };
        initrd.writers = vec![number(3); initrd.tree.inodes.len()];
        for (path, _) in files {
            let id = initrd.tree.get(path).unwrap();
            initrd.writers[id.0 as usize] = number(2);
            initrd.tree.inode_mut(id).mtime = dracut::MARKER_TIME;
        }
        initrd
    }

    fn over(initrd: &Initrd, runtime: Tree) -> Over {
        Appended::of(initrd).unwrap().over(runtime)
    }

    fn content(tree: &Tree, path: &str) -> String {
        String::from_utf8(tree.read(tree.resolve(path).unwrap(), 100).unwrap().unwrap()).unwrap()
    }

    fn told(paths: &[Vec<u8>]) -> Vec<String> {
        let mut told: Vec<String> = paths.iter().map(|path| crate::tree::display(path)).collect();
        told.sort();
        told
    }

    const BUILT_IN: &[(&str, &[u8])] = &[
        ("init", b"ours"),
        (".btrsquash/config", b"handover=bare\n"),
        (".btrsquash/not-carried", b"kernel\nkernel/x86\nkernel/x86/a.bin\n"),
        (CMDLINE_FILE, b"root=live:/squashfs.img\n"),
        ("squashfs.img", b"hsqs"),
        ("kernel/x86/a.bin", b"early"),
    ];

    #[test]
    fn the_built_in_front_end_leaves_its_own_behind() {
        let runtime = || {
            crate::tree::build::tree(&[("usr/lib/old", b"old"), ("taken/gone", b"")], &[("lib", "usr/lib")])
        };
        let untouched = image(BUILT_IN, &[], &[]);
        assert!(told(&over(&untouched, runtime()).paths).is_empty());
        assert!(!Appended::of(&untouched).unwrap().takes_over());
        let initrd = image(
            BUILT_IN,
            &[
                ("lib/new", b"new"),
                ("lib/old", b"replaced"),
                ("taken", b"file"),
                ("etc/motd", b"hello"),
                ("kernel/x86/b.bin", b"late"),
                ("updates/etc/motd", b"updated"),
            ],
            &[],
        );
        let over = over(&initrd, runtime());
        for (path, text) in [
            ("usr/lib/new", "new"),
            ("usr/lib/old", "replaced"),
            ("taken/gone", ""),
            ("etc/motd", "updated"),
            ("kernel/x86/b.bin", "late"),
        ] {
            assert_eq!(content(&over.system, path), text, "{path}");
        }
        for path in ["init", ".btrsquash", "squashfs.img", "etc/cmdline.d", "kernel/x86/a.bin", "updates"] {
            assert!(over.system.get(path).is_none(), "{path}");
        }
        assert!(matches!(over.system.inode(over.system.get("lib").unwrap()).node, Node::Symlink(_)));
        assert_eq!(told(&over.failed), ["taken"], "a folder that is not empty stays");
    }

    #[test]
    fn dracuts_front_end_goes_by_its_lists() {
        let own: &[(&str, &[u8])] = &[
            ("init", b"ours"),
            ("etc/passwd", b"ours"),
            (
                "usr/lib/btrsquash/own",
                b"./init\n./etc\n./etc/passwd\n./usr\n./usr/lib\n./usr/lib/btrsquash\n./usr/lib/btrsquash/own\n",
            ),
            ("usr/lib/btrsquash/not-carried", b"./squashfs.img\n./kernel\n./kernel/a.bin\n"),
            ("squashfs.img", b"hsqs"),
            ("kernel/a.bin", b"early"),
        ];
        let mut runtime = crate::tree::build::tree(
            &[("usr/lib/old", b"old"), ("taken/kept", b""), ("gone", b"")],
            &[("lib", "usr/lib"), ("lost", "/nowhere")],
        );
        // Another name of the file that is written over.
        let old = runtime.get("usr/lib/old").unwrap();
        runtime.inode_mut(old).nlink = 2;
        let Node::Directory(names) = &mut runtime.inode_mut(InodeId(0)).node else { panic!() };
        names.insert((*b"again").into(), old);
        assert!(told(&over(&image(own, &[], &[]), runtime.clone()).paths).is_empty());
        let more: &[(&str, &[u8])] = &[
            ("lib/new", b"new"),
            ("lib/old", b"replaced"),
            ("taken", b"file"),
            // As the script has it, what is no folder gives way, and so does a link that leads to none.
            ("gone/mine", b"mine"),
            ("lost/mine", b"mine"),
        ];
        let mut initrd = image(own, more, &[("etc/link", "x")]);
        // Ours, replaced by someone.
        let passwd = initrd.tree.get("etc/passwd").unwrap();
        initrd.tree.inode_mut(passwd).mtime = 7;
        let over = over(&initrd, runtime);
        assert_eq!(
            told(&over.paths),
            ["etc/link", "etc/passwd", "gone", "gone/mine", "lib/new", "lib/old", "lost", "lost/mine"]
        );
        for path in ["gone/mine", "lost/mine"] {
            assert_eq!(
                over.system.get(path).map(|id| over.system.read(id, 9).unwrap().unwrap()),
                Some(b"mine".to_vec())
            );
        }
        assert_eq!(content(&over.system, "again"), "replaced", "a file is written over");
        assert_eq!(
            (content(&over.system, "usr/lib/new"), content(&over.system, "etc/passwd").as_str()),
            ("new".to_owned(), "ours")
        );
        assert_eq!(told(&over.failed), ["taken"], "a folder that is not empty stays");
        assert!(over.system.get("taken/kept").is_some() && over.system.get("kernel").is_none());
    }

    #[test]
    fn links_and_the_numbers_of_segments() {
        let mut initrd = image(BUILT_IN, &[("one", b"x")], &[]);
        let one = initrd.tree.get("one").unwrap();
        initrd.tree.inode_mut(one).nlink = 2;
        let Node::Directory(names) = &mut initrd.tree.inode_mut(InodeId(0)).node else { panic!() };
        names.insert((*b"two").into(), one);
        let segment = |number, early| crate::initrd::Segment {
            number,
            offset: 0,
            size: 0,
            padding: 0,
            encoding: crate::codec::Encoding::Plain,
            unpacked: 0,
            entries: 0,
            early,
            dictionary: 0,
        };
        initrd.segments = vec![segment(1, true), segment(2, false), segment(3, false)];
        assert_eq!(Appended::of(&initrd).unwrap().segments(), [3]);
        let over = over(&initrd, crate::tree::build::tree(&[("two", b"y")], &[]));
        let id = over.system.get("one").unwrap();
        assert_eq!((over.system.get("two"), over.system.inode(id).nlink), (Some(id), 2));
        let init = initrd.tree.get("init").unwrap();
        initrd.writers[init.0 as usize].last = 3;
        assert!(Appended::of(&initrd).unwrap().takes_over());
        // One of another maker.
        assert!(
            Appended::of(&crate::initrd::build::initrd(crate::tree::build::tree(&[("init", b"")], &[])))
                .is_none()
        );
    }
}
