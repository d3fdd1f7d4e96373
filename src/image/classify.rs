//! What an initrd is: a whole system, the front-end of one that lies elsewhere, or already converted; what its first
//! program is and how that wants to find the machine.
//!
//! Decided by evidence in the tree alone, each piece of which is told to the user. Nothing of the image is run.

use std::collections::BTreeSet;
use std::fmt;

use crate::contract::Handover;
use crate::contract::paths::CMDLINE_FILE;
use crate::elf::machine_of;
use crate::image::embedded::{self, Body};
use crate::initrd::Initrd;
use crate::tree::{InodeId, Node, Tree, display};

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole system is in the image.
    Monolith,
    /// It only mounts a root that lies elsewhere; made by this.
    FrontEnd(String),
    /// A front-end, made by this, with the system in a squashfs.img: nothing is left to convert.
    Converted(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Monolith => f.write_str("monolith"),
            Self::FrontEnd(maker) => write!(f, "front-end ({maker})"),
            Self::Converted(maker) => write!(f, "converted ({maker})"),
        }
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// What it is.
    pub verdict: Verdict,
    /// The evidence for it, and what else is remarkable, a sentence each.
    pub why: Vec<String>,
    /// The first program, as an absolute path.
    pub init: Option<String>,
    /// How the first program wants to find /proc, /sys, /dev and /run.
    pub handover: Handover,
    /// The evidence for that.
    pub handover_why: String,
    /// As `uname -m` names it.
    pub architecture: Option<String>,
    /// The names below lib/modules, sorted.
    pub kernels: Vec<String>,
    /// The distribution, in its own words.
    pub distribution: Option<String>,
    /// What kind of program `init` is, such as `systemd` or `shell script`.
    pub init_kind: String,
}

/// Scripts larger than this are not read.
const MAX_TEXT: u64 = 512 << 10;
/// Programs larger than this are not searched for strings.
const MAX_PROGRAM: u64 = 64 << 20;
/// So many scripts are followed from /init.
const MAX_SCRIPTS: usize = 16;

/// Says what `initrd` is.
#[must_use]
pub fn classify(initrd: &Initrd) -> Classification {
    let image = Image(&initrd.tree);
    let mut why = Vec::new();
    let init = first_program(&image, &mut why);
    let program = init.as_deref().map(|path| Program::look(&image, path));
    let (handover, handover_why) = program.as_ref().map_or_else(
        || (Handover::Bare, "there is no first program".to_owned()),
        |program| program.handover(&image),
    );
    let verdict = verdict(initrd, &image, init.as_deref(), program.as_ref(), &mut why);
    Classification {
        verdict,
        why,
        handover,
        handover_why,
        architecture: architecture(&image, program.as_ref()),
        kernels: kernels(&image),
        distribution: distribution(&image),
        init_kind: program.map_or_else(|| "none".into(), |program| program.kind.describe()),
        init,
    }
}

/// The tree as a process that runs in it sees it.
struct Image<'a>(&'a Tree);

