//! The built-in front-end: the first program of a converted image.
//!
//! It mounts the runtime (squashfs → loop → btrfs → device-mapper snapshot or overlayfs), carries appended files into
//! it, frees the initramfs and starts the old first program. What it reads on the command line is what dracut's
//! dmsquash-live reads. It needs nothing but itself: std and the system calls in [`sys`].

mod arguments;
mod block;

use super::{carry, sys};
use btrsquash::contract::checksum;
use btrsquash::contract::inside;
use btrsquash::contract::own;

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arguments::Arguments;

/// Everything of ours in the initramfs.
const OURS: &str = "/.btrsquash";
/// Where the runtime is put together.
const ROOT: &str = "/sysroot";
/// How long to wait for a disk, where rd.timeout does not say: USB takes its time, people at a console do not.
const PATIENCE: Duration = Duration::from_secs(20);

/// What went wrong, on what, and what to try.
struct Failure {
    what: String,
    hint: String,
}

type Result<T> = std::result::Result<T, Failure>;

fn failure(what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure { what: what.into(), hint: hint.into() }
}

/// `doing` failed with `error`.
fn failed<'a, E: Display>(doing: impl Display + 'a, hint: &'a str) -> impl FnOnce(E) -> Failure + 'a {
    move |error| failure(format!("{doing}: {error}"), hint)
}

/// Tells the console and the kernel's log.
fn say(text: &str) {
    let written = OpenOptions::new()
        .write(true)
        .open("/dev/console")
        .and_then(|mut console| console.write_all(format!("btrsquash: {text}\r\n").as_bytes()));
    if written.is_err() {
        let _ = io::stderr().write_all(format!("btrsquash: {text}\r\n").as_bytes());
    }
}

/// A detail, where rd.debug or rd.info asks for it.
fn detail(arguments: &Arguments, text: impl Display) {
    if arguments.is_set("rd.debug") || arguments.is_set("rd.info") {
        say(&text.to_string());
    }
}

/// What the image's maker set: `key=value` lines.
struct Config(Vec<(String, String)>);

