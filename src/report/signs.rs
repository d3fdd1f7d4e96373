//! The words for what was found out about an image: signs, kinds of init, reasons for a handover.

use std::fmt::{Display, Formatter, Result};

use super::units;
use crate::image::classify::{
    Classification, HandoverReason, InitKind, Inside, InsideKind, Obstacle, SelfCopy, Sign, Tool, Unsafe,
};

impl Display for Tool {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(self.name())
    }
}

impl Display for Sign {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::InitNotRegular => f.write_str("/init is not a regular file: the kernel cannot start it"),
            Self::InitNotExecutable => f.write_str("/init is not executable: the kernel will not start it"),
            Self::InitDangling => f.write_str("/init is a symlink that leads nowhere"),
            Self::NeedsRdinit(path) => write!(
                f,
                "there is no /init: a kernel runs this image only with rdinit={path} on its command line"
            ),
            Self::NoInit => {
                f.write_str("there is neither /init nor /sbin/init: no kernel can run this image")
            }
            Self::HoldsRuntime { path, skipped: false } => {
                write!(f, "/{path} is a squashfs that holds a system")
            }
            Self::HoldsRuntime { path, skipped: true } => {
                write!(f, "/{path} is the body of an entry that the kernel skips, and holds the system")
            }
            Self::RuntimeElsewhere(path) => write!(f, "/{path} names a runtime that is not in the image"),
            Self::Generator { name, path } => write!(f, "/{path} is part of images made by {name}"),
            Self::OtherRoot { script, tool, root } if root.is_empty() || !root.starts_with('/') => {
                write!(f, "{script} goes to another root with {tool}")
            }
            Self::OtherRoot { script, tool, root } => {
                let root = root.replace(char::REPLACEMENT_CHARACTER, "…");
                write!(f, "{script} goes to another root with {tool} ({root})")
            }
            Self::SystemInside { path, others: 0, percent } => {
                write!(f, "{path} holds {percent}% of the image's content")
            }
            Self::SystemInside { path, others, percent } => {
                let files = if *others == 1 { "another file" } else { "other files" };
                let count = if *others == 1 { String::new() } else { format!("{others} ") };
                write!(f, "{path} and {count}{files} hold {percent}% of the image's content")
            }
            Self::CopiesItself { script } => {
                write!(
                    f,
                    "{script} copies the image into a file system in memory and starts the system there"
                )
            }
            Self::MountsItself { script } => {
                write!(f, "{script} mounts the image a second time and starts the system there")
            }
            Self::Packages(path) => write!(f, "a package database (/{path})"),
            Self::Installer { name, path } => write!(f, "{name}, whole (/{path})"),
            Self::CrashDump(path) => write!(f, "a crash dump tool, which works from the initramfs (/{path})"),
            Self::SystemInit(real) if real == "/sbin/init" => {
                f.write_str("an init for a system (/sbin/init)")
            }
            Self::SystemInit(real) => write!(f, "an init for a system (/sbin/init, {real})"),
            Self::Logins(path) => write!(f, "a program for logins (/{path})"),
            Self::NothingElsewhere => f.write_str("no sign of a root elsewhere"),
        }
    }
}

impl Display for InitKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Systemd => f.write_str("systemd"),
            Self::Script(interpreter) => write!(f, "script for {interpreter}"),
            Self::Busybox => f.write_str("busybox init"),
            Self::System(name) => f.write_str(name),
            Self::LinuxKit => f.write_str("LinuxKit's init"),
            Self::Program { statically_linked: true } => f.write_str("statically linked program"),
            Self::Program { statically_linked: false } => f.write_str("program"),
            Self::Unknown => f.write_str("of unknown format"),
            Self::Missing => f.write_str("none"),
        }
    }
}

impl Display for HandoverReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::NoInit => f.write_str("there is no init"),
            Self::Kind { init, kind } => match kind {
                InitKind::Systemd => write!(f, "{init} is systemd, which takes over what is mounted"),
                InitKind::System(name) => write!(
                    f,
                    "{init} is {name}, which a kernel or an initramfs starts on a root with /proc and /dev mounted"
                ),
                InitKind::Script(_) => write!(f, "{init} is a script that always started on a bare rootfs"),
                InitKind::Busybox => {
                    write!(f, "{init} is busybox init, which always started on a bare rootfs")
                }
                InitKind::LinuxKit => {
                    write!(f, "{init} is LinuxKit's init, which always started on a bare rootfs")
                }
                InitKind::Program { .. } => {
                    write!(f, "{init} is a program that always started on a bare rootfs")
                }
                InitKind::Unknown | InitKind::Missing => {
                    write!(f, "{init} has no known format; it always started on a bare rootfs")
                }
            },
            Self::Mounts { init, inittab: false, mounts } => {
                write!(f, "{init} is a script that mounts {} itself", mounts.join(", "))
            }
            Self::Mounts { init, inittab: true, mounts } => {
                write!(f, "{init} is busybox init, and its sysinit mounts {} itself", mounts.join(", "))
            }
            Self::Starts { init, next } => write!(f, "{init} starts {next}"),
            Self::CopyMounts { init, script, mounts } => {
                write!(f, "{script} mounted {} before it started {init}", mounts.join(", "))
            }
        }
    }
}

