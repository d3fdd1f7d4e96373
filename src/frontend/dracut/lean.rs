//! What leaves dracut's image, and the layout of what stays.

use std::collections::{BTreeMap, BTreeSet};

use goblin::elf::Elf;

use super::{Files, Item};
use crate::contract::{Lookup, Met, resolve};

/// Removes what tells of the making: temporary paths, the host's users, caches that only root can make.
pub(super) fn forget_the_making(files: &mut Files) {
    let mut moved = Vec::new();
    for (path, item) in &*files {
        // The dynamic loader finds libraries in other directories by ld.so.cache, which dracut makes only as root.
        if let (Item::File(..) | Item::Symlink(_), true) =
            (item, is_library(path) && !in_default_directory(path))
        {
            moved.push((format!("usr/lib/{}", file_name(path)), Item::Symlink(format!("/{path}"))));
        }
    }
    for (path, item) in moved {
        files.entry(path).or_insert(item);
    }
    files.retain(|path, _| {
        !(path.starts_with("etc/ld.so.")
            || path.starts_with("dev/")
            || path.ends_with("dracut/build-parameter.txt")
            || path.contains("lib/modules/")
            || path.ends_with("dracut/loaded-kernel-modules.txt")
            || path.ends_with("dracut/hostonly-files"))
    });
    let users = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n";
    super::put(files, "etc/passwd", Item::File(false, users.into()));
}

/// Puts a program that does nothing in place of udev and modprobe: the kernel's devtmpfs makes all nodes that a live root in
/// the initramfs needs (loop, dm), no hardware is waited for, /init loads the modules, and libdevmapper makes its own nodes
/// when it is told that no udev runs (`DM_DISABLE_UDEV`, which a hook exports).
pub(super) fn without_udev_and_modprobe(files: &mut Files) {
    files.retain(|path, _| {
        !(path.starts_with("etc/udev")
            || path.starts_with("etc/modprobe.d")
            || ["usr/lib/udev", "lib/udev", "usr/lib/modprobe.d", "lib/modprobe.d"].iter().any(|dir| {
                path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }))
    });
    let replaced =
        ["udevadm", "systemd-udevd", "udevd", "kmod", "modprobe", "insmod", "rmmod", "depmod", "modinfo"];
    for (path, item) in files.iter_mut() {
        if replaced.contains(&file_name(path)) && matches!(item, Item::File(..)) {
            *item = Item::File(true, include_bytes!("hooks/nothing").to_vec());
        }
    }
}

/// Programs that dracut packs for other kinds of root: unpackers of archives, a pager, repairers and makers of other
/// file systems. None is called on the way from /squashfs.img to the old init.
const UNUSED: [&str; 33] = [
    "bunzip2",
    "bzcat",
    "bzip2",
    "checkisomd5",
    "chmod",
    "chown",
    "chroot",
    "cpio",
    "e2fsck",
    "env",
    "find",
    "fsck",
    "fsck.ext2",
    "fsck.ext3",
    "fsck.ext4",
    "fsck.fat",
    "fsck.vfat",
    "fsck.xfs",
    "grep",
    "gunzip",
    "gzip",
    "less",
    "loginctl",
    "stat",
    "switch_root",
    "tar",
    "touch",
    "unxz",
    "xargs",
    "xz",
    "xz_repair",
    "zcat",
    "zstd",
];

/// Removes programs that are never called and then the libraries that no program is linked with any more.
pub(super) fn drop_unused(files: &mut Files) {
    files.retain(|path, item| {
        let in_path = path.contains("bin/") && UNUSED.contains(&file_name(path));
        let data = [
            "usr/share/",
            "usr/lib/systemd/system/",
            "usr/lib/systemd/system-generators/",
            "usr/lib/sysctl.d",
            "usr/lib/tmpfiles.d",
            "usr/lib/kbd",
            "etc/sysctl",
        ];
        matches!(item, Item::Directory(_)) || !(in_path || data.iter().any(|start| path.starts_with(start)))
    });
    let wanted = wanted_libraries(files);
    files.retain(|path, item| !(is_library(path) && matches!(item, Item::File(..))) || wanted.contains(path));
    drop_dangling(files);
}

