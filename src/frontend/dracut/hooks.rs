//! What is added to dracut's image: the program at /init, the hooks that call it, and the files it reads.

use super::{DRACUT_TIME, Files, Item, lean, put};
use crate::contract::{self, RuntimeFrom, paths};
use crate::error::Error;
use crate::frontend::common::{config, directories, not_carried};
use crate::frontend::{Plan, guest};
use crate::tree::{Device, Node};

/// Programs that dracut's scripts for a live root cannot do without.
const PROGRAMS: [&str; 18] = [
    "blkid", "blockdev", "cat", "cp", "dd", "dmesg", "dmsetup", "ln", "losetup", "ls", "mkdir", "mount",
    "readlink", "rm", "sed", "sh", "sleep", "umount",
];

/// Directories in which a shell finds programs.
const DIRECTORIES: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// The path of a program in the image.
fn program(files: &Files, name: &str) -> Option<String> {
    DIRECTORIES.iter().find_map(|directory| lean::real_path(files, &format!("{directory}/{name}")))
}

/// Fails if dracut did not pack what its own scripts use.
pub(super) fn check_programs(files: &Files) -> Result<(), Error> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| program(files, name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::missing(format!("dracut did not pack {}: not installed on this machine", missing.join(", ")))
        .hint("install them (coreutils, sed, util-linux, dmsetup), or use --front-end built-in"))
}

/// The directory of hooks: /lib/dracut/hooks, in newer versions /var/lib/dracut/hooks or /usr/lib/dracut/hooks.
fn hooks(files: &Files) -> Result<String, Error> {
    files
        .keys()
        .find_map(|path| {
            path.ends_with("parse-dmsquash-live.sh").then(|| path.split("/cmdline/").next()).flatten()
        })
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::missing("dracut packed no dmsquash-live hooks")
                .hint("install its live image modules: apt install dracut-live, or dnf install dracut-live")
        })
}

/// Adds the program and the hooks. The image is still laid out as dracut left it.
pub(super) fn add(files: &mut Files, plan: &Plan<'_>) -> Result<(), Error> {
    let hooks = hooks(files)?;
    let Some(dracut_init) = files.remove("init") else {
        return Err(Error::failed("dracut packed no /init")
            .hint("its module base is incomplete: install dracut-core again"));
    };
    put(files, paths::DRACUT_INIT, dracut_init);
    put(files, paths::INIT, Item::File(true, guest::program(plan.machine)?.to_vec()));
    let functions = include_bytes!("hooks/functions.sh").to_vec();
    put(files, paths::DRACUT_HOOKS, Item::File(false, functions));
    let mut hook = |name: &str, call: &str| {
        let text = format!(". /{}\n{call}\n", paths::DRACUT_HOOKS);
        put(files, &format!("{hooks}/{name}-btrsquash.sh"), Item::File(true, text.into_bytes()));
    };
    let address = "getarg ip= > /dev/null || echo ip=dhcp > /etc/cmdline.d/21-btrsquash-network.conf\n";
    let network = if matches!(plan.runtime, RuntimeFrom::Network(_)) { address } else { "" };
    // libdevmapper goes by udev's socket and by how it was built: without this it may wait for udev's nodes.
    let nodes = if plan.runtime == RuntimeFrom::Initramfs { "export DM_DISABLE_UDEV=1\n" } else { "" };
    hook(
        "cmdline/00",
        &format!(
            // dracut looks for proc, sys and a dynamic loader in a root file system; a monolith may have none of them.
            "usable_root() {{ [ -d \"$1\" ]; }}\n\
             {nodes}{network}\
             # An old boot entry's root=/dev/ram0 does not replace the image's own root=.\n\
             root=$(/init root)\n\
             btrsquash modules\n\
             btrsquash read-ahead 0"
        ),
    );
    hook("cmdline/99", "btrsquash check-root \"$root\"");
    hook("pre-pivot/10", "btrsquash read-ahead 128\nbtrsquash carry");
    hook("cleanup/99", "btrsquash_hand_over");
    hook(
        "emergency/90",
        "btrsquash_why=\n\
         [ ! -s /run/btrsquash.why ] || read -r btrsquash_why < /run/btrsquash.why\n\
         /init why \"$btrsquash_why\"",
    );
    Ok(())
}

/// Adds the directories of the runtime, so that files can be appended in them, and the lists by which the program tells
/// the image's own files from appended ones. Everything else is in its place already. Returns how many directories were
/// left out.
pub(super) fn add_lists(files: &mut Files, plan: &Plan<'_>) -> usize {
    for directory in ["dev", "proc", "run", "sys", paths::SYSROOT, paths::CMDLINE_DIR] {
        put(files, directory, Item::Directory(0o755));
    }
    put(files, "dev/console", Item::CharDevice(Device { major: 5, minor: 1 }));
    // Of the runtime's directories, dracut's image has some by the same name: those are given the runtime's attributes.
    let mut listed: Vec<String> = files.keys().cloned().collect();
    let (directories, left_out) = directories(plan.tree, plan.max_directories);
    let mut of_runtime = std::collections::BTreeSet::new();
    for (path, inode) in directories {
        let Ok(path) = String::from_utf8(path) else { continue };
        let is_directory = |item: Option<&Item>| {
            matches!(item, None | Some(Item::Directory(_) | Item::RuntimeDirectory { .. }))
        };
        // A path below a file or symlink of dracut's leads elsewhere.
        let reachable = path.match_indices('/').all(|(at, _)| is_directory(files.get(&path[..at])));
        match (&inode.node, files.get(&path)) {
            (Node::Directory(_), there) if reachable && is_directory(there) => {
                let (mode, uid, gid, mtime) = (inode.mode, inode.uid, inode.gid, inode.mtime);
                put(files, &path, Item::RuntimeDirectory { mode, uid, gid, mtime });
                of_runtime.insert(path);
            }
            (Node::Symlink(target), None) if reachable => {
                if let Ok(target) = String::from_utf8(target.to_vec()) {
                    let (uid, gid, mtime) = (inode.uid, inode.gid, inode.mtime);
                    put(files, &path, Item::RuntimeSymlink { target, uid, gid, mtime });
                }
            }
            _ => {}
        }
    }
    listed.retain(|path| !of_runtime.contains(path));
    listed.extend([paths::CONFIG, paths::OWN, paths::NOT_CARRIED].map(str::to_owned));
    listed.sort();
    listed.dedup();
    // Paths that the kernel makes of an archive that it cannot unpack.
    let mut others = not_carried(plan);
    others.extend_from_slice(b"initrd.image\n");
    let config = config(plan, contract::FrontEnd::Dracut, DRACUT_TIME);
    put(files, paths::CONFIG, Item::File(false, config.to_string().into_bytes()));
    put(files, paths::NOT_CARRIED, Item::File(false, others));
    let own: String = listed.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
    put(files, paths::OWN, Item::File(false, own.into_bytes()));
    left_out
}