impl Display for InsideKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "EROFS",
            Self::Btrfs => "btrfs",
            Self::Ext => "ext4",
            Self::Xfs => "XFS",
            Self::F2fs => "F2FS",
            Self::Cramfs => "cramfs",
            Self::Romfs => "romfs",
            Self::Iso => "ISO 9660",
            Self::Disk => "disk image",
            Self::Qcow2 => "qcow2",
            Self::Tar => "tar",
            Self::Cpio => "cpio",
        })
    }
}

/// What there is to know about an image beyond its verdict, a sentence each.
#[must_use]
pub fn remarks(class: &Classification) -> Vec<String> {
    let mut remarks = Vec::new();
    remarks.extend(class.obstacle.as_ref().map(|obstacle| cannot_start(obstacle, class.started.as_deref())));
    remarks.extend(class.copy.iter().flat_map(copy));
    if class.init_kind == InitKind::LinuxKit {
        remarks.push(
            "LinuxKit's init moves the root into a new tmpfs only where / is a tmpfs or ramfs: from a converted runtime \
             it starts /sbin/init at once"
                .into(),
        );
    }
    remarks.extend(class.inside.iter().map(file));
    remarks
}

fn file(inside: &Inside) -> String {
    let packed = if inside.compressed { ", compressed" } else { "" };
    format!(
        "{} is a file system image or an archive: {}{packed}, {}",
        inside.path,
        inside.kind,
        units::size(inside.size)
    )
}

fn cannot_start(obstacle: &Obstacle, program: Option<&str>) -> String {
    let program = program.unwrap_or("/init");
    let why = match obstacle {
        Obstacle::NoInit => return "warning: no kernel can run this image: there is no init".into(),
        Obstacle::NotRegular => "it is not a regular file".into(),
        Obstacle::NotExecutable => "it is not executable".into(),
        Obstacle::NoFormat => {
            "it is neither an ELF program nor a script that begins with #! and its interpreter".into()
        }
        Obstacle::Interpreter(path) => format!("it needs {path}, which is not in the image"),
    };
    format!("warning: no kernel can start {program}: {why}; another program is named with --init PATH")
}

/// What is not known of a script's words, as an ellipsis.
fn shown(words: &str) -> String {
    words.replace(char::REPLACEMENT_CHARACTER, "…")
}

fn copy(copy: &SelfCopy) -> Vec<String> {
    let SelfCopy { script, by, directory, file_system, .. } = copy;
    let command = shown(&copy.command());
    let mut said = vec![if copy.bytes == 0 {
        format!(
            "{script} mounts the image a second time ({file_system} on {directory}) and then starts {command}"
        )
    } else {
        format!(
            "{script} copies {} of the image into a {file_system} on {} ({by}) and then starts {command}",
            units::size(copy.bytes),
            shown(directory),
        )
    }];
    if let Some(why) = copy.kept {
        said.push(format!(
            "warning: this copy cannot be skipped safely, because {}; a converted image that copies itself needs the memory \
             of the original again, or stops in switch_root: name the program to start with --init PATH",
            match why {
                Unsafe::Conditional => "it depends on something that only shows at boot",
                Unsafe::ProgramUnknown => "the program that is started in the copy is not known",
                Unsafe::TooLong => "the script is too long to be followed",
                Unsafe::Restarts => "the script is started again in the copy, and would copy again without it",
            }
        ));
        return said;
    }
    said.push(format!(
        "a converted image skips {script} and starts {} itself: nothing is copied",
        copy.program
    ));
    if !copy.arguments.is_empty() {
        said.push(if copy.known_arguments().is_empty() {
            format!(
                "{} gets the kernel's arguments; {script} gave it: {}",
                copy.program,
                shown(&copy.command())
            )
        } else {
            format!("{} gets the arguments that {script} gave it: {}", copy.program, copy.command())
        });
    }
    let environment = copy.known_environment();
    if !environment.is_empty() {
        let list: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        said.push(format!("{} gets what {script} exported: {}", copy.program, list.join(" ")));
    }
    if !copy.mounts.is_empty() {
        said.push(format!("warning: what {script} mounted is missing: {}", copy.mounts.join(", ")));
    }
    if !copy.others.is_empty() {
        let list: Vec<String> = copy.others.iter().map(|other| shown(other)).collect();
        said.push(format!("warning: other commands of {script} are skipped too: {}", list.join("; ")));
    }
    said
}
