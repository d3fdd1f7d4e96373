//! The init of an image: which program the kernel starts, and what kind of program that is.

use serde::Serialize;

use super::evidence::Sign;
use super::view::Image;
use crate::tree::{Node, display};

/// Programs larger than this are not searched for strings.
const MAX_PROGRAM: u64 = 64 << 20;

/// What an init is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitKind {
    /// systemd.
    Systemd,
    /// A script, with its interpreter.
    Script(String),
    /// busybox init.
    Busybox,
    /// sysvinit, upstart, OpenRC, runit, by name: a kernel or an initramfs starts them on a root as /sbin/init.
    System(&'static str),
    /// LinuxKit's: it moves the root into a new tmpfs where / is a tmpfs or ramfs, and only there
    /// (pkg/init/cmd/init/init.go).
    LinuxKit,
    /// Some other program.
    Program {
        /// Whether it needs no dynamic loader.
        statically_linked: bool,
    },
    /// Neither a script nor an ELF file.
    Unknown,
    /// There is none.
    Missing,
}

/// The init that the kernel starts (kernel_init of init/main.c): /init, or with `rdinit=` another one.
pub(super) fn find(image: &Image<'_>, signs: &mut Vec<Sign>) -> Option<String> {
    if let Some(id) = image.0.resolve("init") {
        if !matches!(image.0.inode(id).node, Node::Regular(_)) {
            signs.push(Sign::InitNotRegular);
        } else if image.0.inode(id).mode & 0o111 == 0 {
            signs.push(Sign::InitNotExecutable);
        }
        return Some("/init".into());
    }
    if image.0.get("init").is_some() {
        signs.push(Sign::InitDangling);
    }
    // The order of kernel_init.
    let found = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"].into_iter().find(|path| image.has(path));
    signs.push(found.map_or(Sign::NoInit, |path| Sign::NeedsRdinit(path.to_owned())));
    found.map(str::to_owned)
}

/// Why the kernel cannot start a program (fs/exec.c, fs/binfmt_script.c, fs/binfmt_elf.c).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// There is no init.
    NoInit,
    /// It is not a regular file.
    NotRegular,
    /// It is not executable.
    NotExecutable,
    /// It is neither a script that names its interpreter nor an ELF file.
    NoFormat,
    /// Its interpreter or dynamic loader, or that one's own, is not in the image.
    Interpreter(String),
}

/// Interpreters of interpreters are followed so far, as the kernel does.
const MAX_INTERPRETERS: usize = 5;

/// The first line of a script is read so far (`BINPRM_BUF_SIZE` of Linux).
pub(crate) const MAX_LINE: usize = 256;

/// The interpreter that the first line of a script names, as the kernel reads it (fs/binfmt_script.c): empty if it names none.
/// `None` if `program` is not a script.
pub(crate) fn script_interpreter(program: &[u8]) -> Option<&[u8]> {
    let line = program.strip_prefix(b"#!")?;
    let line = line[..line.len().min(MAX_LINE)].split(|b| *b == b'\n').next().unwrap_or_default();
    let mut words = line.split(|b| matches!(b, b' ' | b'\t'));
    Some(words.find(|word| !word.is_empty()).unwrap_or_default())
}

/// What the kernel needs to start a program.
#[derive(Clone)]
pub(super) enum Needs {
    /// Nothing else, as far as can be told.
    Nothing,
    /// The interpreter of a script, or a dynamic loader.
    Interpreter(Vec<u8>),
    /// A format that the kernel knows.
    Format,
}

impl Needs {
    /// Those of a program with this content.
    fn of(bytes: &[u8]) -> Self {
        if let Some(interpreter) = script_interpreter(bytes) {
            Self::Interpreter(interpreter.to_vec())
        } else if bytes.starts_with(b"\x7fELF") {
            let interpreter = goblin::elf::Elf::parse(bytes).ok().and_then(|elf| elf.interpreter);
            interpreter.map_or(Self::Nothing, |path| Self::Interpreter(path.as_bytes().to_vec()))
        } else if bytes.starts_with(b"bFLT") {
            Self::Nothing
        } else {
            Self::Format
        }
    }
}

