//! How the old init wants to find /proc, /sys, /dev and /run.

use std::collections::BTreeSet;

use serde::Serialize;

use super::init::{InitKind, Program};
use super::script::{self, Action, Trace};
use super::view::Image;
use crate::contract::Handover;

/// The mount points of the kernel's own file systems.
pub(super) const KERNEL_FILE_SYSTEMS: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Why an init is handed over to in the way it is. `init` is the program as the report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandoverReason {
    /// There is no init.
    NoInit,
    /// By what it is.
    Kind {
        /// The init.
        init: String,
        /// What it is.
        kind: InitKind,
    },
    /// Its script, or the scripts of its inittab, mount these.
    Mounts {
        /// The init.
        init: String,
        /// Whether an inittab names the scripts.
        inittab: bool,
        /// The mount points.
        mounts: Vec<String>,
    },
    /// Its script does nothing but start this.
    Starts {
        /// The init.
        init: String,
        /// The program that it starts.
        next: String,
    },
    /// The script that copies the image mounts these in the copy before it starts the init there.
    CopyMounts {
        /// The init.
        init: String,
        /// The script.
        script: String,
        /// The mount points.
        mounts: Vec<String>,
    },
}

pub(super) fn of(image: &Image<'_>, program: &Program, trace: &Trace) -> (Handover, HandoverReason) {
    let init = program.shown();
    let by_kind = HandoverReason::Kind { init: init.clone(), kind: program.kind.clone() };
    match &program.kind {
        InitKind::Systemd | InitKind::System(_) => (Handover::Mounted, by_kind),
        InitKind::Script(_) => {
            let mounts = mounts(trace);
            if !mounts.is_empty() {
                return (Handover::Bare, HandoverReason::Mounts { init, inittab: false, mounts });
            }
            // A wrapper says nothing: what it starts does.
            let next = started(trace).filter(|path| *path != program.path && image.has(path));
            let Some(next) = next else { return (Handover::Bare, by_kind) };
            let next = Program::look(image, &next);
            let mounted = matches!(next.kind, InitKind::Systemd | InitKind::System(_));
            let handover = if mounted { Handover::Mounted } else { Handover::Bare };
            (handover, HandoverReason::Starts { init, next: next.shown() })
        }
        InitKind::Busybox => {
            let inittab = image.text("etc/inittab").map(|text| sysinit(&text)).unwrap_or_default();
            let mounts = mounts(&script::follow(image.0, "/etc/inittab", &inittab));
            if mounts.is_empty() {
                return (Handover::Bare, by_kind);
            }
            (Handover::Bare, HandoverReason::Mounts { init, inittab: true, mounts })
        }
        InitKind::LinuxKit | InitKind::Program { .. } | InitKind::Unknown | InitKind::Missing => {
            (Handover::Bare, by_kind)
        }
    }
}

/// Which of [`KERNEL_FILE_SYSTEMS`] a script mounts, sorted.
pub(super) fn mounts(trace: &Trace) -> Vec<String> {
    let mounted = trace.events.iter().filter_map(|event| match &event.action {
        Action::Mount(mount) if !mount.moved && KERNEL_FILE_SYSTEMS.contains(&mount.target.as_str()) => {
            Some(mount.target.clone())
        }
        _ => None,
    });
    mounted.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The program that a script starts in its own place, on the same root: the last one, which is what it is for.
fn started(trace: &Trace) -> Option<String> {
    trace.events.iter().rev().find_map(|event| match &event.action {
        Action::Start(start) if start.tool.is_none() => Some(start.program.clone()),
        _ => None,
    })
}

/// The sysinit, wait and once actions of a busybox inittab as a script.
fn sysinit(inittab: &str) -> String {
    let mut script = String::new();
    for line in inittab.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.splitn(4, ':').skip(2);
        if let (Some("sysinit" | "wait" | "once"), Some(command)) = (fields.next(), fields.next()) {
            script.push_str(command);
            script.push('\n');
        }
    }
    if script.is_empty() { "/etc/init.d/rcS\n".into() } else { script }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_to_see_what_they_mount() {
        let mounts_of = mounts;
        let mounts = |text: &str| {
            let tree = crate::tree::build::tree(
                &[
                    ("lib/early", b"#!/bin/sh\nmount -t devtmpfs x /dev/\n"),
                    ("etc/fstab", b"x / auto\nproc /proc proc\n"),
                ],
                &[],
            );
            mounts_of(&script::follow(&tree, "/init", text)).join(" ")
        };
        assert_eq!(mounts("#!/bin/sh\nmount -t proc none /proc\n"), "/proc");
        assert_eq!(mounts("[ -d /sys ] && /bin/busybox mount -t sysfs sysfs \"/sys\""), "/sys");
        assert_eq!(mounts("if ! X=1 mount /run; then echo; fi"), "/run");
        assert_eq!(mounts(". /lib/early\n"), "/dev");
        assert_eq!(mounts("/lib/early --all"), "/dev");
        assert_eq!(mounts("mount -a"), "/proc");
        assert_eq!(mounts("# mount /proc\necho mount /proc; umount /sys; mount /dev/sda /mnt"), "");
    }
}
