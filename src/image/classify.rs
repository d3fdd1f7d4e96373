//! What an initrd is: a whole system, a small initramfs whose root is elsewhere, or already converted; what its init is,
//! and how that wants to find the machine.
//!
//! Decided by what is in the tree alone. Nothing of the image is run.

use std::fmt;

use serde::Serialize;

pub use super::copies::{SelfCopy, Unsafe};
pub use super::evidence::Sign;
pub use super::handover::HandoverReason;
pub use super::init::{InitKind, Obstacle};
pub use super::inside::{Inside, InsideKind};
pub use super::script::Tool;

use super::evidence::{self, Scene};
use super::init::{self, Program};
use super::script::{self, Trace};
use super::view::Image;
use super::{copies, distribution, handover, inside};
use crate::contract::Handover;
use crate::contract::paths::CMDLINE;
use crate::error::Error;
use crate::image::embedded::{self, Body};
use crate::initrd::Initrd;
use crate::tree::{Node, Tree, display};

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole system is in the image.
    Monolith,
    /// A small initramfs that mounts its root elsewhere; made by this generator.
    FrontEnd(String),
    /// A small initramfs, made by this generator, and the system in a file system image or an archive in it.
    SystemInside(String),
    /// An initramfs, made by this generator, with the system in a squashfs.img: nothing is left to convert.
    Converted(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Monolith => f.write_str("monolith"),
            Self::FrontEnd(maker) => write!(f, "front-end ({maker})"),
            Self::SystemInside(maker) => write!(f, "front-end ({maker}) with the system inside"),
            Self::Converted(maker) => write!(f, "converted ({maker})"),
        }
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// What it is.
    pub verdict: Verdict,
    /// What was found, the signs that decided first.
    pub signs: Vec<Sign>,
    /// The init that the kernel starts, as an absolute path.
    pub init: Option<String>,
    /// What kind of program `init` is.
    pub init_kind: InitKind,
    /// How the image copies itself before its system starts, where it does.
    pub copy: Option<SelfCopy>,
    /// What a converted runtime starts: `init`, or what is started in the copy.
    pub started: Option<String>,
    /// Why the kernel cannot start that, if it cannot.
    pub obstacle: Option<Obstacle>,
    /// How `started` wants to find /proc, /sys, /dev and /run.
    pub handover: Handover,
    /// The evidence for that.
    pub handover_reason: HandoverReason,
    /// File system images and archives in the image, the largest first.
    pub inside: Vec<Inside>,
    /// As `uname -m` names it.
    pub architecture: Option<String>,
    /// The names below lib/modules, sorted.
    pub kernels: Vec<String>,
    /// The distribution, as it calls itself.
    pub distribution: Option<String>,
}

/// Says what `initrd` is.
#[must_use]
pub fn classify(initrd: &Initrd) -> Classification {
    with_files(initrd, inside::find(&initrd.tree))
}

/// Says what the system of a converted image is. No file is looked into for a system inside it: each would be a block of
/// the squashfs to decompress.
#[must_use]
pub fn runtime(system: &Tree) -> Classification {
    with_files(&Initrd::of_tree(system.clone()), Vec::new())
}

fn with_files(initrd: &Initrd, inside: Vec<Inside>) -> Classification {
    let image = Image(&initrd.tree);
    let mut signs = Vec::new();
    let init = init::find(&image, &mut signs);
    let program = init.as_deref().map(|path| Program::look(&image, path));
    let trace = trace(&image, program.as_ref());
    let copy = program.as_ref().and_then(|program| copies::find(&image, program, &trace));
    let (trace, copy) = match &program {
        Some(program) => copies::restart(&image, program, trace, copy),
        None => (trace, copy),
    };
    let skipped = copy.as_ref().filter(|copy| copy.kept.is_none());
    let (handover, handover_reason) = match (&program, skipped) {
        (None, _) => (Handover::Bare, HandoverReason::NoInit),
        (Some(program), None) => handover::of(&image, program, &trace),
        (Some(program), Some(copy)) => copies::handover(&image, copy, &trace, program),
    };
    let scene = Scene {
        image: &image,
        program: program.as_ref(),
        trace: &trace,
        copy: copy.as_ref(),
        inside: &inside,
    };
    let verdict = verdict(initrd, &scene, &mut signs);
    let started = skipped.map(|copy| copy.program.clone()).or_else(|| init.clone());
    Classification {
        verdict,
        signs,
        obstacle: init::obstacle(&image, started.as_deref(), program.as_ref()),
        started,
        handover,
        handover_reason,
        architecture: distribution::architecture(&image, program.as_ref()),
        kernels: distribution::kernels(&image),
        distribution: distribution::distribution(&image),
        init_kind: program.map_or(InitKind::Missing, |program| program.kind),
        init,
        copy,
        inside,
    }
}