impl Config {
    fn read() -> Self {
        let text = fs::read_to_string(format!("{OURS}/config")).unwrap_or_default();
        Self(
            text.lines()
                .filter_map(|l| l.split_once('='))
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        )
    }
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

pub fn run() -> ! {
    if std::process::id() != 1 {
        eprintln!("btrsquash: this is the first program of an initramfs; it does nothing else");
        std::process::exit(2);
    }
    let Err(Failure { what, hint }) = boot();
    say(&format!("cannot go on: {what}"));
    say(&format!("try: {hint}"));
    sys::flush();
    // People read the console before the kernel panics, which it does when its first program ends; what happens then
    // is for panic= on the command line to say.
    std::thread::sleep(Duration::from_secs(3));
    std::process::exit(1);
}

fn boot() -> Result<std::convert::Infallible> {
    for (source, target, kind, flags, data) in [
        ("proc", "/proc", "proc", sys::MS_NOSUID | sys::MS_NOEXEC | sys::MS_NODEV, ""),
        ("sysfs", "/sys", "sysfs", sys::MS_NOSUID | sys::MS_NOEXEC | sys::MS_NODEV, ""),
        ("devtmpfs", "/dev", "devtmpfs", sys::MS_NOSUID | sys::MS_STRICTATIME, "mode=0755"),
    ] {
        let _ = fs::create_dir(target);
        sys::mount_at(source, target, kind, flags, data).map_err(failed(
            format!("mounting {kind} on {target}"),
            "a kernel with proc, sysfs and devtmpfs",
        ))?;
    }
    let arguments = Arguments::read();
    let config = Config::read();
    if arguments.has("rd.break") || arguments.has("rd.shell") {
        say(
            "rd.break and rd.shell: there is no shell in this front-end, so the boot goes on; for a shell, convert the \
             image with --front-end dracut",
        );
    }
    for name in ["rd.live.overlay", "rd.live.ram", "rd.live.overlay.readonly"] {
        if arguments.has(name) {
            say(&format!(
                "{name}: this front-end keeps what is written in memory and nothing else; for more, convert \
                          the image with --front-end dracut"
            ));
        }
    }
    let overlayfs = wants_overlayfs(&arguments, &config);
    let release = release();
    let mut loaded = load_modules(&arguments, &release, overlayfs)?;
    let squashfs = open_runtime(&arguments, &config, &mut loaded)?;
    check(&arguments, &squashfs)?;
    mount_runtime(&arguments, &squashfs, overlayfs, &loaded)?;
    let carried = carry(&arguments)?;
    depmod(&carried, &release);
    hand_over(&arguments, &config)
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// `rd.live.overlay.overlayfs`, `rd.overlayfs` and, since dracut-ng 110, `rd.overlay` say, the last of them; else what
/// the image was made with.
fn wants_overlayfs(arguments: &Arguments, config: &Config) -> bool {
    let names = ["rd.live.overlay.overlayfs", "rd.overlayfs", "rd.overlay.overlayfs", "rd.overlay"];
    arguments.switch(&names).unwrap_or_else(|| config.get("overlay") == Some("overlayfs"))
}

/// Modules that were wanted and could not be loaded, with the reason.
#[derive(Default)]
struct Loaded {
    refused: Vec<String>,
    none_for: Option<String>,
}

impl Loaded {
    /// What to add to an error that a missing module explains.
    fn why(&self) -> String {
        let mut words = String::new();
        if let Some(release) = &self.none_for {
            words.push_str(&format!(" (this image has no modules for kernel {release})"));
        }
        if !self.refused.is_empty() {
            words.push_str(&format!(" (not loaded: {})", self.refused.join("; ")));
        }
        words
    }
}

fn load_modules(arguments: &Arguments, release: &str, overlayfs: bool) -> Result<Loaded> {
    let folder = PathBuf::from(format!("{OURS}/modules/{release}"));
    let mut loaded = Loaded::default();
    let Ok(order) = fs::read_to_string(folder.join("order")) else {
        let kernels: Vec<String> = fs::read_dir(format!("{OURS}/modules"))
            .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        if !kernels.is_empty() {
            loaded.none_for = Some(format!("{release}, only for {}", kernels.join(", ")));
        }
        return Ok(loaded);
    };
    for name in order.lines() {
        let for_dm = matches!(name, "dm_mod" | "dm_bufio" | "dm_snapshot");
        if (for_dm && overlayfs) || (name == "overlay" && !overlayfs) {
            continue;
        }
        let path = folder.join(format!("{name}.ko"));
        let result = File::open(&path).and_then(|file| sys::load_module(&file, || fs::read(&path)));
        match result {
            Ok(()) => detail(arguments, format!("loaded {name}")),
            // Built in or there already.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => loaded.refused.push(format!("{name}: {e}")),
        }
    }
    Ok(loaded)
}

/// Where the squashfs is: a file and the part of it, or a whole device.
struct Squashfs {
    file: PathBuf,
    offset: u64,
    /// 0: to the end.
    size: u64,
    /// Whether it is the one that came in the image, whose checksum the image holds.
    own: bool,
}

fn open_runtime(arguments: &Arguments, config: &Config, loaded: &mut Loaded) -> Result<Squashfs> {
    let root = match arguments.value("root") {
        // Old entries of boot loaders for monolithic images say this; the kernel never looked at it.
        None | Some("/dev/ram" | "/dev/ram0" | "ramfs" | "rootfs" | "tmpfs") => "",
        Some(root) => root,
    };
    let live = root.strip_prefix("live:").map(|r| r.strip_prefix("//").map_or(r, |r| r)).unwrap_or("");
    if !root.is_empty() && live.is_empty() && config.get("runtime") != Some("retained") {
        return Err(failure(
            format!("root={root} is on the command line, but this image boots from root=live:…"),
            "leave root= out, or say root=live:/squashfs.img",
        ));
    }
    if config.get("runtime") == Some("retained") && (live.is_empty() || live == "retained") {
        return retained();
    }
    for scheme in ["http:", "https:", "ftp:", "tftp:", "nfs:"] {
        if live.starts_with(scheme) {
            return Err(failure(
                format!("root=live:{live} is on a network, which this front-end cannot reach"),
                "convert the image with --front-end dracut --runtime-from URL --drivers net",
            ));
        }
    }
    if let Some(wanted) =
        ["LABEL=", "UUID=", "CDLABEL="].iter().find_map(|p| live.strip_prefix(p).map(|v| (*p, v)))
    {
        return on_media(arguments, loaded, &format!("{}{}", wanted.0, wanted.1), |system| {
            if wanted.0 == "UUID=" {
                system.uuid.eq_ignore_ascii_case(wanted.1)
            } else {
                system.label == wanted.1
            }
        });
    }
    if live.starts_with("/dev/") {
        let device = PathBuf::from(live);
        return on_media_device(arguments, loaded, live, &mut || device.exists().then(|| device.clone()));
    }
    let file = PathBuf::from(if live.is_empty() { "/squashfs.img" } else { live });
    if !file.is_file() {
        let there = Path::new("/squashfs.img").is_file();
        return Err(failure(
            format!("root=live:{} names no file of the initramfs", file.display()),
            if there {
                "root=live:/squashfs.img, which is there"
            } else {
                "was the image cut short, or does the kernel's log say 'Initramfs unpacking failed'? then give the \
                 machine more memory, or add root=live:/squashfs.img to the kernel's command line"
            },
        ));
    }
    let own = file == Path::new("/squashfs.img");
    Ok(Squashfs { file, offset: 0, size: 0, own })
}

/// The squashfs where the boot loader put it: /sys/firmware/initrd, since Linux 6.8 with retain_initrd.
fn retained() -> Result<Squashfs> {
    let file = PathBuf::from("/sys/firmware/initrd");
    if !file.exists() {
        return Err(failure(
            "the runtime stays in the initrd where the boot loader put it, but the kernel did not keep it there",
            "add retain_initrd to the kernel's command line (Linux 6.8 and later)",
        ));
    }
    let text = fs::read_to_string(format!("{OURS}/retained")).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
    let (mut offset, size) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let mut initrd =
        File::open(&file).map_err(failed("opening /sys/firmware/initrd", "run as the first program"))?;
    if !squashfs_at(&mut initrd, offset, size) {
        // A boot loader put something before the image: look for it on every multiple of four.
        offset = find_squashfs(&mut initrd, size).ok_or_else(|| {
            failure(
                "/sys/firmware/initrd holds no squashfs of the size that this image was made with",
                "was the image cut short? compare its checksum",
            )
        })?;
        if !offset.is_multiple_of(512) {
            return Err(failure(
                format!("the squashfs lies at byte {offset} of the initrd, which is no multiple of 512"),
                "put what the boot loader loads before the image behind it, or pad it to a multiple of 512 bytes",
            ));
        }
    }
    Ok(Squashfs { file, offset, size, own: true })
}

/// Whether a squashfs of `size` bytes lies at `offset`: magic, version 4.0, and its bytes_used.
fn squashfs_at(file: &mut File, offset: u64, size: u64) -> bool {
    use std::os::unix::fs::FileExt;
    let mut start = [0; 96];
    file.read_exact_at(&mut start, offset).is_ok() && is_squashfs(&start, size)
}

fn is_squashfs(start: &[u8], size: u64) -> bool {
    let used = start[40..48].iter().rev().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    start[..4] == *b"hsqs" && start[28..32] == [4, 0, 0, 0] && used <= size && used + 4096 > size
}

fn find_squashfs(file: &mut File, size: u64) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    const CHUNK: usize = 1 << 20;
    let mut buffer = vec![0; CHUNK + 96];
    let mut at = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        if filled < 96 {
            return None;
        }
        let found = (0..=filled - 96).step_by(4).find(|&i| is_squashfs(&buffer[i..i + 96], size));
        if let Some(i) = found {
            return Some(at + i as u64);
        }
        at += CHUNK as u64;
    }
}

