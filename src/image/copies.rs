//! Images that copy themselves: an init that copies the whole rootfs into a new tmpfs or ramfs and goes on from there,
//! because pivot_root does not work on rootfs.
//!
//! OpenWrt, minikube, boot2docker, Minimal Linux Live, Warewulf and ReaR do it. A converted image has a root that can be
//! pivoted, so the copy is neither needed nor wanted: it would bring the whole system back into memory, and busybox's
//! switch_root refuses to leave anything but a ramfs or tmpfs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::handover::{self, HandoverReason, KERNEL_FILE_SYSTEMS};
use super::init::Program;
use super::script::{self, Action, Again, Copied, Mount, Start, Tool, Trace, UNKNOWN};
use super::view::Image;
use crate::contract::Handover;
use crate::tree::{InodeId, Node, Tree, display};

const PAGE: u64 = 4096;
/// So many commands that the script runs besides are kept for the report.
const MAX_OTHERS: usize = 12;

/// Why the copy cannot be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsafe {
    /// It depends on something that only shows at boot.
    Conditional,
    /// The program that is started in the copy is not known, or not in the image.
    ProgramUnknown,
    /// The script is too long to be followed to its end.
    TooLong,
    /// The script starts itself again in the copy, and knows there by a file, or not at all, that it has copied.
    Restarts,
}

/// How an image copies itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SelfCopy {
    /// The init whose script copies.
    pub script: String,
    /// The program that copies.
    pub by: &'static str,
    /// Where to.
    pub directory: String,
    /// The file system there.
    pub file_system: String,
    /// What is copied, each file rounded up to whole pages, bytes. 0 where the image is only mounted a second time, as
    /// the lower layer of an overlay or with `mount --bind`.
    pub bytes: u64,
    /// Whether the files are moved one by one, so that there is never more than one file twice.
    pub moved: bool,
    /// How the script goes on in the copy.
    pub tool: Tool,
    /// The program that it starts there.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What the script exported, sorted by name.
    pub environment: BTreeMap<String, String>,
    /// Other mounts that the program finds.
    pub mounts: Vec<String>,
    /// Commands of the script that may matter and are skipped with it.
    pub others: Vec<String>,
    /// Why the copy cannot be skipped; `None` where it can.
    pub kept: Option<Unsafe>,
}

/// What is mounted on a directory, as far as it can hold a copy of the image.
enum Place<'t> {
    /// A file system in memory: a tmpfs, or one on a RAM disk.
    Memory(String),
    /// The image itself, in another place.
    Image(&'t str),
}

fn places(trace: &Trace) -> BTreeMap<&str, Place<'_>> {
    let mounts = trace.events.iter().filter_map(|event| match &event.action {
        Action::Mount(mount) if !mount.moved => Some(mount),
        _ => None,
    });
    let place = |mount: &Mount| match mount.kind.as_str() {
        kind @ ("tmpfs" | "ramfs") => Some(Place::Memory(kind.to_owned())),
        "overlay" | "overlayfs" | "aufs" | "unionfs" if over_the_image(&mount.options) => {
            Some(Place::Image("overlay"))
        }
        _ => {
            let disk =
                ["/dev/ram", "/dev/zram", "/dev/loop"].iter().any(|disk| mount.source.starts_with(disk));
            disk.then(|| Place::Memory(format!("file system on {}", mount.source)))
        }
    };
    mounts.filter_map(|mount| Some((mount.target.as_str(), place(mount)?))).collect()
}

/// Whether the root is one of the layers: `lowerdir=/` of overlay, `br:/rw=rw:/=ro` of aufs.
fn over_the_image(options: &str) -> bool {
    let layers = options.split(',').filter_map(|option| {
        let (name, layers) = option.split_once(['=', ':'])?;
        ["lowerdir", "br", "dirs"].contains(&name).then_some(layers)
    });
    layers.flat_map(|layers| layers.split(':')).any(|layer| layer.split('=').next() == Some("/"))
}

/// How the new root comes to hold the image. The fields mean what those of [`SelfCopy`] do.
struct Made {
    by: &'static str,
    bytes: u64,
    file_system: String,
    moved: bool,
    /// Whether it is sure to be made, whatever shows at boot.
    certain: bool,
}

impl Made {
    /// By `copies` into a `file_system` in memory; `None` if they take only a few files along, as front-ends do.
    fn copied(image: &Image<'_>, file_system: &str, copies: &[(&Copied, bool)]) -> Option<Self> {
        let &(first, _) = copies.first()?;
        let bytes = copied_bytes(image.0, copies.iter().map(|(copied, _)| *copied));
        (bytes * 2 >= whole(image.0)).then(|| Self {
            by: first.by,
            bytes,
            file_system: file_system.to_owned(),
            moved: copies.iter().all(|(copied, _)| copied.by == "mv"),
            certain: copies.iter().any(|(_, certain)| *certain),
        })
    }

