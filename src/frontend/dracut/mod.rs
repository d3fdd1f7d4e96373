//! The boot initramfs made by dracut: dmsquash-live and its hooks, lean and isolated from the host.
//!
//! dracut makes an image without kernel modules; we remove what a runtime in RAM never uses, add the modules of the closure
//! and our program, which hands over to the old init and carries appended files, and write everything anew.

mod foreign;
mod hooks;
mod host;
mod lean;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::common::{check_init, notes as notes_on_appended, plain as plain_name};
use super::{FrontEnd, Plan};
use crate::contract::{Handover, Overlay, RuntimeFormat, RuntimeFrom, paths};
use crate::error::Error;
use crate::initrd::NewcWriter;
use crate::kernel::KernelModules;
use crate::tree::Device;

/// The time of every entry: 2005-04-06 21:19:15 UTC. A file of the boot initramfs that has another one was replaced by an
/// appended file. It means nothing else; a fixed time makes the same bytes every day.
const DRACUT_TIME: i64 = 1_112_822_355;

/// A dracut that can make front-ends, as [`find`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dracut {
    /// Path of the program, inside `root`.
    program: PathBuf,
    /// `dracutbasedir`, inside `root`: where its modules are.
    base: PathBuf,
    /// The file tree it belongs to; `None` is the host's own.
    root: Option<PathBuf>,
    /// Its version as `dracut --version` gives it, e.g. `059-4`.
    pub version: String,
    /// Names of the dracut modules that it has, without their numbers, sorted.
    modules: Vec<String>,
}

/// An entry of the image on its way to the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// A directory with its permission bits.
    Directory(u32),
    /// A file, whether it is executable, and its bytes.
    File(bool, Vec<u8>),
    /// A symbolic link's target.
    Symlink(String),
    /// A directory of the runtime, with its attributes.
    RuntimeDirectory { mode: u32, uid: u32, gid: u32, mtime: i64 },
    /// A symlink of the runtime that leads to a directory.
    RuntimeSymlink { target: String, uid: u32, gid: u32, mtime: i64 },
    /// A character device.
    CharDevice(Device),
}

/// The image: paths without a leading `/`, in the order in which they are written.
type Files = BTreeMap<String, Item>;

/// Finds the dracut of the host or, by the user's explicit word, of another file tree. Its programs have to be for the
/// machine `kernel`. Those of another machine run here where binfmt_misc knows an emulator for them.
///
/// # Errors
/// [`crate::error::Kind::Missing`] naming the package where dracut, dmsquash-live or a tool that they need is not installed,
/// or saying for which machine its programs are.
pub fn find(root: Option<&Path>, kernel: &str) -> Result<Dracut, Error> {
    host::find(root, kernel)
}

/// What goes into `etc/cmdline.d/20-btrsquash.conf`, next to the squashfs: where the runtime is, how it is made writable
/// (under the option names of dracut 059 and of dracut-ng 110), how long to wait for it, then the user's own `arguments`.
///
/// The kernel's command line comes after it, so whatever stands there wins.
#[must_use]
pub fn cmdline(plan: &Plan<'_>, arguments: Option<&str>) -> String {
    let mut words = vec![format!("root={}", root(&plan.runtime)), "rd.live.image".to_owned()];
    if plan.overlay == Overlay::Overlayfs || plan.format == RuntimeFormat::Squashfs {
        // Without either, every version makes a device-mapper snapshot. The names changed in dracut-ng 110.
        words.extend(["rd.live.overlay.overlayfs=1".to_owned(), "rd.overlay=1".to_owned()]);
    }
    // Loops of dracut's main loop of half a second each, in which nothing but waiting is done: a runtime in RAM is there
    // at once, and the console has to say what is wrong within 30 s; disks and networks take their time.
    words.push(match plan.runtime {
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => "rd.retry=5".to_owned(),
        RuntimeFrom::Label(_) | RuntimeFrom::Uuid(_) => "rd.retry=25".to_owned(),
        RuntimeFrom::Network(_) => "rd.neednet=1 rd.retry=120".to_owned(),
    });
    words.extend(
        arguments.map(|a| a.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|a| !a.is_empty()),
    );
    words.join(" ") + "\n"
}