impl Classification {
    /// The same, with another program of `tree` to start.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the kernel could not start it.
    pub fn starting(mut self, tree: &Tree, init: &str) -> Result<Self, Error> {
        let image = Image(tree);
        let hint = "name a program of the image by its absolute path, such as --init /sbin/init";
        let wrong = |what: &str| Error::usage(format!("--init {init} {what}")).hint(hint);
        if !init.starts_with('/') {
            return Err(wrong("is not an absolute path"));
        }
        let id = tree.resolve(init).ok_or_else(|| wrong("is not in the image"))?;
        let inode = tree.inode(id);
        if !matches!(inode.node, Node::Regular(_)) || inode.mode & 0o111 == 0 {
            return Err(wrong("is not an executable file"));
        }
        let program = Program::look(&image, init);
        let trace = trace(&image, Some(&program));
        (self.handover, self.handover_reason) = handover::of(&image, &program, &trace);
        self.started = Some(init.to_owned());
        self.obstacle = init::obstacle(&image, Some(init), Some(&program));
        if let Some(copy) = &mut self.copy
            && copy.script != init
        {
            (copy.kept, copy.program, copy.arguments) = (None, init.to_owned(), Vec::new());
            copy.environment.clear();
        }
        Ok(self)
    }
}

/// What the init's script does, where it is one.
fn trace(image: &Image<'_>, program: Option<&Program>) -> Trace {
    let script = program.and_then(|program| Some((program, program.script.as_deref()?)));
    script.map_or_else(Trace::default, |(program, text)| script::follow(image.0, &program.path, text))
}

fn verdict(initrd: &Initrd, scene: &Scene<'_>, signs: &mut Vec<Sign>) -> Verdict {
    let gathered = evidence::gather(scene);
    let maker = gathered.iter().find_map(|sign| match sign {
        Sign::Generator { name, .. } => Some((*name).to_owned()),
        _ => None,
    });
    let maker = maker.unwrap_or_else(|| "an unknown generator".to_owned());
    if let Some(sign) = converted(initrd) {
        signs.push(sign);
        return Verdict::Converted(maker);
    }
    let sum = evidence::weigh(&gathered);
    let inside = gathered.iter().any(|sign| matches!(sign, Sign::SystemInside { .. }));
    signs.splice(0..0, by_weight(gathered, sum > 0));
    match sum {
        1.. => Verdict::Monolith,
        _ if inside => Verdict::SystemInside(maker),
        _ => Verdict::FrontEnd(maker),
    }
}

/// Those that decided come first, the heaviest before the others; what only follows from there being no other sign is left
/// out beside them.
fn by_weight(mut signs: Vec<Sign>, monolith: bool) -> Vec<Sign> {
    signs.sort_by_key(|sign| ((sign.weight() > 0) != monolith, -sign.weight().abs()));
    if monolith && signs.first().is_some_and(|first| first.weight() > 1) {
        signs.retain(|sign| *sign != Sign::NothingElsewhere);
    }
    signs
}