/// The libraries that programs and other files, libraries excepted, are linked with, directly or not.
fn wanted_libraries(files: &Files) -> BTreeSet<String> {
    let mut by_name: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for path in files.keys().filter(|path| is_library(path)) {
        by_name.entry(file_name(path)).or_default().push(path);
    }
    let mut wanted = BTreeSet::new();
    let mut todo: Vec<String> = files.keys().filter(|path| !is_library(path)).cloned().collect();
    // glibc opens these by name at run time: for ending threads, and for the names of users.
    let opened = |name: &str| name.starts_with("libgcc_s.so") || name.starts_with("libnss_files");
    todo.extend(
        by_name
            .iter()
            .filter(|(name, _)| opened(name))
            .flat_map(|(_, paths)| paths.iter().map(|p| (*p).clone())),
    );
    while let Some(path) = todo.pop() {
        let Some(path) = real_path(files, &path) else { continue };
        let Some(Item::File(_, bytes)) = files.get(&path) else { continue };
        if is_library(&path) && !wanted.insert(path) {
            continue;
        }
        let Ok(elf) = Elf::parse(bytes) else { continue };
        for name in elf.libraries.iter().copied().chain(elf.interpreter.map(file_name)) {
            todo.extend(by_name.get(name).into_iter().flatten().map(|path| (*path).clone()));
        }
    }
    wanted
}

/// Removes links into nothing that our own removals left, one by one until none is left.
fn drop_dangling(files: &mut Files) {
    loop {
        let dangling: Vec<String> = files
            .iter()
            .filter(|(path, item)| {
                matches!(item, Item::Symlink(_)) && (path.contains("bin/") || is_library(path))
            })
            .filter(|(path, _)| real_path(files, path).is_none())
            .map(|(path, _)| path.clone())
            .collect();
        if dangling.is_empty() {
            return;
        }
        for path in dangling {
            files.remove(&path);
        }
    }
}

/// Makes directories of the links to directories (`/lib` → `usr/lib` and its like), holding links to what is in them.
///
/// When a cpio is appended that holds the directory `lib`, as that of a driver disk does, the kernel puts that directory
/// in place of a link of that name: nothing of the front-end could start then.
pub(super) fn unmerge(files: &mut Files) {
    let directories = [
        "bin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "sbin",
        "usr/bin",
        "usr/lib32",
        "usr/lib64",
        "usr/libx32",
        "usr/sbin",
    ];
    for link in directories {
        if !matches!(files.get(link), Some(Item::Symlink(_))) {
            continue;
        }
        let Some(target) =
            real_path(files, link).filter(|t| matches!(files.get(t), Some(Item::Directory(_))))
        else {
            continue;
        };
        let start = format!("{target}/");
        let inside: Vec<(String, Item)> = files
            .range(start.clone()..)
            .take_while(|(path, _)| path.starts_with(&start))
            .map(|(path, item)| {
                let there = format!("{link}/{}", &path[start.len()..]);
                match item {
                    Item::Directory(mode) => (there, Item::Directory(*mode)),
                    _ => (there, Item::Symlink(format!("/{path}"))),
                }
            })
            // Ours is only asked for by its own path.
            .filter(|(path, _)| !format!("{path}/").contains("lib/btrsquash/"))
            .collect();
        files.insert(link.to_owned(), Item::Directory(0o755));
        files.extend(inside);
    }
}

/// The files of the image as a tree in which paths are looked up.
struct Image<'a>(&'a Files);

impl Lookup for Image<'_> {
    type At = String;
    type Error = std::convert::Infallible;

    fn root(&self) -> String {
        String::new()
    }

    fn look(&self, at: &String, name: &[u8]) -> Result<Met<'_, String>, Self::Error> {
        let name = String::from_utf8_lossy(name);
        let path = if at.is_empty() { name.into_owned() } else { format!("{at}/{name}") };
        Ok(match self.0.get(&path) {
            None => Met::Nothing,
            Some(Item::Symlink(target) | Item::RuntimeSymlink { target, .. }) => {
                Met::Symlink(path, target.as_bytes().into())
            }
            Some(Item::Directory(_) | Item::RuntimeDirectory { .. }) => Met::Directory(path),
            Some(Item::File(..) | Item::CharDevice(_)) => Met::Other(path),
        })
    }
}

/// The path without symlinks to which `path` leads in the image; `None` if it leads nowhere.
pub(super) fn real_path(files: &Files, path: &str) -> Option<String> {
    let image = Image(files);
    let trail = resolve(&image, path.as_bytes(), true, &mut 0).ok()?;
    trail.last().map(|(_, at)| at.clone())
}

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a path is that of a shared library.
fn is_library(path: &str) -> bool {
    let name = file_name(path);
    (path.starts_with("lib") || path.starts_with("usr/lib"))
        && (name.ends_with(".so") || name.contains(".so."))
}

/// Whether glibc's loader looks for libraries in the directory of `path` unasked: /lib, /lib64 and Debian's multiarch
/// directories.
fn in_default_directory(path: &str) -> bool {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let directory = directory.strip_prefix("usr/").unwrap_or(directory);
    match directory.split_once('/') {
        None => directory.starts_with("lib"),
        Some((lib, multiarch)) => lib == "lib" && multiarch.contains("-linux-") && !multiarch.contains('/'),
    }
}
