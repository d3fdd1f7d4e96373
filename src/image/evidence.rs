//! The signs by which an image is judged: each with a weight, and the sum is the verdict.
//!
//! A sum above zero is a monolith: the system runs from the initramfs itself. Else the image is a small initramfs that
//! hands over to a root elsewhere. A weight says how much a sign is worth against the others:
//!
//! - a whole installer or a crash dump tool outweighs everything, because those run from the initramfs although dracut
//!   or another generator made it;
//! - a generator's own files outweigh a package database, which some of them leave in;
//! - a script that goes to another root outweighs programs that front-ends have as well (getty, an init), but not a
//!   package database.

use serde::Serialize;

use super::copies::SelfCopy;
use super::init::{InitKind, Program};
use super::inside::{Inside, share};
use super::script::{Action, Tool, Trace};
use super::view::Image;
use crate::tree::Tree;

/// What was found in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// /init is not a regular file: the kernel cannot start it.
    InitNotRegular,
    /// /init is not executable.
    InitNotExecutable,
    /// /init is a symlink that leads nowhere.
    InitDangling,
    /// There is no /init; a kernel starts this program with `rdinit=`.
    NeedsRdinit(String),
    /// There is no init at all.
    NoInit,
    /// A squashfs at this path holds the system, as a conversion leaves it.
    HoldsRuntime {
        /// Path without a leading `/`.
        path: String,
        /// Whether it is the body of an entry that the kernel skips.
        skipped: bool,
    },
    /// This file names a runtime that is not in the image.
    RuntimeElsewhere(String),
    /// A file of an initramfs generator.
    Generator {
        /// The generator.
        name: &'static str,
        /// Path without a leading `/`.
        path: &'static str,
    },
    /// A script goes to another root.
    OtherRoot {
        /// The script.
        script: String,
        /// By this tool.
        tool: Tool,
        /// To this directory.
        root: String,
    },
    /// Most of the image is file system images or archives.
    SystemInside {
        /// Path of the largest with a leading `/`.
        path: String,
        /// How many others there are.
        others: usize,
        /// Percent of the image's content that they are together.
        percent: u8,
    },
    /// A script copies the image into a new tmpfs or ramfs and goes on from there.
    CopiesItself {
        /// The script.
        script: String,
    },
    /// A script mounts the image a second time, and goes on from there.
    MountsItself {
        /// The script.
        script: String,
    },
    /// A package database.
    Packages(&'static str),
    /// An installer that is in its image whole.
    Installer {
        /// Its name.
        name: &'static str,
        /// Path without a leading `/`.
        path: &'static str,
    },
    /// A crash dump tool: it dumps from the initramfs.
    CrashDump(&'static str),
    /// /sbin/init, and where it leads.
    SystemInit(String),
    /// A program for logins.
    Logins(&'static str),
    /// No generator's files, and no script that goes elsewhere.
    NothingElsewhere,
}

impl Sign {
    /// Above zero for a monolith, below for an initramfs whose root is elsewhere.
    #[must_use]
    pub const fn weight(&self) -> i32 {
        match self {
            Self::Installer { .. } | Self::CrashDump(_) => 20,
            Self::CopiesItself { .. } | Self::MountsItself { .. } => 10,
            Self::Packages(_) => 8,
            Self::SystemInit(_) | Self::Logins(_) => 2,
            Self::NothingElsewhere => 1,
            Self::SystemInside { .. } => -4,
            Self::OtherRoot { .. } => -6,
            Self::Generator { .. } => -10,
            Self::InitNotRegular
            | Self::InitNotExecutable
            | Self::InitDangling
            | Self::NeedsRdinit(_)
            | Self::NoInit
            | Self::HoldsRuntime { .. }
            | Self::RuntimeElsewhere(_) => 0,
        }
    }
}

/// The sum of the signs' weights.
#[must_use]
pub(super) fn weigh(signs: &[Sign]) -> i32 {
    signs.iter().map(Sign::weight).sum()
}

/// Initramfs generators, each with a path and perhaps the text in it by which it is known.
const GENERATORS: [(&str, &str, Option<&str>); 16] = [
    ("btrsquash built-in", crate::contract::paths::CONFIG, Some("front-end=built-in")),
    ("initramfs-tools", "scripts/functions", None),
    ("dracut", "usr/lib/dracut-lib.sh", None),
    ("dracut", "lib/dracut-lib.sh", None),
    ("dracut", "usr/lib/dracut/hooks", None),
    ("dracut", "lib/dracut/hooks", None),
    ("mkinitcpio", "init_functions", None),
    ("booster", "etc/booster.init.yaml", None),
    ("mkinitfs (Alpine)", "init", Some("Alpine Init")),
    ("NixOS stage 1", "init", Some("NixOS Stage 1")),
    ("genkernel", "etc/initrd.defaults", None),
    ("tiny-initramfs", "init", Some("tiny_initramfs")),
    ("initramfs-framework (Yocto)", "init.d/99-finish", None),
    ("mkosi-initrd or another with systemd", "etc/initrd-release", None),
    ("mkosi-initrd or another with systemd", "usr/lib/initrd-release", None),
    // Format 1 did not name its maker: dracut has been ruled out.
    ("btrsquash built-in", crate::contract::paths::CONFIG, None),
];

/// Programs of installers that are in their image whole.
const INSTALLERS: [(&str, &str); 6] = [
    ("the Debian installer", "lib/debian-installer"),
    ("the Debian installer", "usr/lib/debian-installer"),
    ("Anaconda", "usr/sbin/anaconda"),
    ("Anaconda", "usr/bin/anaconda"),
    ("YaST", "usr/lib/YaST2"),
    ("linuxrc", "sbin/linuxrc"),
];

/// Tools that save the memory of a crashed kernel.
const CRASH_DUMPS: [&str; 8] = [
    "etc/kdump.conf",
    "usr/lib/systemd/system/kdump-capture.service",
    "lib/kdump/kdump-lib-initramfs.sh",
    "usr/lib/kdump/kdump-lib-initramfs.sh",
    "usr/bin/kdump.sh",
    // SUSE's.
    "kdump/kdump-save",
    "lib/kdump/save_dump.sh",
    "usr/lib/systemd/system/kdump-save.service",
];

/// Where systems keep what is installed.
const PACKAGES: [&str; 6] = [
    "var/lib/dpkg/status",
    "var/lib/rpm",
    "usr/lib/sysimage/rpm",
    "var/lib/pacman/local",
    "lib/apk/db/installed",
    "var/db/pkg",
];

const LOGINS: [&str; 5] = ["sbin/getty", "sbin/agetty", "usr/sbin/agetty", "bin/login", "usr/sbin/sshd"];

/// What the signs are looked for in.
pub(super) struct Scene<'a> {
    pub image: &'a Image<'a>,
    pub program: Option<&'a Program>,
    pub trace: &'a Trace,
    pub copy: Option<&'a SelfCopy>,
    pub inside: &'a [Inside],
}

/// The signs for and against a monolith.
pub(super) fn gather(scene: &Scene<'_>) -> Vec<Sign> {
    let image = scene.image;
    let first = |paths: &[&'static str]| paths.iter().copied().find(|path| image.has(path));
    let mut signs = Vec::new();
    signs.extend(generator(image, scene.program).map(|(name, path)| Sign::Generator { name, path }));
    signs.extend(other_root(scene));
    if signs.is_empty() {
        signs.push(Sign::NothingElsewhere);
    }
    signs.extend(system_inside(image.0, scene.inside));
    signs.extend(scene.copy.map(|copy| match (copy.bytes, copy.script.clone()) {
        (0, script) => Sign::MountsItself { script },
        (_, script) => Sign::CopiesItself { script },
    }));
    signs.extend(
        INSTALLERS
            .iter()
            .find(|(_, path)| image.has(path))
            .map(|&(name, path)| Sign::Installer { name, path }),
    );
    signs.extend(first(&CRASH_DUMPS).map(Sign::CrashDump));
    signs.extend(first(&PACKAGES).map(Sign::Packages));
    signs.extend(image.real_path("sbin/init").map(Sign::SystemInit));
    signs.extend(first(&LOGINS).map(Sign::Logins));
    signs
}

/// The generator of an initramfs and the path by which it is known.
fn generator(image: &Image<'_>, program: Option<&Program>) -> Option<(&'static str, &'static str)> {
    let script = program.and_then(|program| program.script.as_deref());
    GENERATORS.into_iter().find_map(|(name, path, text)| {
        let found = match text {
            None => image.has(path),
            Some(text) => script.is_some_and(|script| script.contains(text)),
        };
        found.then_some((name, path))
    })
}

/// A root that the script of the init switches to and that is not a copy of the image.
fn other_root(scene: &Scene<'_>) -> Option<Sign> {
    let script = scene.program.filter(|program| matches!(program.kind, InitKind::Script(_)))?;
    scene.trace.events.iter().find_map(|event| match &event.action {
        Action::Start(start) if scene.copy.is_none_or(|copy| copy.directory != start.root) => {
            Some(Sign::OtherRoot { script: script.path.clone(), tool: start.tool?, root: start.root.clone() })
        }
        _ => None,
    })
}

/// Files in the image that are most of its content: one, or several as in a system of layers.
fn system_inside(tree: &Tree, inside: &[Inside]) -> Option<Sign> {
    let files: Vec<&Inside> = inside.iter().filter(|it| it.kind.holds_system()).collect();
    let largest = *files.first()?;
    let alone = share(tree, &[largest]);
    let (percent, others) = if alone >= 50 { (alone, 0) } else { (share(tree, &files), files.len() - 1) };
    (percent >= 50).then(|| Sign::SystemInside { path: largest.path.clone(), others, percent })
}
