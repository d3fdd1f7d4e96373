//! What dracut's initramfs does differently for a converted image: this program is its init, which starts dracut's own,
//! and dracut's hooks (src/frontend/dracut/hooks) run it with a verb.
//!
//! A verb that fails prints the reason and exits with 1.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use btrsquash::contract::{Overlay, RuntimeFormat, paths};

use crate::arguments;
use crate::carry::Image;
use crate::console::{Failure, Result, failed, failure, say};
use crate::handover::{self, Start, sysroot};
use crate::init::mount;
use crate::init::runtime::{self, Squashfs};
use crate::{appended, block, init, modules, sys};

/// Before dracut's init changes anything: keeps what the kernel gave to the init, and lists what was appended.
pub(crate) fn start(image: &Image) -> ! {
    let state = State {
        arguments: std::env::args_os().skip(1).collect(),
        environment: std::env::vars_os().collect(),
        appended: image.appended(Path::new("/")).unwrap_or_else(|error| {
            say(&format!("listing appended files: {error}"));
            Vec::new()
        }),
    };
    if let Err(error) = state.write() {
        say(&format!("keeping the kernel's arguments: {error}"));
    }
    let program = Path::new("/").join(paths::DRACUT_INIT);
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    init::give_up(&format!("starting {}: {error}", program.display()), "convert the image again")
}

/// Runs a verb and ends.
pub(crate) fn run(verb: &str, rest: &[String]) -> ! {
    let image = Image::read(Path::new("/"));
    let done = match (verb, rest) {
        ("modules", []) => load_modules(&image),
        ("read-ahead", [kib]) => {
            block::set_read_ahead(kib);
            Ok(())
        }
        ("root", []) => {
            print!("{}", arguments::read().root().unwrap_or_default());
            Ok(())
        }
        ("check-root", [root]) => check_root(root),
        ("carry", []) => carry(&image),
        ("check-init", []) => handover::check_init(&init_of(&image)),
        ("hand-over", []) => hand_over(&image),
        ("why", [known]) => {
            why(known);
            Ok(())
        }
        _ => Err(failure(
            format!("unknown verb {verb}"),
            "this program is the init of a boot initramfs and is not meant to be run by hand",
        )),
    };
    match done {
        Ok(()) => std::process::exit(0),
        Err(Failure { what, hint }) => {
            print!("{what}; {hint}");
            std::process::exit(1);
        }
    }
}

/// What is kept while dracut's init runs.
struct State {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    appended: Vec<Vec<u8>>,
}

/// Each item with NUL behind it: no argument, variable or path holds one.
fn write_list(file: &str, items: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let bytes: Vec<u8> = items.flat_map(|item| item.into_iter().chain([0])).collect();
    fs::write(state_file(file), bytes)
}

fn read_list(file: &str) -> io::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(state_file(file))?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bytes.split(|&b| b == 0).map(<[u8]>::to_vec).collect())
}

fn state_file(file: &str) -> PathBuf {
    Path::new("/").join(paths::DRACUT_STATE).join(file)
}