/// Whether the system is in a squashfs in the image, be it a regular file or the body of an entry that the kernel
/// skips; or elsewhere, as a conversion into two parts leaves it.
fn converted(initrd: &Initrd) -> Option<Sign> {
    let Some(carried) = embedded::carried(initrd) else {
        let apart = initrd.tree.get(CMDLINE).is_some();
        return apart.then(|| Sign::RuntimeElsewhere(CMDLINE.to_owned()));
    };
    let skipped = matches!(carried.body, Body::Skipped(_));
    Some(Sign::HoldsRuntime { path: display(&carried.path), skipped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ELF: &[u8] = &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0];

    fn elf(strings: &str) -> Vec<u8> {
        let mut bytes = ELF.to_vec();
        bytes.resize(64, 0);
        bytes.extend(strings.as_bytes());
        bytes
    }

    fn of(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Classification {
        classify(&crate::initrd::build::initrd(crate::tree::build::tree(files, links)))
    }

    #[test]
    fn a_systemd_system_is_a_monolith_that_gets_its_mounts() {
        let systemd = elf("ld-linux-x86-64.so.2");
        let class = of(
            &[
                ("usr/lib/systemd/systemd", &systemd),
                ("var/lib/dpkg/status", b""),
                ("usr/lib/os-release", b"ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
                ("usr/lib/modules/6.1.0-50-amd64/modules.dep", b""),
            ],
            &[
                ("init", "sbin/init"),
                ("sbin", "usr/sbin"),
                ("lib", "usr/lib"),
                ("usr/sbin/init", "/lib/systemd/systemd"),
            ],
        );
        assert_eq!(class.verdict, Verdict::Monolith);
        assert_eq!(
            (class.handover, class.init.as_deref(), class.init_kind),
            (Handover::Mounted, Some("/init"), InitKind::Systemd)
        );
        assert!(class.handover_reason.to_string().contains("/usr/lib/systemd/systemd"));
        assert_eq!(class.architecture.as_deref(), Some("x86_64"));
        assert_eq!(class.distribution.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(class.kernels, ["6.1.0-50-amd64"]);
    }

    #[test]
    fn a_wrapper_around_systemd_is_seen_through() {
        let systemd = elf("");
        let class = of(
            &[("init", b"#!/bin/sh\nexec /sbin/init \"$@\"\n"), ("lib/systemd/systemd", &systemd)],
            &[("sbin/init", "../lib/systemd/systemd")],
        );
        assert_eq!(class.handover, Handover::Mounted, "{}", class.handover_reason);
    }

    #[test]
    fn an_agent_without_a_system_is_a_monolith_on_a_bare_rootfs() {
        let agent = elf("some agent");
        let class = of(&[("init", &agent)], &[]);
        assert_eq!((class.verdict, class.handover), (Verdict::Monolith, Handover::Bare));
        assert_eq!(class.init_kind, InitKind::Program { statically_linked: true });
        let busybox = elf("BusyBox v1.35.0");
        let class = of(
            &[("bin/busybox", &busybox), ("etc/inittab", b"::sysinit:/bin/mount -t proc proc /proc\n")],
            &[("init", "/bin/busybox")],
        );
        assert_eq!((class.handover, class.init_kind.clone()), (Handover::Bare, InitKind::Busybox));
        assert!(class.handover_reason.to_string().contains("mounts /proc"), "{}", class.handover_reason);
    }

    #[test]
    fn what_the_kernel_cannot_start_is_seen() {
        let dynamic = {
            let mut program = [ELF, &[0; 40]].concat();
            let numbers: [(usize, u8); 6] = [(20, 1), (32, 64), (52, 64), (54, 56), (56, 1), (16, 3)];
            numbers.into_iter().for_each(|(at, value)| program[at] = value);
            let header = [3_u64 | 4 << 32, 120, 0, 0, 13, 13, 1].map(u64::to_le_bytes).concat();
            [program, header, b"/lib/ld-x.so\0".to_vec()].concat()
        };
        let obstacle = |files: &[(&str, &[u8])]| of(files, &[("bin/sh", "busybox")]).obstacle;
        let missing = |path: &str| Some(Obstacle::Interpreter(path.into()));
        assert_eq!(obstacle(&[("init", b"#!/bin/sh\n"), ("bin/busybox", ELF)]), None);
        assert_eq!(obstacle(&[("init", b"#!/bin/sh\n"), ("bin/busybox", &dynamic)]), missing("/lib/ld-x.so"));
        assert_eq!(obstacle(&[("init", &dynamic), ("lib/ld-x.so", ELF)]), None);
        assert_eq!(obstacle(&[("init", b"#!/bin/sh\n")]), missing("/bin/sh"));
        assert_eq!(obstacle(&[("init", b"#! /bin/bash -e\n"), ("bin/busybox", ELF)]), missing("/bin/bash"));
        assert_eq!(obstacle(&[("init", b"#!/bin/sh\r\n"), ("bin/busybox", ELF)]), missing("/bin/sh\\r"));
        for text in [&b""[..], b"exec /sbin/init\n"] {
            assert_eq!(obstacle(&[("init", text)]), Some(Obstacle::NoFormat));
        }
        assert_eq!(obstacle(&[("etc/passwd", b"")]), Some(Obstacle::NoInit));
        assert_eq!(obstacle(&[("init/x", b"")]), Some(Obstacle::NotRegular));
        // What is started in the copy of an image counts.
        let copies = b"#!/bin/sh\nmount -t tmpfs t /n\ncp -a / /n\nexec switch_root /n /etc/start\n";
        let files: [(&str, &[u8]); 3] =
            [("init", copies), ("bin/busybox", ELF), ("etc/start", b"#!/usr/bin/env bash\n")];
        assert_eq!(obstacle(&files), missing("/usr/bin/env"));
    }

    #[test]
    fn without_init_the_kernel_needs_rdinit() {
        let init = elf("/etc/inittab INIT: version");
        let class = of(&[("sbin/init", &init)], &[]);
        assert_eq!(class.init.as_deref(), Some("/sbin/init"));
        assert!(class.signs.contains(&Sign::NeedsRdinit("/sbin/init".into())), "{:?}", class.signs);
        assert_eq!((class.handover, class.init_kind), (Handover::Mounted, InitKind::System("sysvinit")));
        let class = of(&[("etc/passwd", b"")], &[("init", "nowhere")]);
        assert_eq!(class.init, None);
        assert!(class.signs.contains(&Sign::InitDangling));
    }

    #[test]
    fn front_ends_by_their_makers() {
        let script: &[u8] = b"#!/bin/sh\nmount -t proc proc /proc\nexec switch_root /root /sbin/init\n";
        let maker = |files: &[(&str, &[u8])]| match of(files, &[]).verdict {
            Verdict::FrontEnd(maker) => maker,
            other => panic!("{other:?}"),
        };
        assert_eq!(maker(&[("init", script), ("scripts/functions", b"")]), "initramfs-tools");
        assert_eq!(maker(&[("init", script), ("usr/lib/dracut-lib.sh", b"")]), "dracut");
        assert_eq!(maker(&[("init", script), ("init_functions", b"")]), "mkinitcpio");
        assert_eq!(maker(&[("init", script)]), "an unknown generator");
        // A live system that moves itself into a tmpfs.
        assert_eq!(of(&[("init", script), ("var/lib/dpkg/status", b"")], &[]).verdict, Verdict::Monolith);
        // Anaconda in a dracut image.
        let class = of(&[("init", script), ("usr/lib/dracut-lib.sh", b""), ("usr/sbin/anaconda", b"")], &[]);
        assert_eq!(class.verdict, Verdict::Monolith);
        assert!(matches!(class.signs[0], Sign::Installer { name: "Anaconda", .. }), "{:?}", class.signs);
    }

    proptest! {
        #[test]
        fn any_script_can_be_read(text in "[ -~\n]{0,300}") {
            let script = format!("#!{text}");
            let class = of(&[("init", script.as_bytes()), ("etc/inittab", text.as_bytes()), (".buildstamp", text.as_bytes())], &[("loop", "loop")]);
            prop_assert!(class.init.is_some());
        }
    }
}