impl Image<'_> {
    fn has(&self, path: &str) -> bool {
        self.0.resolve(path).is_some()
    }

    fn bytes(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.0.read(self.0.resolve(path)?, limit).ok().flatten()
    }

    fn text(&self, path: &str) -> Option<String> {
        self.bytes(path, MAX_TEXT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first `count` bytes of a regular file.
    fn head(&self, id: InodeId, count: u64) -> Option<Vec<u8>> {
        let Node::Regular(content) = &self.0.inode(id).node else { return None };
        let mut head = vec![0; content.size.min(count) as usize];
        self.0.read_at(content, &mut head, 0).ok()?;
        Some(head)
    }

    /// Where `path` leads to when all links are followed, as an absolute path.
    fn real_path(&self, path: &str) -> Option<String> {
        self.0.real_path(path).map(|path| format!("/{}", display(&path)))
    }
}

/// The program that the kernel starts: /init, or with `rdinit=` another one (kernel_init of init/main.c).
fn first_program(image: &Image<'_>, why: &mut Vec<String>) -> Option<String> {
    if let Some(id) = image.0.resolve("init") {
        if !matches!(image.0.inode(id).node, Node::Regular(_)) {
            why.push("/init is not a regular file: the kernel cannot start it".into());
        } else if image.0.inode(id).mode & 0o111 == 0 {
            why.push("/init is not executable: the kernel will not start it".into());
        }
        return Some("/init".into());
    }
    if image.0.get("init").is_some() {
        why.push("/init is a link that leads nowhere".into());
    }
    // The order of kernel_init.
    let found = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"].into_iter().find(|path| image.has(path));
    match found {
        Some(path) => why.push(format!(
            "there is no /init: a kernel runs this image only with rdinit={path} on its command line"
        )),
        None => why.push("there is neither /init nor /sbin/init: no kernel can run this image".into()),
    }
    found.map(str::to_owned)
}

/// What a first program is.
enum Kind {
    Systemd,
    /// A shell script, with its text.
    Script(String),
    Busybox,
    /// sysvinit, upstart, OpenRC, runit: started by a real root's kernel as /sbin/init.
    System(&'static str),
    /// Some other program, statically linked or not.
    Elf {
        statically: bool,
    },
    Unknown,
}

impl Kind {
    fn describe(&self) -> String {
        match self {
            Self::Systemd => "systemd".into(),
            Self::Script(text) => {
                let interpreter = text.lines().next().unwrap_or_default().trim_start_matches("#!").trim();
                format!("script for {}", interpreter.split_whitespace().next().unwrap_or("a shell"))
            }
            Self::Busybox => "busybox init".into(),
            Self::System(name) => (*name).into(),
            Self::Elf { statically: true } => "statically linked program".into(),
            Self::Elf { statically: false } => "program".into(),
            Self::Unknown => "of unknown format".into(),
        }
    }
}

struct Program {
    /// As the kernel starts it.
    path: String,
    /// Where that leads to.
    real: String,
    kind: Kind,
    /// Its first bytes.
    head: Vec<u8>,
}

impl Program {
    fn look(image: &Image<'_>, path: &str) -> Self {
        let real = image.real_path(path).unwrap_or_else(|| path.to_owned());
        let bytes = image.bytes(path, MAX_PROGRAM).unwrap_or_default();
        let head = bytes.get(..64).unwrap_or(&bytes).to_vec();
        let name = real.rsplit('/').next().unwrap_or_default();
        let has = |text: &str| contains(&bytes, text.as_bytes());
        let kind = if bytes.starts_with(b"#!") {
            Kind::Script(String::from_utf8_lossy(&bytes).into_owned())
        } else if !bytes.starts_with(b"\x7fELF") {
            Kind::Unknown
        } else if name == "systemd" {
            Kind::Systemd
        } else if name.starts_with("busybox") || has("BusyBox v") {
            Kind::Busybox
        } else if has("upstart") {
            Kind::System("upstart")
        } else if has("/etc/inittab") && has("INIT:") {
            Kind::System("sysvinit")
        } else if name.starts_with("openrc") || has("openrc") {
            Kind::System("OpenRC init")
        } else if name.starts_with("runit") {
            Kind::System("runit")
        } else if real.ends_with("sbin/init") {
            Kind::System("/sbin/init")
        } else {
            Kind::Elf {
                statically: !has("ld-linux") && !has("ld-musl") && !has("/ld64.so") && !has("/ld.so"),
            }
        };
        Self { path: path.to_owned(), real, kind, head }
    }

    /// `/init` or `/init (/usr/lib/systemd/systemd)`.
    fn shown(&self) -> String {
        if self.path == self.real { self.path.clone() } else { format!("{} ({})", self.path, self.real) }
    }

    fn handover(&self, image: &Image<'_>) -> (Handover, String) {
        let own = |mounted: &BTreeSet<String>| mounted.iter().cloned().collect::<Vec<_>>().join(", ");
        match &self.kind {
            Kind::Systemd => {
                (Handover::Mounted, format!("{} is systemd, which takes over what is mounted", self.shown()))
            }
            Kind::System(name) => (
                Handover::Mounted,
                format!(
                    "{} is {name}, which a kernel or an initramfs starts on a root with /proc and /dev mounted",
                    self.shown()
                ),
            ),
            Kind::Script(text) => {
                let mounted = mounts_of(image, &self.path, text);
                if !mounted.is_empty() {
                    return (
                        Handover::Bare,
                        format!("{} is a script that mounts {} itself", self.shown(), own(&mounted)),
                    );
                }
                // A wrapper says nothing: what it starts does.
                match exec_target(text).filter(|target| *target != self.path && image.has(target)) {
                    Some(target) => match Self::look(image, &target) {
                        next @ Self { kind: Kind::Systemd | Kind::System(_), .. } => {
                            (Handover::Mounted, format!("{} starts {}", self.shown(), next.shown()))
                        }
                        next => (
                            Handover::Bare,
                            format!("{} starts {} on a bare rootfs", self.shown(), next.shown()),
                        ),
                    },
                    None => (
                        Handover::Bare,
                        format!("{} is a script that always started on a bare rootfs", self.shown()),
                    ),
                }
            }
            Kind::Busybox => {
                let mounted = image
                    .text("etc/inittab")
                    .map(|inittab| sysinit(&inittab))
                    .map(|script| mounts_of(image, "etc/inittab", &script))
                    .unwrap_or_default();
                if mounted.is_empty() {
                    (
                        Handover::Bare,
                        format!("{} is busybox init, which always started on a bare rootfs", self.shown()),
                    )
                } else {
                    (
                        Handover::Bare,
                        format!(
                            "{} is busybox init, and its sysinit mounts {} itself",
                            self.shown(),
                            own(&mounted)
                        ),
                    )
                }
            }
            Kind::Elf { .. } => (
                Handover::Bare,
                format!("{} is a program that always started on a bare rootfs", self.shown()),
            ),
            Kind::Unknown => (
                Handover::Bare,
                format!("{} is of no known format; it always started on a bare rootfs", self.shown()),
            ),
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((&first, rest)) = needle.split_first() else { return true };
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&b| b == first) {
        from += at + 1;
        if haystack[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

/// The commands of a script, as words without quotes; shell syntax around them is taken off.
fn commands(script: &str) -> impl Iterator<Item = Vec<&str>> {
    script
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim_start())
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split([';', '&', '|', '(', ')', '{', '}', '`']))
        .map(|command| {
            command
                .split_whitespace()
                .map(|word| word.trim_matches(['"', '\'']))
                .skip_while(|word| {
                    ["if", "then", "else", "elif", "do", "while", "!", "exec", "busybox", "/bin/busybox", "-"]
                        .contains(word)
                        || (word.contains('=') && !word.starts_with('/'))
                })
                .collect::<Vec<_>>()
        })
        .filter(|words| !words.is_empty())
}

/// The mount points of the kernel's own file systems.
const OWN: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Which of [`OWN`] the script at `path` mounts, itself or through the scripts that it reads or calls.
fn mounts_of(image: &Image<'_>, path: &str, text: &str) -> BTreeSet<String> {
    let mut mounted = BTreeSet::new();
    let mut seen = BTreeSet::from([path.to_owned()]);
    let mut todo = vec![text.to_owned()];
    while let Some(text) = todo.pop() {
        for words in commands(&text) {
            let (command, arguments) = (words[0], &words[1..]);
            if command.rsplit('/').next() == Some("mount") {
                let fstab =
                    arguments.contains(&"-a").then(|| image.text("etc/fstab")).flatten().unwrap_or_default();
                let points = fstab.lines().filter_map(|line| line.split_whitespace().nth(1));
                for point in arguments.iter().copied().chain(points) {
                    let point = point.trim_end_matches('/');
                    mounted.extend(OWN.contains(&point).then(|| point.to_owned()));
                }
            }
            let called = match command {
                "." | "source" | "sh" | "/bin/sh" => arguments.first().copied(),
                path if path.starts_with('/') => Some(path),
                _ => None,
            };
            if let Some(called) = called
                && seen.len() < MAX_SCRIPTS
                && seen.insert(called.to_owned())
            {
                let text = image
                    .text(called)
                    .filter(|text| called.ends_with(".sh") || text.starts_with("#!") || command == ".");
                todo.extend(text);
            }
        }
    }
    mounted
}

/// The last absolute path that a script starts in its own place.
fn exec_target(script: &str) -> Option<String> {
    script
        .lines()
        .map(str::trim_start)
        .filter_map(|line| line.strip_prefix("exec "))
        .filter_map(|rest| {
            rest.split_whitespace()
                .map(|word| word.trim_matches(['"', '\'']))
                .find(|word| word.starts_with('/'))
        })
        .next_back()
        .map(str::to_owned)
}

/// The sysinit and wait actions of a busybox inittab as a script.
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

/// The makers of front-ends, with the path and perhaps the text in it by which each is known.
const MAKERS: [(&str, &str, Option<&str>); 13] = [
    ("btrsquash built-in", ".btrsquash/config", None),
    ("initramfs-tools", "scripts/functions", None),
    ("dracut", "usr/lib/dracut-lib.sh", None),
    ("dracut", "lib/dracut-lib.sh", None),
    ("dracut", "usr/lib/dracut/hooks", None),
    ("mkinitcpio", "init_functions", None),
    ("booster", "etc/booster.init.yaml", None),
    ("mkinitfs (Alpine)", "init", Some("Alpine Init")),
    ("NixOS stage 1", "init", Some("NixOS Stage 1")),
    ("genkernel", "etc/initrd.defaults", None),
    ("tiny-initramfs", "init", Some("tiny_initramfs")),
    ("mkosi-initrd or another with systemd", "etc/initrd-release", None),
    ("mkosi-initrd or another with systemd", "usr/lib/initrd-release", None),
];

/// Programs of installers that are in their image whole.
const INSTALLERS: [(&str, &str); 6] = [
    ("lib/debian-installer", "the Debian installer"),
    ("usr/lib/debian-installer", "the Debian installer"),
    ("usr/sbin/anaconda", "Anaconda"),
    ("usr/bin/anaconda", "Anaconda"),
    ("usr/lib/YaST2", "YaST"),
    ("sbin/linuxrc", "linuxrc"),
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

fn verdict(
    initrd: &Initrd,
    image: &Image<'_>,
    init: Option<&str>,
    program: Option<&Program>,
    why: &mut Vec<String>,
) -> Verdict {
    let maker = maker(image, program);
    let maker_name = || maker.map_or_else(|| "an unknown front-end".to_owned(), |(name, _)| name.to_owned());
    if let Some(reason) = converted(initrd) {
        why.push(reason);
        return Verdict::Converted(maker_name());
    }
    let system = system(image);
    if let Some((name, path)) = maker {
        let installer = INSTALLERS.iter().find(|(path, _)| image.has(path));
        match installer {
            None => {
                why.push(format!("/{path} is a part of {name}'s images, which mount their root elsewhere"));
                return Verdict::FrontEnd(name.into());
            }
            // As Anaconda's were around 2011.
            Some((program, installer)) => {
                why.push(format!("made by {name} (/{path}), yet {installer} is in it whole (/{program})"))
            }
        }
    } else if let Some(Program { kind: Kind::Script(text), .. }) = program
        && let Some(tool) = commands(text)
            .filter_map(|words| words[0].rsplit('/').next().map(str::to_owned))
            .find(|command| ["switch_root", "run-init", "pivot_root", "new_root"].contains(&command.as_str()))
    {
        if system.is_empty() {
            why.push(format!(
                "{} goes to another root by {tool}, and no system is in the image",
                init.unwrap_or("/init")
            ));
            return Verdict::FrontEnd("an unknown maker".into());
        }
        why.push(format!("{} uses {tool}, yet a whole system is in the image", init.unwrap_or("/init")));
    }
    why.push(if system.is_empty() {
        "no sign of a front-end: nothing in it goes to another root".into()
    } else {
        format!("a whole system: {}", system.join(", "))
    });
    Verdict::Monolith
}

/// The maker of a front-end and the path by which it is known.
fn maker(image: &Image<'_>, program: Option<&Program>) -> Option<(&'static str, &'static str)> {
    MAKERS.into_iter().find_map(|(name, path, text)| {
        let found = match (text, program) {
            (None, _) => image.has(path),
            (Some(text), Some(Program { kind: Kind::Script(script), .. })) => script.contains(text),
            (Some(_), _) => false,
        };
        found.then_some((name, path))
    })
}

/// Signs that the image holds a whole system.
fn system(image: &Image<'_>) -> Vec<String> {
    let mut signs: Vec<String> = Vec::new();
    signs.extend(PACKAGES.iter().find(|path| image.has(path)).map(|path| format!("packages (/{path})")));
    signs.extend(
        INSTALLERS.iter().find(|(path, _)| image.has(path)).map(|(path, name)| format!("{name} (/{path})")),
    );
    if let Some(real) = image.real_path("sbin/init") {
        let target = if real == "/sbin/init" { String::new() } else { format!(", {real}") };
        signs.push(format!("an init (/sbin/init{target})"));
    }
    signs.extend(
        ["sbin/getty", "sbin/agetty", "usr/sbin/agetty", "bin/login", "usr/sbin/sshd"]
            .iter()
            .find(|path| image.has(path))
            .map(|path| format!("logins (/{path})")),
    );
    signs
}

/// Whether the system is in a squashfs in the image, be it a regular file or the body of an entry that the kernel
/// skips; or elsewhere, as a conversion into two parts leaves it.
fn converted(initrd: &Initrd) -> Option<String> {
    let Some(carried) = embedded::carried(initrd) else {
        let apart = initrd.tree.get(CMDLINE_FILE).is_some();
        return apart.then(|| format!("/{CMDLINE_FILE} names a runtime that is not in the image"));
    };
    let path = display(&carried.path);
    Some(match carried.body {
        Body::File(_) => format!("/{path} is a squashfs that holds a system"),
        Body::Skipped(_) => format!("/{path} is carried as the body of an entry that the kernel skips"),
    })
}

fn architecture(image: &Image<'_>, program: Option<&Program>) -> Option<String> {
    if let Some(machine) = program.and_then(|program| machine_of(&program.head)) {
        return Some(machine.into());
    }
    let usual = ["bin/busybox", "bin/sh", "bin/bash", "sbin/init", "usr/bin/env", "bin/ls"];
    let machine = |id| machine_of(&image.head(id, 64)?);
    usual
        .iter()
        .filter_map(|path| image.0.resolve(path))
        .find_map(machine)
        .or_else(|| image.0.walk().map(|entry| entry.id).find_map(machine))
        .map(str::to_owned)
}

fn kernels(image: &Image<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for folder in ["lib/modules", "usr/lib/modules"] {
        let names = image.0.resolve(folder).and_then(|id| image.0.names(id)).into_iter().flatten();
        found.extend(names.filter(|(_, id)| image.0.names(**id).is_some()).map(|(name, _)| display(name)));
    }
    found.into_iter().collect()
}

/// The value of `key` in a file of shell assignments, such as os-release(5).
fn value(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn distribution(image: &Image<'_>) -> Option<String> {
    for path in ["etc/os-release", "usr/lib/os-release", "etc/initrd-release", "usr/lib/initrd-release"] {
        if let Some(text) = image.text(path)
            && let Some(name) = value(&text, "PRETTY_NAME").or_else(|| value(&text, "NAME"))
        {
            return Some(name);
        }
    }
    if let Some(text) = image.text("etc/lsb-release")
        && let Some(name) = value(&text, "DISTRIB_DESCRIPTION").or_else(|| value(&text, "DISTRIB_ID"))
    {
        let release = value(&text, "DISTRIB_RELEASE").filter(|release| !name.contains(release));
        return Some(release.map_or(name.clone(), |release| format!("{name} {release}")));
    }
    // Anaconda's images; before 2011 without keys, then an ini file.
    if let Some(text) = image.text(".buildstamp") {
        let product = value(&text, "Product").zip(value(&text, "Version"));
        let lines: Vec<&str> = text.lines().collect();
        return product
            .map(|(product, version)| format!("{product} {version}"))
            .or_else(|| Some(format!("{} {}", lines.get(1)?, lines.get(2)?)));
    }
    let line = |path: &str| image.text(path)?.lines().next().map(|line| line.trim().to_owned());
    ["etc/redhat-release", "etc/SuSE-release", "etc/slackware-version"]
        .iter()
        .find_map(|path| line(path))
        .or_else(|| line("etc/alpine-release").map(|version| format!("Alpine Linux {version}")))
        .or_else(|| line("etc/debian_version").map(|version| format!("Debian {version}")))
        .or_else(|| image.has("etc/arch-release").then(|| "Arch Linux".to_owned()))
        .or_else(|| line("etc/default-release").map(|name| format!("Debian {name}")))
        .filter(|name| !name.is_empty())
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
            (class.handover, class.init.as_deref(), class.init_kind.as_str()),
            (Handover::Mounted, Some("/init"), "systemd")
        );
        assert!(class.handover_why.contains("/usr/lib/systemd/systemd"), "{}", class.handover_why);
        assert_eq!(class.architecture.as_deref(), Some("x86_64"));
        assert_eq!(class.distribution.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(class.kernels, ["6.1.0-50-amd64"]);
    }

    #[test]
    fn scripts_are_read_to_see_what_they_mount() {
        let mounts = |text: &str| {
            let tree = crate::tree::build::tree(
                &[
                    ("lib/early", b"#!/bin/sh\nmount -t devtmpfs x /dev/\n"),
                    ("etc/fstab", b"x / auto\nproc /proc proc\n"),
                ],
                &[],
            );
            mounts_of(&Image(&tree), "/init", text).into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(mounts("#!/bin/sh\nmount -t proc none /proc\n"), "/proc");
        assert_eq!(mounts("[ -d /sys ] && /bin/busybox mount -t sysfs sysfs \"/sys\""), "/sys");
        assert_eq!(mounts("if ! X=1 mount /run; then echo; fi"), "/run");
        assert_eq!(mounts(". /lib/early\n"), "/dev");
        assert_eq!(mounts("/lib/early --all"), "/dev");
        assert_eq!(mounts("mount -a"), "/proc");
        assert_eq!(mounts("# mount /proc\necho mount /proc; umount /sys; mount /dev/sda /mnt"), "");
    }

    #[test]
    fn a_wrapper_around_systemd_is_seen_through() {
        let systemd = elf("");
        let class = of(
            &[("init", b"#!/bin/sh\nexec /sbin/init \"$@\"\n"), ("lib/systemd/systemd", &systemd)],
            &[("sbin/init", "../lib/systemd/systemd")],
        );
        assert_eq!(class.handover, Handover::Mounted, "{}", class.handover_why);
    }

    #[test]
    fn an_agent_without_a_system_is_a_monolith_on_a_bare_rootfs() {
        let agent = elf("some agent");
        let class = of(&[("init", &agent)], &[]);
        assert_eq!((class.verdict, class.handover), (Verdict::Monolith, Handover::Bare));
        assert_eq!(class.init_kind, "statically linked program");
        let busybox = elf("BusyBox v1.35.0");
        let class = of(
            &[("bin/busybox", &busybox), ("etc/inittab", b"::sysinit:/bin/mount -t proc proc /proc\n")],
            &[("init", "/bin/busybox")],
        );
        assert_eq!((class.handover, class.init_kind.as_str()), (Handover::Bare, "busybox init"));
        assert!(class.handover_why.contains("mounts /proc"), "{}", class.handover_why);
    }

    #[test]
    fn without_init_the_kernel_has_to_be_told() {
        let init = elf("/etc/inittab INIT: version");
        let class = of(&[("sbin/init", &init)], &[]);
        assert_eq!(class.init.as_deref(), Some("/sbin/init"));
        assert!(class.why.iter().any(|why| why.contains("rdinit=/sbin/init")), "{:?}", class.why);
        assert_eq!((class.handover, class.init_kind.as_str()), (Handover::Mounted, "sysvinit"));
        let class = of(&[("etc/passwd", b"")], &[("init", "nowhere")]);
        assert_eq!(class.init, None);
        assert!(class.why.iter().any(|why| why.contains("leads nowhere")));
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
        assert_eq!(maker(&[("init", script)]), "an unknown maker");
        // A live system that moves itself into a tmpfs.
        assert_eq!(of(&[("init", script), ("var/lib/dpkg/status", b"")], &[]).verdict, Verdict::Monolith);
        // Anaconda in a dracut image.
        let class = of(&[("init", script), ("usr/lib/dracut-lib.sh", b""), ("usr/sbin/anaconda", b"")], &[]);
        assert_eq!(class.verdict, Verdict::Monolith);
        assert!(class.why[0].contains("dracut") && class.why[0].contains("Anaconda"), "{:?}", class.why);
    }

    #[test]
    fn distributions_of_old() {
        let name = |path: &str, text: &str| of(&[(path, text.as_bytes())], &[]).distribution;
        assert_eq!(name(".buildstamp", "201111\nFedora\n15\n").as_deref(), Some("Fedora 15"));
        assert_eq!(name(".buildstamp", "[Main]\nProduct=Fedora\nVersion=16\n").as_deref(), Some("Fedora 16"));
        assert_eq!(name("etc/alpine-release", "3.19.1\n").as_deref(), Some("Alpine Linux 3.19.1"));
        assert_eq!(name("etc/x", ""), None);
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