/// Why the kernel cannot start `program`, if it cannot. It is not read again if it is the one in `looked`.
pub(super) fn obstacle(
    image: &Image<'_>,
    program: Option<&str>,
    looked: Option<&Program>,
) -> Option<Obstacle> {
    let Some(program) = program else { return Some(Obstacle::NoInit) };
    let looked = looked.filter(|looked| looked.path == program);
    let mut path = program.as_bytes().to_vec();
    for depth in 0..MAX_INTERPRETERS {
        let missing = || Some(Obstacle::Interpreter(display(&path)));
        let Some(id) = image.0.resolve(&path) else {
            return if depth == 0 { Some(Obstacle::NoInit) } else { missing() };
        };
        let inode = image.0.inode(id);
        if !matches!(inode.node, Node::Regular(_)) {
            return if depth == 0 { Some(Obstacle::NotRegular) } else { missing() };
        }
        if inode.mode & 0o111 == 0 {
            return Some(Obstacle::NotExecutable);
        }
        let needs = match looked.filter(|_| depth == 0) {
            Some(program) => program.needs.clone(),
            None => Needs::of(&image.0.read(id, MAX_PROGRAM).ok()??),
        };
        path = match needs {
            Needs::Nothing => return None,
            Needs::Format => return Some(Obstacle::NoFormat),
            Needs::Interpreter(path) => path,
        };
    }
    None
}

/// A program of the image.
pub(super) struct Program {
    /// As it is started.
    pub path: String,
    /// The same without symlinks.
    pub real: String,
    pub kind: InitKind,
    /// The text of a script.
    pub script: Option<String>,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// What the kernel needs to start it; nothing if it cannot be read.
    needs: Needs,
}

impl Program {
    pub(super) fn look(image: &Image<'_>, path: &str) -> Self {
        let real = image.real_path(path).unwrap_or_else(|| path.to_owned());
        let bytes = image.bytes(path, MAX_PROGRAM);
        let needs = bytes.as_deref().map_or(Needs::Nothing, Needs::of);
        let bytes = bytes.unwrap_or_default();
        let head = bytes.get(..64).unwrap_or(&bytes).to_vec();
        let script = bytes.starts_with(b"#!").then(|| String::from_utf8_lossy(&bytes).into_owned());
        let kind = match &script {
            Some(text) => InitKind::Script(interpreter(text)),
            None => kind(&real, &bytes),
        };
        Self { path: path.to_owned(), real, kind, script, head, needs }
    }

    /// `/init` or `/init (/usr/lib/systemd/systemd)`.
    pub(super) fn shown(&self) -> String {
        if self.path == self.real { self.path.clone() } else { format!("{} ({})", self.path, self.real) }
    }
}

fn interpreter(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_start_matches("#!").trim();
    line.split_whitespace().next().unwrap_or("a shell").to_owned()
}

fn kind(real: &str, bytes: &[u8]) -> InitKind {
    let name = real.rsplit('/').next().unwrap_or_default();
    let has = |text: &str| contains(bytes, text.as_bytes());
    if !bytes.starts_with(b"\x7fELF") {
        InitKind::Unknown
    } else if name == "systemd" {
        InitKind::Systemd
    } else if name.starts_with("busybox") || has("BusyBox v") {
        InitKind::Busybox
    } else if has("linuxkit/linuxkit/pkg/init") {
        InitKind::LinuxKit
    } else if has("upstart") {
        InitKind::System("upstart")
    } else if has("/etc/inittab") && has("INIT:") {
        InitKind::System("sysvinit")
    } else if name.starts_with("openrc") || has("openrc") {
        InitKind::System("OpenRC init")
    } else if name.starts_with("runit") {
        InitKind::System("runit")
    } else if real.ends_with("sbin/init") {
        InitKind::System("/sbin/init")
    } else {
        let dynamic = has("ld-linux") || has("ld-musl") || has("/ld64.so") || has("/ld.so");
        InitKind::Program { statically_linked: !dynamic }
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