/// dracut's name for where the runtime is.
fn root(runtime: &RuntimeFrom) -> String {
    match runtime {
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => format!("live:/{}", paths::SQUASHFS),
        RuntimeFrom::Network(address) => format!("live:{address}"),
        RuntimeFrom::Label(label) => format!("live:LABEL={label}"),
        RuntimeFrom::Uuid(uuid) => format!("live:UUID={uuid}"),
    }
}

/// Makes the front-end that `plan` asks for.
///
/// The same plan and the same installed dracut give the same bytes.
///
/// # Errors
/// `Missing` where dracut lacks something that the plan needs, `Usage` where dracut cannot do what it asks, `Failed`
/// with dracut's last words where dracut fails.
pub fn build(dracut: &Dracut, plan: &Plan<'_>) -> Result<FrontEnd, Error> {
    check(plan)?;
    let in_ram = plan.runtime == RuntimeFrom::Initramfs;
    let mut notes =
        vec![format!("dracut {} with its module dmsquash-live made the front-end", dracut.version)];
    if let Some(root) = &dracut.root {
        notes.push(format!("programs of {} were run to make it, as --dracut-root asks", root.display()));
    }
    let mut files = host::run(dracut, plan)?;
    let made = size(&files);
    lean::forget_the_making(&mut files);
    if in_ram {
        lean::without_udev_and_modprobe(&mut files);
        lean::drop_unused(&mut files);
        notes.push(format!(
            "of {:.1} MB that dracut packed, {:.1} MB stay: a runtime in RAM needs neither udev, modprobe nor unpackers",
            made as f64 / 1e6,
            size(&files) as f64 / 1e6
        ));
    }
    hooks::check_programs(&files)?;
    add_modules(&mut files, plan)?;
    hooks::add(&mut files, plan)?;
    lean::unmerge(&mut files);
    let left_out = hooks::add_lists(&mut files, plan);
    notes.extend(notes_on_appended(left_out, plan.max_directories));
    notes.push(format!(
        "it hands over to {} {}",
        plan.init,
        match plan.handover {
            Handover::Bare => "with /proc, /sys, /dev and /run unmounted",
            Handover::Mounted => "with /proc, /sys, /dev and /run mounted",
        }
    ));
    let cpio = write(&files, plan)
        .map_err(|e| Error::failed("the boot initramfs cannot be written").caused_by(e))?;
    Ok(FrontEnd { cpio, maker: format!("dracut {}", dracut.version), notes })
}

/// Whether `text` is letters, digits and characters of `more`, and not empty.
fn plain(text: &str, more: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
}

/// Refuses what cannot be written into a command line, a shell script or a path without a second meaning.
fn check(plan: &Plan<'_>) -> Result<(), Error> {
    if plan.kernels.is_empty() {
        return Err(Error::usage("a front-end needs the modules of at least one kernel"));
    }
    for kernel in plan.kernels {
        plain_name(&kernel.version)?;
        for module in &kernel.modules {
            plain_name(&module.name)?;
            let odd_path = module.path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
            if !plain(&module.path, "_+./-") || odd_path {
                return Err(Error::input(format!(
                    "kernel module '{}' has the path '{}', which modprobe cannot be given",
                    module.name.escape_default(),
                    module.path.escape_default()
                )));
            }
        }
    }
    check_init(plan.init)?;
    check_runtime(&plan.runtime)
}

/// Refuses a runtime that dmsquash-live cannot reach, or whose place cannot be written for it.
///
/// # Errors
/// [`crate::error::Kind::Usage`].
pub fn check_runtime(runtime: &RuntimeFrom) -> Result<(), Error> {
    match runtime {
        RuntimeFrom::Initramfs => Ok(()),
        RuntimeFrom::Retained => Err(Error::usage("only the built-in front-end reads a retained initrd")
            .hint("use --front-end built-in, or leave --runtime-from at initramfs")),
        RuntimeFrom::Network(address) if plain(address, "-._~:/?#[]@!&()*+,;=%") => Ok(()),
        RuntimeFrom::Label(name) | RuntimeFrom::Uuid(name) if plain(name, "._+-") => Ok(()),
        RuntimeFrom::Network(name) | RuntimeFrom::Label(name) | RuntimeFrom::Uuid(name) => Err(Error::usage(
            format!("'{}' cannot be written on dracut's command line", name.escape_default()),
        )
        .hint("use letters, digits and . _ + - only; the built-in front-end takes any label")),
    }
}