impl State {
    fn write(&self) -> io::Result<()> {
        fs::create_dir_all(Path::new("/").join(paths::DRACUT_STATE))?;
        write_list("arguments", self.arguments.iter().map(|item| item.as_bytes().to_vec()))?;
        let pair = |(name, value): &(OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
        write_list("environment", self.environment.iter().map(pair))?;
        write_list("appended", self.appended.iter().cloned())
    }

    fn read() -> io::Result<Self> {
        let pair = |item: Vec<u8>| {
            let at = item.iter().position(|&b| b == b'=').unwrap_or(item.len());
            let value = item.get(at + 1..).unwrap_or_default().to_vec();
            (OsString::from_vec(item[..at].to_vec()), OsString::from_vec(value))
        };
        Ok(Self {
            arguments: read_list("arguments")?.into_iter().map(OsString::from_vec).collect(),
            environment: read_list("environment")?.into_iter().map(pair).collect(),
            appended: read_list("appended")?,
        })
    }
}

/// Loads the image's modules and names what the kernel still cannot do.
fn load_modules(image: &Image) -> Result<()> {
    let squashfs_runtime = image.config.runtime == RuntimeFormat::Squashfs;
    let overlayfs = squashfs_runtime
        || arguments::overlayfs(&arguments::read()).unwrap_or(image.config.overlay == Overlay::Overlayfs);
    let mut loaded = modules::load(overlayfs);
    let mut missing = Vec::new();
    if !Path::new("/dev/loop-control").exists() {
        missing.push("loop");
    }
    if !knows("squashfs") {
        missing.push("squashfs");
    }
    // A damaged squashfs has to be called that, not a kernel without btrfs.
    let own = Path::new("/").join(paths::SQUASHFS);
    if missing.is_empty() && own.is_file() {
        load_late(own, overlayfs, &mut loaded)?;
    }
    if !squashfs_runtime && !knows("btrfs") {
        missing.push("btrfs");
    }
    if overlayfs && !knows("overlay") {
        missing.push("overlay");
    }
    if !overlayfs && !block::knows_snapshots() {
        missing.push("dm_snapshot");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("the kernel {} lacks {}{}", modules::release(), missing.join(", "), loaded.why());
    Err(failure(what, loaded.hint()))
}

/// Whether the kernel knows a type of file system now.
fn knows(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().next_back() == Some(kind))
}

/// Checks the squashfs of the image and loads the modules that lie in it; dracut mounts it again later.
fn load_late(file: PathBuf, overlayfs: bool, loaded: &mut modules::Loaded) -> Result<()> {
    let doing = "reading modules from the squashfs";
    let impossible = "report this: it should not happen";
    let squashfs = Squashfs { file, offset: 0, size: 0, own: true };
    runtime::check(&arguments::read(), &squashfs)?;
    let live = Path::new("/").join(paths::MOUNT_LIVE);
    fs::create_dir_all(&live).map_err(failed(doing, "give the machine more memory"))?;
    let device = block::loop_device(&squashfs.file, 0, 0, false).map_err(failed(doing, loaded.hint()))?;
    mount::file_system(&device, &live, "squashfs", sys::MS_RDONLY, loaded)?;
    modules::load_late(&live, overlayfs, loaded);
    sys::unmount(&live, 0).map_err(failed(doing, impossible))?;
    block::detach(&device).map_err(failed(doing, impossible))
}

/// Fails if dracut's `root` holds no runtime, or one that is damaged.
fn check_root(root: &str) -> Result<()> {
    for elsewhere in ["live:/dev/", "livenet", "nfs", "live:nfs", "liveiso:"] {
        if root.starts_with(elsewhere) {
            return Ok(());
        }
    }
    let Some(file) = root.strip_prefix("live:").filter(|file| file.starts_with('/')) else {
        return Err(failure(
            format!("root={root} does not name the runtime"),
            format!("remove root= from the kernel's command line, or write {}", paths::ROOT_ARGUMENT),
        ));
    };
    let own = Path::new("/").join(paths::SQUASHFS);
    let file = PathBuf::from(file);
    if !file.is_file() {
        return Err(if file == own {
            failure(
                format!("the initramfs has no {}", own.display()),
                "the image is incomplete, or it was not unpacked completely for lack of memory",
            )
        } else {
            failure(
                format!("root=live:{}: no such file in the initramfs", file.display()),
                format!("remove root=, or write {}", paths::ROOT_ARGUMENT),
            )
        });
    }
    // The checksum was compared before modules were read from it.
    Ok(())
}

fn carry(image: &Image) -> Result<()> {
    let state = State::read().map_err(failed("reading the list of appended files", "report this"))?;
    appended::carry(image, &state.appended)?;
    // dmsquash-live would copy them again.
    let updates = Path::new("/").join(paths::UPDATES);
    if updates.is_dir() {
        let _ = fs::remove_dir_all(updates);
    }
    Ok(())
}

fn init_of(image: &Image) -> String {
    arguments::read().value("init").unwrap_or(&image.config.init).to_owned()
}

/// What the end of dracut's init does, but with the arguments and the environment that the kernel gave.
fn hand_over(image: &Image) -> Result<()> {
    let state = State::read().map_err(failed("reading the kernel's arguments", "report this"))?;
    let _ = std::env::set_current_dir("/");
    let start =
        Start::new(&image.config, arguments::read().value("init"), state.arguments, state.environment);
    let Failure { what, hint } = handover::start(&start);
    init::give_up(&what, &hint)
}

/// Before dracut's emergency shell: the reason, or what can be found out about it.
fn why(known: &str) {
    if !known.is_empty() {
        return say(&format!("cannot continue: {known}"));
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let root = sysroot();
    if mounts.lines().any(|line| line.split_whitespace().nth(1) == root.to_str()) {
        return;
    }
    say(&format!(
        "cannot continue: the runtime could not be mounted (root={}): it is damaged or was not found",
        arguments::read().root().unwrap_or_default()
    ));
    let subjects = ["squashfs", "btrfs", "overlay", "device-mapper", "loop", "i/o error"];
    let faults = ["err", "fail", "cannot", "unable", "invalid", "bad", "corrupt", "unknown"];
    for line in sys::kernel_log().lines() {
        let lower = line.to_lowercase();
        if subjects.iter().any(|word| lower.contains(word)) && faults.iter().any(|word| lower.contains(word))
        {
            say(&format!("  {line}"));
        }
    }
}
