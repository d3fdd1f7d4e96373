//! What was appended to a converted image, laid over its runtime by the rules of the contract, as the boot initramfs does
//! it at boot.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use crate::bytes::Joined;
use crate::contract::{Config, FrontEnd, Handover, Kind, Own, Stat, Trees, appended, lay, paths};
use crate::initrd::Initrd;
use crate::tree::{Content, Extent, Inode, InodeId, Node, Tree, mode};

/// Lists in an image have at most this many bytes.
const LIST: u64 = 64 << 20;

/// The boot initramfs of a converted image, if btrsquash made it, and what was appended to it.
pub struct Appended<'a> {
    initrd: &'a Initrd,
    config: Config,
    own: Own,
    /// The number of its segment.
    segment: usize,
}

/// What [`Appended::over`] gives.
pub struct Over {
    /// The runtime as its init finds it.
    pub system: Tree,
    /// Paths that were added, replaced or changed, without directories on the way to them.
    pub paths: Vec<Vec<u8>>,
    /// Paths that cannot be put in place, because a directory that is not empty has their name.
    pub failed: Vec<Vec<u8>>,
}

/// The configuration of a converted image and the inode of its file; `None` if the boot initramfs is not btrsquash's.
#[must_use]
pub fn config(tree: &Tree) -> Option<(Config, InodeId)> {
    let file = |path: &str| Some((tree.get(path)?, tree.read(tree.get(path)?, LIST).ok().flatten()?));
    if let Some((id, text)) = file(paths::CONFIG) {
        return Some((Config::parse(&String::from_utf8_lossy(&text)), id));
    }
    // Format 1 has no configuration in dracut's initramfs.
    let (id, _) = file(paths::format_1::DRACUT_OWN)?;
    let bare = tree.get(paths::format_1::DRACUT_BARE).is_some();
    let config = Config {
        front_end: FrontEnd::Dracut,
        handover: if bare { Handover::Bare } else { Handover::Mounted },
        time: Some(paths::format_1::DRACUT_TIME),
        ..Config::parse("")
    };
    Some((config, id))
}

impl<'a> Appended<'a> {
    /// Looks for the boot initramfs in `initrd`; `None` if there is none of btrsquash's.
    #[must_use]
    pub fn of(initrd: &'a Initrd) -> Option<Self> {
        let (config, id) = config(&initrd.tree)?;
        let list = |path: &str| initrd.tree.read(initrd.tree.get(path)?, LIST).ok().flatten();
        let (own, not_carried) = match (config.format, config.front_end) {
            (1, FrontEnd::Dracut) => (paths::format_1::DRACUT_OWN, paths::format_1::DRACUT_NOT_CARRIED),
            _ => (paths::OWN, paths::NOT_CARRIED),
        };
        let own = Own::new(
            &config,
            &list(own).unwrap_or_default(),
            &list(not_carried).unwrap_or_default(),
            config.time.is_some(),
        );
        Some(Self { initrd, config, own, segment: initrd.writers(id)?.first })
    }

    /// What the image was made to do.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Numbers of the segments that are neither early nor made by the conversion: the boot initramfs, and the archive
    /// that holds the runtime or says where it is.
    #[must_use]
    pub fn segments(&self) -> Vec<usize> {
        let maker = |path: &str| self.initrd.tree.get(path).and_then(|id| self.initrd.writers(id));
        let runtime = maker(paths::CMDLINE).map(|writers| writers.first);
        let added = |number: &usize| *number != self.segment && Some(*number) != runtime;
        self.initrd.segments.iter().filter(|s| !s.early).map(|s| s.number).filter(added).collect()
    }

    /// Whether the image's /init, which the kernel starts, is no longer that of the boot initramfs.
    #[must_use]
    pub fn takes_over(&self) -> bool {
        let writers = self.initrd.tree.get(paths::INIT).and_then(|id| self.initrd.writers(id));
        writers.is_some_and(|writers| writers.last != self.segment)
    }

    /// Lays what was appended over `runtime`.
    ///
    /// An appended /init is laid over the runtime's too, though it starts in place of the boot initramfs's own and mounts
    /// no runtime.
    #[must_use]
    pub fn over(&self, runtime: Tree) -> Over {
        let from = &self.initrd.tree;
        let mut pair = Pair { from, base: runtime.data.len(), system: runtime };
        let Ok(mut list) = appended(&pair, &self.own);
        if self.takes_over() {
            list.push(paths::INIT.as_bytes().to_vec());
        }
        let Ok(mut outcome) = lay(&mut pair, b"", &list, &self.own, true);
        if let Some(updates) = from.get(paths::UPDATES).filter(|id| from.names(*id).is_some()) {
            let below = Tree { root: updates, ..from.clone() };
            let base = pair.base;
            let mut updates = Pair { from: &below, base, system: pair.system };
            let Ok(mut list) = appended(&updates, &Own::nothing());
            list.retain(|path| !path.is_empty());
            let Ok(more) = lay(&mut updates, b"", &list, &Own::nothing(), true);
            outcome.changed.extend(more.changed);
            outcome.kept.extend(more.kept);
            pair = Pair { from, base, system: updates.system };
        }
        let mut system = pair.system;
        if !outcome.changed.is_empty() {
            let both = [Arc::clone(&system.data), Arc::clone(&from.data)];
            system.data = Arc::new(Joined::new(both.into_iter(), 1));
        }
        Over { system, paths: outcome.changed, failed: outcome.kept }
    }
}