    /// The image itself, mounted a second time.
    fn mounted(file_system: &str) -> Self {
        Self { by: "mount", bytes: 0, file_system: file_system.to_owned(), moved: false, certain: true }
    }
}

/// How the init's script copies the image, where it does.
pub(super) fn find(image: &Image<'_>, program: &Program, trace: &Trace) -> Option<SelfCopy> {
    let places = places(trace);
    let (start, certain) = trace.events.iter().find_map(|event| match &event.action {
        Action::Start(start)
            if start.tool.is_some() && (start.root == "/" || places.contains_key(start.root.as_str())) =>
        {
            Some((start, event.certain))
        }
        _ => None,
    })?;
    let made = match places.get(start.root.as_str()) {
        Some(Place::Memory(kind)) => Made::copied(image, kind, &copies(trace, &start.root))?,
        Some(Place::Image(kind)) => Made::mounted(kind),
        None => Made::mounted("bind mount"),
    };
    let elsewhere = trace.events.iter().any(
        |event| matches!(&event.action, Action::Start(other) if event.certain && other.root != start.root),
    );
    let target = image.real_path(&program_path(&start.program));
    let conditional = !certain || elsewhere || !made.certain || start.root.contains(UNKNOWN);
    let unclear = start.program.contains(UNKNOWN) || target.is_none();
    let kept = (!trace.complete)
        .then_some(Unsafe::TooLong)
        .or(conditional.then_some(Unsafe::Conditional))
        .or(unclear.then_some(Unsafe::ProgramUnknown))
        .or((target.as_ref() == Some(&program.real)).then_some(Unsafe::Restarts));
    let inside = |path: &str| {
        path.strip_prefix(start.root.as_str()).filter(|rest| rest.starts_with('/')).map(str::to_owned)
    };
    Some(SelfCopy {
        script: program.path.clone(),
        by: made.by,
        directory: start.root.clone(),
        file_system: made.file_system,
        bytes: made.bytes,
        moved: made.moved,
        tool: start.tool.unwrap_or(Tool::SwitchRoot),
        program: program_path(&start.program),
        arguments: start.arguments.clone(),
        environment: environment(start),
        mounts: other_mounts(trace, &inside),
        others: others(trace, &start.root),
        kept,
    })
}

/// Copies into `root`, and whether they are sure to be made.
fn copies<'t>(trace: &'t Trace, root: &str) -> Vec<(&'t Copied, bool)> {
    let copies = trace.events.iter().filter_map(|event| match &event.action {
        Action::Copy(copied) if below(&copied.target, root) => Some((copied, event.certain)),
        _ => None,
    });
    copies.collect()
}

/// What a script does that the copying one starts in the copy; `made` says whether it finds there what that one made.
fn next(image: &Image<'_>, copy: &SelfCopy, program: &Program, made: Option<&Trace>) -> Trace {
    let Some(text) = program.script.as_deref() else { return Trace::default() };
    let inside = |path: &String| path.strip_prefix(copy.directory.as_str()).map(str::to_owned);
    let again = Again {
        arguments: copy.arguments.clone(),
        environment: copy.environment.clone().into_iter().collect(),
        made: made.map(|trace| trace.made.iter().filter_map(inside).collect()).unwrap_or_default(),
    };
    script::follow_again(image.0, &program.path, text, &again)
}

/// What becomes of a copy in which the same script is started again: Linux Live Kit makes one to be able to pivot, and
/// goes to another root from there; others start their system, and know by a variable, an argument or a file that they
/// have copied.
pub(super) fn restart(
    image: &Image<'_>,
    program: &Program,
    trace: Trace,
    mut copy: Option<SelfCopy>,
) -> (Trace, Option<SelfCopy>) {
    let Some(found) =
        copy.as_mut().filter(|copy| image.real_path(&copy.program).as_ref() == Some(&program.real))
    else {
        return (trace, copy);
    };
    let second = next(image, found, program, Some(&trace));
    if find(image, program, &second).is_some() {
        return (trace, copy);
    }
    if second.events.iter().any(|event| matches!(&event.action, Action::Start(start) if start.tool.is_some()))
    {
        return (second, None);
    }
    if found.kept == Some(Unsafe::Restarts)
        && find(image, program, &next(image, found, program, None)).is_none()
    {
        found.kept = None;
    }
    (trace, copy)
}

/// Whether `path` is `directory` or in it.
fn below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The program below the new root, which switch_root starts from `/`.
fn program_path(program: &str) -> String {
    if program.starts_with('/') { program.to_owned() } else { format!("/{program}") }
}

/// What is not there by itself: PATH and the like are set by every init.
fn environment(start: &Start) -> BTreeMap<String, String> {
    let usual = ["PATH", "HOME", "TERM", "PWD", "SHLVL", "_"];
    let known =
        |(name, value): &&(String, String)| !usual.contains(&name.as_str()) && !value.contains(UNKNOWN);
    start.environment.iter().filter(known).cloned().collect()
}