fn on_media(
    arguments: &Arguments,
    loaded: &mut Loaded,
    wanted: &str,
    matches: impl Fn(&block::FileSystem) -> bool,
) -> Result<Squashfs> {
    on_media_device(arguments, loaded, wanted, &mut || {
        let mut names: Vec<_> =
            fs::read_dir("/sys/class/block").ok()?.flatten().map(|e| e.file_name()).collect();
        names.sort();
        names
            .iter()
            .map(|name| Path::new("/dev").join(name))
            .find(|device| block::identify(device).is_some_and(|system| matches(&system)))
    })
}

/// Waits for a device, mounts it and finds the squashfs on it.
fn on_media_device(
    arguments: &Arguments,
    loaded: &mut Loaded,
    wanted: &str,
    find: &mut dyn FnMut() -> Option<PathBuf>,
) -> Result<Squashfs> {
    let patience =
        arguments.value("rd.timeout").and_then(|s| s.parse().ok()).map_or(PATIENCE, Duration::from_secs);
    let start = Instant::now();
    let device = loop {
        if let Some(device) = find() {
            break device;
        }
        if start.elapsed() >= patience {
            let mut seen: Vec<String> = fs::read_dir("/sys/class/block")
                .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            seen.sort();
            return Err(failure(
                format!(
                    "no disk with {wanted} appeared in {} seconds; there {}{}",
                    patience.as_secs(),
                    if seen.is_empty() { "are none".to_owned() } else { format!("are {}", seen.join(", ")) },
                    loaded.why()
                ),
                "check the label or UUID; a driver may be missing: convert with --drivers NAME",
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let kind = block::identify(&device).map_or("", |system| system.kind);
    if kind == "squashfs" {
        return Ok(Squashfs { file: device, offset: 0, size: 0, own: false });
    }
    let media = format!("{OURS}/media");
    let _ = fs::create_dir_all(&media);
    // What was named by its device may hold a file system that is not told by its superblock here.
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let kinds = match kind {
        "" => known.lines().filter(|line| !line.starts_with("nodev")).map(str::trim).collect(),
        kind => vec![kind],
    };
    let mut error = io::Error::other("no file system that this kernel knows");
    let mounted = kinds.iter().any(|kind| {
        sys::mount_at(&device.to_string_lossy(), &media, kind, sys::MS_RDONLY, "")
            .map_err(|e| error = e)
            .is_ok()
    });
    if !mounted {
        return Err(failure(
            format!("mounting {} ({}): {error}{}", device.display(), kinds.join(", "), loaded.why()),
            "a file system driver may be missing: convert with --drivers NAME",
        ));
    }
    let folder = arguments.value("rd.live.dir").unwrap_or("LiveOS");
    let name = arguments.value("rd.live.squashimg").unwrap_or("squashfs.img");
    let places = [format!("{media}/{folder}/{name}"), format!("{media}/{name}")];
    let found = places.iter().find(|p| Path::new(p).is_file());
    found.map(|file| Squashfs { file: file.into(), offset: 0, size: 0, own: false }).ok_or_else(|| {
        failure(
            format!("{} holds neither {folder}/{name} nor {name}", device.display()),
            "copy the squashfs there, or name it with rd.live.dir= and rd.live.squashimg=",
        )
    })
}

/// Compares a squashfs that came in the image with the checksum it was made with. One on a disk is not read for that:
/// it would take minutes from a CD.
fn check(arguments: &Arguments, squashfs: &Squashfs) -> Result<()> {
    let text = fs::read_to_string(format!("{OURS}/squashfs")).unwrap_or_default();
    let mut words = text.split_whitespace();
    let expected = words.next().zip(words.next());
    let skipped = arguments.switch(&["rd.live.check"]) == Some(false);
    let Some((size, sum)) = expected.filter(|_| squashfs.own && !skipped) else { return Ok(()) };
    let source = squashfs.file.display();
    let reading = |e: io::Error| failure(format!("reading {source}: {e}"), "is the machine's memory sound?");
    let mut file = File::open(&squashfs.file).map_err(reading)?;
    file.seek(SeekFrom::Start(squashfs.offset)).map_err(reading)?;
    let limit = if squashfs.size == 0 { u64::MAX } else { squashfs.size };
    let (read, found) = checksum::of(&mut file.take(limit)).map_err(reading)?;
    if read.to_string() != size {
        return Err(failure(
            format!("{source} is damaged: it has {read} bytes, and was made with {size}"),
            "was the image cut short while it was copied or loaded? compare its size and checksum with the original's",
        ));
    }
    if format!("{found:016x}") != sum {
        return Err(failure(
            format!("{source} is damaged: its checksum is {found:016x}, and was {sum} when it was made"),
            "load the image again and compare its checksum with the original's; rd.live.check=0 goes on nevertheless",
        ));
    }
    detail(arguments, "the squashfs is what it was when it was made");
    Ok(())
}

fn mount_runtime(arguments: &Arguments, squashfs: &Squashfs, overlayfs: bool, loaded: &Loaded) -> Result<()> {
    let [live, lower, writable] = ["live", "lower", "rw"].map(|name| format!("{OURS}/{name}"));
    for folder in [&live, &lower, &writable] {
        fs::create_dir_all(folder)
            .map_err(failed(format!("making {folder}"), "give the machine more memory"))?;
    }
    let damaged = "was the image cut short or changed? compare its checksum, and convert it again";
    let module = if loaded.none_for.is_some() {
        "boot the image with the kernel it was made for, or convert it with the --modules of this one"
    } else {
        "the kernel may lack the module: convert the image with the --modules of the kernel that boots"
    };
    let source = squashfs.file.display();
    let device = block::loop_device(&squashfs.file, squashfs.offset, squashfs.size, false)
        .map_err(failed(format!("setting up a loop device for {source}{}", loaded.why()), module))?;
    mount_or_explain(
        &device,
        &live,
        "squashfs",
        sys::MS_RDONLY,
        loaded,
        &format!("{source}"),
        damaged,
        module,
    )?;
    block::no_read_ahead(&device);
    let image = PathBuf::from(format!("{live}/LiveOS/rootfs.img"));
    if !image.is_file() {
        return Err(failure(format!("{source} holds no LiveOS/rootfs.img"), damaged));
    }
    let origin = block::loop_device(&image, 0, 0, false)
        .map_err(failed("setting up a loop device for LiveOS/rootfs.img", module))?;
    let _ = fs::create_dir(ROOT);
    sys::mount_at("tmpfs", &writable, "tmpfs", 0, "mode=0755")
        .map_err(failed("mounting a tmpfs for what is written", "a kernel with tmpfs"))?;
    if overlayfs {
        mount_or_explain(
            &origin,
            &lower,
            "btrfs",
            sys::MS_RDONLY,
            loaded,
            "LiveOS/rootfs.img",
            damaged,
            module,
        )?;
        let (upper, work) = (format!("{writable}/upper"), format!("{writable}/work"));
        let making = "making the folders of the overlay";
        for folder in [&upper, &work] {
            fs::create_dir(folder).map_err(failed(making, "give the machine more memory"))?;
        }
        // The new root gets its mode and owner from the upper folder.
        if let Ok(data) = fs::metadata(&lower) {
            let _ = sys::own(&upper, data.uid(), data.gid());
            let _ = fs::set_permissions(&upper, fs::Permissions::from_mode(data.mode() & 0o7777));
            let _ = sys::set_times(&upper, (data.atime(), 0), (data.mtime(), 0));
        }
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        sys::mount_at("LiveOS_rootfs", ROOT, "overlay", sys::MS_NOATIME, &options).map_err(failed(
            format!("mounting an overlayfs{}", loaded.why()),
            "the image may have been made for a device-mapper snapshot: rd.live.overlay.overlayfs=0 rd.overlayfs=0, or \
             convert it with --overlay overlayfs",
        ))?;
    } else {
        let cow = PathBuf::from(format!("{writable}/overlay"));
        // Sparse: what is written takes memory, what is not does not. dracut's default is 32 GiB.
        let size = arguments
            .value("rd.live.overlay.size")
            .or_else(|| arguments.value("rd.overlay.size"))
            .and_then(|mib| mib.parse::<u64>().ok())
            .unwrap_or(32 << 10);
        File::create(&cow)
            .and_then(|file| file.set_len(size << 20))
            .map_err(failed("making the file for what is written", "rd.live.overlay.size=MIB with less"))?;
        let cow_device = block::loop_device(&cow, 0, 0, true)
            .map_err(failed("setting up a loop device for what is written", module))?;
        let snapshot = block::snapshot("live-rw", &origin, &cow_device).map_err(failed(
            format!("setting up a device-mapper snapshot{}", loaded.why()),
            "the image may have been made for overlayfs: rd.live.overlay.overlayfs=1 rd.overlayfs=1, or convert it with \
             --overlay dm",
        ))?;
        mount_or_explain(
            &snapshot,
            ROOT,
            "btrfs",
            sys::MS_NOATIME,
            loaded,
            "LiveOS/rootfs.img",
            damaged,
            module,
        )?;
    }
    detail(arguments, format!("the runtime is mounted on {ROOT}"));
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one call that is made in four places")]
fn mount_or_explain(
    device: &Path,
    target: &str,
    kind: &str,
    flags: std::ffi::c_ulong,
    loaded: &Loaded,
    what: &str,
    damaged: &str,
    module: &str,
) -> Result<()> {
    const ENODEV: i32 = 19;
    sys::mount_at(&device.to_string_lossy(), target, kind, flags, "").map_err(|error| {
        let hint = if error.raw_os_error() == Some(ENODEV) { module } else { damaged };
        failure(format!("mounting {what} as {kind}: {error}{}", loaded.why()), hint)
    })
}

/// Appended files and the updates tree; what was carried, as paths below [`ROOT`].
fn carry(arguments: &Arguments) -> Result<Vec<PathBuf>> {
    let own = own::Own::new(&fs::read_to_string(format!("{OURS}/not-carried")).unwrap_or_default());
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).ok()?.flatten();
        Some(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    let leave = |path: &Path| own.stays(&path.to_string_lossy(), &names);
    let copying =
        |what: &str| failed(format!("copying {what} into the runtime"), "give the machine more memory");
    let (top, root) = (Path::new("/"), Path::new(ROOT));
    let mut carrier = carry::Carrier::new(top, root, &leave).map_err(copying("appended files"))?;
    carrier.tree(top).map_err(copying("appended files"))?;
    let nothing = |_: &Path| false;
    let mut updates = carry::Carrier::new(top, root, &nothing).map_err(copying("/updates"))?;
    if Path::new("/updates").is_dir() {
        updates.tree(Path::new("/updates")).map_err(copying("/updates"))?;
    }
    let mut carried = carrier.carried;
    carried.extend(updates.carried);
    let below = |path: &'_ Path| format!("/{}", path.strip_prefix(ROOT).unwrap_or(path).display());
    for path in &carried {
        detail(arguments, format!("carried {}", below(path)));
    }
    for path in carrier.kept.iter().chain(&updates.kept) {
        say(&format!(
            "{} was appended to the image, but is a folder of the runtime that is not empty: the folder stays",
            below(path)
        ));
    }
    Ok(carried)
}

/// A driver disk's module is found by modprobe only after depmod, where the runtime has one.
fn depmod(carried: &[PathBuf], release: &str) {
    let module = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.contains(".ko") && path.to_string_lossy().contains("/lib/modules/")
    };
    if !carried.iter().any(module) {
        return;
    }
    let program = ["/sbin/depmod", "/usr/sbin/depmod", "/bin/depmod", "/usr/bin/depmod"]
        .into_iter()
        .find(|p| inside::resolve(Path::new(ROOT), Path::new(p)).is_ok());
    let Some(program) = program else {
        return say("a module was appended, but the runtime has no depmod: load it with insmod");
    };
    let mut command = Command::new(program);
    command.args(["-a", release]);
    // SAFETY: chroot and chdir are safe between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            std::os::unix::fs::chroot(ROOT)?;
            std::env::set_current_dir("/")
        });
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => say(&format!("depmod for an appended module: {status}")),
        Err(error) => say(&format!("depmod for an appended module: {error}")),
    }
}

/// Where the runtime has the folder `name`, made where there is none.
fn mount_point(name: &str) -> Result<PathBuf> {
    let folder = Path::new(ROOT).join(name);
    match inside::resolve(Path::new(ROOT), Path::new(name)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&folder).map(|()| folder),
        found => found,
    }
    .map_err(failed(
        format!("finding the runtime's /{name}, to mount on it"),
        "it has to be a folder in the old image, or a link that leads to one",
    ))
}

