//! What we add to dracut's image: its first program and last step, the hooks, and the lists they go by.

use super::{Files, Item, MARKER_TIME, NOT_CARRIED, OURS, OWN, lean, put, root};
use crate::contract::{Handover, RuntimeFrom};
use crate::error::Error;
use crate::frontend::Plan;
use crate::tree::Device;

/// Programs that dracut's scripts for a live root, or ours, cannot do without.
const PROGRAMS: [&str; 31] = [
    "blkid",
    "blockdev",
    "cat",
    "chmod",
    "chown",
    "chroot",
    "cp",
    "dd",
    "dmesg",
    "dmsetup",
    "env",
    "find",
    "grep",
    "ln",
    "losetup",
    "ls",
    "mkdir",
    "modprobe",
    "mount",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sh",
    "sleep",
    "stat",
    "switch_root",
    "touch",
    "umount",
    "uname",
    "xargs",
];

/// Folders in which a shell finds programs.
const FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// Programs that dracut is asked to pack beside its own: what our scripts use.
pub(super) const EXTRA_PROGRAMS: &str = "chmod chown chroot env stat touch xargs";

/// The path of a program in the image.
fn program(files: &Files, name: &str) -> Option<String> {
    FOLDERS.iter().find_map(|folder| lean::real_path(files, &format!("{folder}/{name}")))
}

/// Whether dracut packed what its own scripts and ours use.
pub(super) fn check_programs(files: &Files) -> Result<(), Error> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| program(files, name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::missing(format!("dracut did not pack {}: not installed on this machine", missing.join(", ")))
        .hint("install them (coreutils, findutils, grep, sed, util-linux, kmod, dmsetup), or use --front-end built-in"))
}

/// The folder of hooks: /lib/dracut/hooks, in newer versions /var/lib/dracut/hooks or /usr/lib/dracut/hooks.
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

/// Adds the scripts. The image is still laid out as dracut left it.
pub(super) fn add(files: &mut Files, plan: &Plan<'_>) -> Result<(), Error> {
    let hooks = hooks(files)?;
    let switch_root = program(files, "switch_root").unwrap_or_else(|| "usr/sbin/switch_root".to_owned());
    let Some(dracut_init) = files.remove("init") else {
        return Err(Error::failed("dracut packed no /init")
            .hint("its module base is incomplete: install dracut-core again"));
    };
    put(files, &format!("{OURS}/dracut-init"), dracut_init);
    let fill = |text: &str| {
        text.replace("@TIME@", &MARKER_TIME.to_string())
            .replace("@BEFORE@", &(MARKER_TIME - 1).to_string())
            .replace("@SWITCH_ROOT@", &format!("/{switch_root}"))
            .replace("@ROOT@", &format!("root={}", root(&plan.runtime)))
            .into_bytes()
    };
    put(files, "init", Item::File(true, fill(include_str!("scripts/init"))));
    for (name, executable, text) in [
        ("lib.sh", false, include_str!("scripts/lib.sh")),
        ("hand-over", true, include_str!("scripts/hand-over")),
        ("carry", true, include_str!("scripts/carry")),
    ] {
        put(files, &format!("{OURS}/{name}"), Item::File(executable, fill(text)));
    }
    put(files, &format!("{OURS}/init"), Item::File(false, format!("{}\n", plan.init).into_bytes()));
    if plan.handover == Handover::Bare {
        put(files, &format!("{OURS}/bare"), Item::File(false, Vec::new()));
    }
    let mut hook = |name: &str, call: &str| {
        let text = format!(". /{OURS}/lib.sh\n{call}\n");
        put(files, &format!("{hooks}/{name}-btrsquash.sh"), Item::File(true, text.into_bytes()));
    };
    let address = "getarg ip= > /dev/null || echo ip=dhcp > /etc/cmdline.d/21-btrsquash-network.conf\n";
    let network = if matches!(plan.runtime, RuntimeFrom::Network(_)) { address } else { "" };
    // libdevmapper goes by udev's socket and by what it was built for: without the word it may wait for udev's nodes.
    let nodes = if plan.runtime == RuntimeFrom::Initramfs { "export DM_DISABLE_UDEV=1\n" } else { "" };
    // dracut looks for proc, sys and a dynamic loader before it takes a root for one; a monolith may hold neither.
    hook(
        "cmdline/00",
        &format!(
            "usable_root() {{ [ -d \"$1\" ]; }}\n{nodes}{network}btrsquash_modules\nbtrsquash_read_ahead 0"
        ),
    );
    hook("cmdline/99", "btrsquash_root");
    hook("pre-pivot/90", "btrsquash_read_ahead 128\nbtrsquash_carry");
    hook("cleanup/99", "btrsquash_hand_over");
    hook("emergency/90", "btrsquash_why");
    Ok(())
}

/// Adds the lists by which appended files are told from ours, when everything else is in its place.
pub(super) fn add_lists(files: &mut Files, plan: &Plan<'_>) {
    for folder in ["dev", "proc", "root", "run", "sys", "sysroot", "etc/cmdline.d"] {
        files.entry(folder.to_owned()).or_insert(Item::Directory(0o755));
    }
    put(files, "dev/console", Item::CharDevice(Device { major: 5, minor: 1 }));
    // What the assembly adds beside the front-end, and what the kernel leaves of an archive that it cannot unpack.
    let ours = ["squashfs.img", "etc/cmdline.d/20-btrsquash.conf", "initrd.image"];
    let mut not_carried: Vec<String> = ours.iter().map(|&path| path.to_owned()).collect();
    for path in plan.not_carried {
        let path = path.trim_matches('/');
        // A name with a newline cannot stand in the list; no early cpio has one.
        if !path.contains('\n') {
            not_carried.push(path.to_owned());
            not_carried.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        }
    }
    not_carried.sort();
    not_carried.dedup();
    let lines = |paths: &mut dyn Iterator<Item = &String>| {
        paths.map(|path| format!("./{path}\n")).collect::<String>().into_bytes()
    };
    put(files, NOT_CARRIED, Item::File(false, lines(&mut not_carried.iter())));
    let own = lines(&mut files.keys());
    put(files, OWN, Item::File(false, own));
}