/// Adds the modules of every kernel. /init loads those that are needed in any case; for the drivers of a machine's own disks
/// and network cards udev calls modprobe, which has a lib/modules of its own: a driver disk may bring another.
fn add_modules(files: &mut Files, plan: &Plan<'_>) -> Result<(), Error> {
    for kernel in plan.kernels {
        let base = format!("{}/{}", paths::MODULES, kernel.version);
        let in_ram = plan.runtime == RuntimeFrom::Initramfs;
        let mut order = String::new();
        for module in plan.divide(kernel).0 {
            let name = format!("{}.ko", underscored(&module.name));
            if in_ram {
                put(files, &format!("{base}/{name}"), Item::File(false, module.elf.to_vec()));
                order.push_str(&format!("{name}\n"));
            } else if preloaded(&module.path, &module.name) {
                order.push_str(&format!("../../lib/modules/{}/kernel/{name}\n", kernel.version));
            }
        }
        put(files, &format!("{base}/{}", paths::ORDER), Item::File(false, order.into_bytes()));
        if !in_ram {
            add_module_tree(files, kernel)?;
        }
    }
    Ok(())
}

fn add_module_tree(files: &mut Files, kernel: &KernelModules) -> Result<(), Error> {
    let base = format!("{}/{}", paths::DRACUT_MODULES, kernel.version);
    for (path, bytes) in host::module_tree(kernel)? {
        put(files, &format!("{base}/{path}"), Item::File(false, bytes));
    }
    // The two places at which modprobe, in older and newer versions, and udev look.
    for directory in ["lib/modules", "usr/lib/modules"] {
        let directory = lean::real_path(files, directory).unwrap_or_else(|| directory.to_owned());
        put(files, &format!("{directory}/{}", kernel.version), Item::Symlink(format!("/{base}")));
    }
    Ok(())
}

/// Whether a module is loaded before anything else even where udev loads the drivers of the machine's own devices.
fn preloaded(path: &str, name: &str) -> bool {
    !path.starts_with("kernel/drivers/")
        || matches!(underscored(name).as_str(), "loop" | "dm_mod" | "dm_bufio" | "dm_snapshot")
}

/// A module's name as /proc/modules has it.
fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

/// The kernel whose name dracut is given; it packs no modules.
fn first(kernels: &[KernelModules]) -> &str {
    kernels.first().map_or("none", |kernel| kernel.version.as_str())
}

/// Adds an entry and the directories above it.
fn put(files: &mut Files, path: &str, item: Item) {
    for (at, _) in path.match_indices('/') {
        files.entry(path[..at].to_owned()).or_insert(Item::Directory(0o755));
    }
    files.insert(path.to_owned(), item);
}

/// Bytes of file content.
fn size(files: &Files) -> usize {
    files.values().map(|item| if let Item::File(_, bytes) = item { bytes.len() } else { 0 }).sum()
}

/// One newc archive, the root directory first.
fn write(files: &Files, plan: &Plan<'_>) -> std::io::Result<Vec<u8>> {
    let mut writer = NewcWriter::new(Vec::with_capacity(size(files) + 256 * files.len()), DRACUT_TIME);
    let root = plan.tree.inode(plan.tree.root);
    writer.owner(root.uid, root.gid);
    writer.time(root.mtime);
    writer.directory(".", root.mode)?;
    for (path, item) in files {
        let (owner, time) = match item {
            Item::RuntimeDirectory { uid, gid, mtime, .. } | Item::RuntimeSymlink { uid, gid, mtime, .. } => {
                ((*uid, *gid), *mtime)
            }
            _ => ((0, 0), DRACUT_TIME),
        };
        writer.owner(owner.0, owner.1);
        writer.time(time);
        match item {
            Item::Directory(mode) | Item::RuntimeDirectory { mode, .. } => writer.directory(path, *mode)?,
            Item::File(executable, bytes) => {
                writer.file(path, if *executable { 0o755 } else { 0o644 }, bytes)?
            }
            Item::Symlink(target) | Item::RuntimeSymlink { target, .. } => writer.symlink(path, target)?,
            Item::CharDevice(device) => {
                writer.device(path, 0o600, &crate::tree::Node::CharDevice(*device))?
            }
        }
    }
    writer.finish()
}