/// The initramfs and the runtime.
struct Pair<'a> {
    from: &'a Tree,
    /// Where the bytes of `from` lie in the data of the system.
    base: u64,
    system: Tree,
}

/// The directory of a path and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|&b| b == b'/').map_or((&[], path), |at| (&path[..at], &path[at + 1..]))
}

fn stat(id: InodeId, inode: &Inode) -> Stat {
    Stat {
        kind: match &inode.node {
            Node::Directory(_) => Kind::Directory,
            Node::Regular(_) => Kind::Regular,
            Node::Symlink(_) => Kind::Symlink,
            special => Kind::Special(special.type_bits()),
        },
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        mtime: (inode.mtime, 0),
        links: inode.nlink.into(),
        inode: (0, id.0.into()),
        target: match &inode.node {
            Node::Symlink(target) => target.to_vec(),
            _ => Vec::new(),
        },
    }
}

impl Pair<'_> {
    fn name(&mut self, path: &[u8], id: InodeId) {
        let (directory, name) = split(path);
        let Some(directory) = self.system.get(directory) else { return };
        if let Node::Directory(names) = &mut self.system.inode_mut(directory).node {
            names.insert(name.into(), id);
        }
    }

    fn change(&mut self, path: &[u8], change: impl FnOnce(&mut Inode)) {
        if let Some(id) = self.system.get(path) {
            change(self.system.inode_mut(id));
        }
    }
}

impl Trees for Pair<'_> {
    type Error = Infallible;

    fn names(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, Infallible> {
        let names = self.from.get(directory).and_then(|id| self.from.names(id));
        Ok(names.into_iter().flatten().map(|(name, _)| name.to_vec()).collect())
    }

    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, Infallible> {
        Ok(self.from.get(path).map(|id| stat(id, self.from.inode(id))))
    }

    fn there(&self, path: &[u8]) -> Result<Option<Stat>, Infallible> {
        Ok(self.system.get(path).map(|id| stat(id, self.system.inode(id))))
    }

    fn directory(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        let is_directory =
            |real: &Vec<u8>| self.system.get(real).is_some_and(|id| self.system.names(id).is_some());
        Ok(self.system.real_path(path).filter(is_directory))
    }

    fn remove(&mut self, path: &[u8]) -> Result<bool, Infallible> {
        let (directory, name) = split(path);
        let found = self.system.get(directory).zip(self.system.get(path));
        let Some((directory, id)) = found else { return Ok(true) };
        if self.system.names(id).is_some_and(|names| !names.is_empty()) {
            return Ok(false);
        }
        if let Node::Directory(names) = &mut self.system.inode_mut(directory).node {
            names.remove(name);
        }
        let inode = self.system.inode_mut(id);
        inode.nlink = inode.nlink.saturating_sub(1);
        Ok(true)
    }

    fn make_directory(&mut self, path: &[u8], stat: &Stat) -> Result<(), Infallible> {
        let node = Node::Directory(BTreeMap::new());
        let (mode, uid, gid, mtime) = (stat.mode, stat.uid, stat.gid, stat.mtime.0);
        let id = self.system.add(Inode { mode, uid, gid, mtime, nlink: 1, node });
        self.name(path, id);
        Ok(())
    }

    fn link(&mut self, first: &[u8], path: &[u8]) -> Result<(), Infallible> {
        if let Some(id) = self.system.get(first) {
            self.system.inode_mut(id).nlink += 1;
            self.name(path, id);
        }
        Ok(())
    }

    fn copy(&mut self, from: &[u8], to: &[u8], _: &Stat) -> Result<(), Infallible> {
        let Some(id) = self.from.get(from) else { return Ok(()) };
        let mut inode = Inode { nlink: 1, ..self.from.inode(id).clone() };
        if let Node::Regular(Content { extents, .. }) = &mut inode.node {
            for Extent { data_offset, .. } in extents {
                *data_offset += self.base;
            }
        }
        match self.system.get(to) {
            Some(there) => {
                let nlink = self.system.inode(there).nlink;
                *self.system.inode_mut(there) = Inode { nlink, ..inode };
            }
            None => {
                let id = self.system.add(inode);
                self.name(to, id);
            }
        }
        Ok(())
    }

    fn set_attributes(&mut self, path: &[u8], stat: &Stat, owner_only: bool) -> Result<(), Infallible> {
        self.change(path, |inode| {
            (inode.uid, inode.gid) = (stat.uid, stat.gid);
            if !owner_only {
                inode.mode = stat.mode & !mode::S_IFMT;
            }
        });
        Ok(())
    }

    fn set_time(&mut self, path: &[u8], mtime: (i64, i64)) -> Result<(), Infallible> {
        self.change(path, |inode| inode.mtime = mtime.0);
        Ok(())
    }
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
            initrd.tree.inode_mut(id).mtime = paths::format_1::DRACUT_TIME;
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
        (paths::CMDLINE, b"root=live:/squashfs.img\n"),
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
        assert_eq!(told(&over.failed), ["taken"], "a directory that is not empty stays");
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
            // Anything but a directory gives way, and so does a symlink that leads to none.
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
            [
                "etc",
                "etc/link",
                "etc/passwd",
                "gone",
                "gone/mine",
                "lost",
                "lost/mine",
                "usr/lib/new",
                "usr/lib/old"
            ]
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
        assert_eq!(told(&over.failed), ["taken"], "a directory that is not empty stays");
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