fn hand_over(arguments: &Arguments, config: &Config) -> Result<std::convert::Infallible> {
    let init = arguments.value("init").or_else(|| config.get("init")).unwrap_or("/init").to_owned();
    if inside::resolve(Path::new(ROOT), Path::new(&init)).is_err() {
        return Err(failure(
            format!("the runtime has no {init}, which is to be started"),
            "name the first program with init= on the kernel's command line",
        ));
    }
    let bare = config.get("handover") != Some("mounted");
    for name in ["proc", "sys", "dev"] {
        if bare {
            let _ = sys::unmount(format!("/{name}"), sys::MNT_DETACH);
            continue;
        }
        sys::mount_at(&format!("/{name}"), mount_point(name)?, "", sys::MS_MOVE, "")
            .map_err(failed(format!("moving /{name}"), "this should not happen: report it"))?;
    }
    if !bare {
        let flags = sys::MS_NOSUID | sys::MS_NODEV | sys::MS_STRICTATIME;
        sys::mount_at("tmpfs", mount_point("run")?, "tmpfs", flags, "mode=0755")
            .map_err(failed("mounting a tmpfs on /run", "a kernel with tmpfs"))?;
    }
    let moving =
        |e: io::Error| failure(format!("moving the runtime to /: {e}"), "this should not happen: report it");
    let device = fs::metadata("/").map_err(moving)?.dev();
    free(Path::new("/"), device);
    std::env::set_current_dir(ROOT).map_err(moving)?;
    sys::mount_at(".", "/", "", sys::MS_MOVE, "").map_err(moving)?;
    std::os::unix::fs::chroot(".").map_err(moving)?;
    std::env::set_current_dir("/").map_err(moving)?;
    // As the kernel's console_on_rootfs does for the first program.
    if let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") {
        sys::standard_streams(&console);
    }
    let error = Command::new(&init).args(std::env::args_os().skip(1)).exec();
    Err(failure(
        format!("starting {init}: {error}"),
        "is it a program for this architecture, with its interpreter? name another with init=",
    ))
}

/// Deletes what lies on the initramfs, as switch_root does: it would stay in memory for good. Open files, such as the
/// squashfs under its loop device, stay until they are closed.
fn free(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if data.dev() != device {
            continue;
        }
        if data.is_dir() {
            free(&entry.path(), device);
            let _ = fs::remove_dir(entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
}