fn other_mounts(trace: &Trace, inside: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mounts = trace.events.iter().filter_map(|event| match &event.action {
        Action::Mount(mount) => inside(&mount.target),
        _ => None,
    });
    let others: BTreeSet<String> =
        mounts.filter(|path| !KERNEL_FILE_SYSTEMS.contains(&path.as_str())).collect();
    others.into_iter().collect()
}

fn others(trace: &Trace, directory: &str) -> Vec<String> {
    let commands = trace.events.iter().filter_map(|event| match &event.action {
        Action::Other(command) => Some(command.clone()),
        Action::Copy(copied) if !below(&copied.target, directory) && event.certain => {
            Some(format!("{} to {}", copied.by, copied.target))
        }
        _ => None,
    });
    commands.take(MAX_OTHERS).collect()
}

/// How the program in the copy is handed over to: with what the script mounted for it.
pub(super) fn handover(
    image: &Image<'_>,
    copy: &SelfCopy,
    trace: &Trace,
    script: &Program,
) -> (Handover, HandoverReason) {
    let program = Program::look(image, &copy.program);
    let mounts = |within: &str, moved: bool| {
        let found = trace.events.iter().filter_map(|event| match &event.action {
            Action::Mount(mount) if moved || !mount.moved => {
                let path = mount.target.strip_prefix(within)?;
                KERNEL_FILE_SYSTEMS.contains(&path).then(|| path.to_owned())
            }
            _ => None,
        });
        found.collect::<BTreeSet<_>>()
    };
    let mut prepared = mounts(&copy.directory, true);
    // util-linux's switch_root takes along what is mounted on the old root, busybox's does not.
    let busybox = trace.events.iter().any(|event| {
        matches!(&event.action, Action::Start(start) if start.root == copy.directory && start.busybox)
    });
    if !busybox && copy.tool == Tool::SwitchRoot {
        let mut outside = mounts("", false);
        for event in &trace.events {
            if let Action::Unmount(path) = &event.action {
                outside.remove(path);
            }
        }
        prepared.extend(outside);
    }
    if prepared.is_empty() {
        return handover::of(image, &program, &next(image, copy, &program, None));
    }
    let reason = HandoverReason::CopyMounts {
        init: program.shown(),
        script: script.path.clone(),
        mounts: prepared.into_iter().collect(),
    };
    (Handover::Mounted, reason)
}

/// Bytes of all files in whole pages.
fn whole(tree: &Tree) -> u64 {
    sum(tree, &[tree.root], &BTreeSet::new())
}

fn copied_bytes<'c>(tree: &Tree, copies: impl Iterator<Item = &'c Copied>) -> u64 {
    let (mut roots, mut excluded) = (Vec::new(), BTreeSet::new());
    for copied in copies {
        // More are not needed to name every directory of a root.
        for source in copied.sources.iter().take(4096) {
            roots.extend(tree.lookup(source.as_bytes(), false));
        }
        excluded
            .extend(copied.excluded.iter().take(4096).filter_map(|path| tree.lookup(path.as_bytes(), false)));
    }
    sum(tree, &roots, &excluded)
}

/// Bytes of all files below `roots` in whole pages, each file once.
fn sum(tree: &Tree, roots: &[InodeId], excluded: &BTreeSet<InodeId>) -> u64 {
    let mut seen = vec![false; tree.inodes.len()];
    let mut todo = roots.to_vec();
    let mut bytes = 0;
    while let Some(id) = todo.pop() {
        if excluded.contains(&id) || std::mem::replace(&mut seen[id.0 as usize], true) {
            continue;
        }
        match &tree.inode(id).node {
            Node::Directory(names) => todo.extend(names.values().copied()),
            Node::Regular(content) => bytes += content.size.next_multiple_of(PAGE),
            _ => {}
        }
    }
    bytes
}

/// Whether `text` is known, and can be written as a line.
fn writable(text: &str) -> bool {
    !text.contains(UNKNOWN) && !text.chars().any(char::is_control)
}

impl SelfCopy {
    /// The arguments that the program gets; none if the script passes the kernel's on, or if not all are known.
    #[must_use]
    pub fn known_arguments(&self) -> Vec<String> {
        if self.arguments.iter().all(|argument| writable(argument)) {
            self.arguments.clone()
        } else {
            Vec::new()
        }
    }

    /// What the script exported, as far as it is known.
    #[must_use]
    pub fn known_environment(&self) -> Vec<(String, String)> {
        let pairs = self.environment.iter().filter(|(name, value)| writable(name) && writable(value));
        pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The command line of the program in the copy.
    #[must_use]
    pub fn command(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(|word| display(word.as_bytes())).collect::<Vec<_>>().join(" ")
    }
}
