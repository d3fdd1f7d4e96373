//! Running dracut and depmod, with nothing of the host's configuration and as any user.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Dracut, Files, Item, first, foreign, put, underscored};
use crate::contract::RuntimeFrom;
use crate::elf;
use crate::error::Error;
use crate::frontend::Plan;
use crate::initrd::{self, Limits};
use crate::kernel::KernelModules;
use crate::scratch::{self, Directory};
use crate::tree::Node;

/// Where programs are looked for, by us and by dracut.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Largest image that dracut may make; the usual one has 30 MB.
const MAX_IMAGE: u64 = 1 << 30;
/// In a mount and process namespace of its own: the chroot needs /proc (bash's `<( )`) and /dev.
const ENTER: &str = r#"cd "$1" && { mount -t proc proc proc 2> /dev/null || mount --rbind /proc proc; } && mount --rbind /dev dev || exit
shift; exec chroot . "$@""#;
/// What to install for a front-end whose runtime comes over the network.
const NETWORK_HINT: &str = "apt install dracut-network isc-dhcp-client iputils-arping curl, or dnf install dracut-network dhcp-client iputils curl; \
or use --front-end built-in";

/// See [`super::find`].
pub(super) fn find(root: Option<&Path>, kernel: &str) -> Result<Dracut, Error> {
    let root = root.map(directory).transpose()?;
    if root.is_none() {
        foreign::check(None, elf::host_machine(), kernel)?;
    }
    let missing = |what: &str| {
        let error = Error::missing(format!("{what} is not installed"));
        let error = error.hint(
            "apt install dracut-core dracut-live, or dnf install dracut dracut-live; or use --front-end built-in, which needs neither",
        );
        if let Some(dir) = &root { error.file(dir) } else { error }
    };
    let program = PATH
        .split(':')
        .map(|dir| PathBuf::from(format!("{dir}/dracut")))
        .find(|path| is_file(root.as_deref(), path))
        .ok_or_else(|| missing("dracut"))?;
    let base = PathBuf::from("/usr/lib/dracut");
    let mut modules: Vec<String> = fs::read_dir(outside(root.as_deref(), &base.join("modules.d")))
        .map_err(|_| missing("dracut (its /usr/lib/dracut/modules.d)"))?
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .map(|name| name.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned())
        })
        .collect();
    modules.sort();
    modules.dedup();
    if !modules.iter().any(|name| name == "dmsquash-live") {
        return Err(missing("dracut's module dmsquash-live"));
    }
    let machine = root.as_ref().and_then(|root| foreign::machine(root, &program));
    if let Some(machine) = machine {
        foreign::check(root.as_deref(), machine, kernel)?;
    }
    let mut dracut = Dracut { program, base, root, version: String::new(), modules };
    for (tool, package) in
        [("dmsetup", "dmsetup (Debian) or device-mapper (Fedora)"), ("losetup", "util-linux")]
    {
        if !dracut.has_program(tool) {
            return Err(Error::missing(format!("{tool}, which dracut packs, is not installed"))
                .hint(format!("install {package}, or use --front-end built-in")));
        }
    }
    dracut.version = dracut.start(machine)?;
    Ok(dracut)
}

/// The directory that the user names as another root, without symlinks.
fn directory(dir: &Path) -> Result<PathBuf, Error> {
    let dir = fs::canonicalize(dir).map_err(|e| Error::usage("--dracut-root").caused_by(e).file(dir))?;
    if dir.is_dir() { Ok(dir) } else { Err(Error::usage("--dracut-root is not a directory").file(dir)) }
}

/// Where a path of dracut's file tree is for this process.
fn outside(root: Option<&Path>, path: &Path) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path)))
}

/// Whether a path of dracut's file tree leads to a file.
fn is_file(root: Option<&Path>, path: &Path) -> bool {
    match root {
        None => path.is_file(),
        Some(root) => foreign::is_file(root, path),
    }
}

impl Dracut {
    /// Whether dracut will find the program.
    fn has_program(&self, name: &str) -> bool {
        PATH.split(':').any(|dir| is_file(self.root.as_deref(), &Path::new(dir).join(name)))
    }

    /// Starts dracut, whose programs are for `machine`, to learn its version.
    fn start(&self, machine: Option<&str>) -> Result<String, Error> {
        let mut command = self.command(&self.program, Path::new("/"));
        let (status, text) = scratch::run(command.arg("--version"), true)
            .map_err(|e| Error::missing("dracut does not start").caused_by(e))?;
        if let (Some(root), Some(machine)) = (&self.root, machine)
            && let Some(error) = foreign::not_started(root, machine, status)
        {
            return Err(error);
        }
        // `dracut 059-4`, possibly among warnings.
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split_whitespace().skip_while(|word| *word != "dracut").skip(1);
        match words.next().filter(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            Some(version) => Ok(version.to_owned()),
            None => Err(Error::missing(format!("dracut --version says '{}'", text.trim().escape_default()))),
        }
    }

    /// A command in dracut's file tree that inherits nothing: dracut reads its settings from variables too.
    fn command(&self, program: &Path, temporary: &Path) -> Command {
        let mut command = match &self.root {
            None => Command::new(program),
            Some(root) => {
                let mut command = Command::new("unshare");
                if !rustix::process::geteuid().is_root() {
                    command.arg("--map-root-user");
                }
                command.args(["--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh"]).arg(root).arg(program);
                command
            }
        };
        command
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", temporary)
            .stdin(Stdio::null());
        command
    }

    /// The dracut modules for `plan`; all else that they need dracut adds itself.
    fn wanted_modules(&self, plan: &Plan<'_>) -> Result<Vec<&'static str>, Error> {
        let has = |name: &str| self.modules.iter().any(|module| module == name);
        let mut wanted = vec!["base", "dm", "dmsquash-live"];
        // dash is a tenth of bash. In dracut-ng shell-interpreter makes /bin/sh.
        wanted.push(if has("dash") && self.has_program("dash") { "dash" } else { "bash" });
        if has("shell-interpreter") {
            wanted.push("shell-interpreter");
        }
        if let RuntimeFrom::Network(address) = &plan.runtime {
            wanted.extend(["network", "url-lib", "livenet"]);
            // network-legacy is the one that works without systemd or a bus in the initramfs.
            let legacy = has("network-legacy")
                && self.has_program("dhclient")
                && (self.has_program("arping") || self.has_program("arping2"));
            wanted.push(if legacy { "network-legacy" } else { "network-manager" });
            if address.starts_with("nfs") {
                wanted.push("nfs");
            }
            let manager = self.has_program("NetworkManager") && has("network-manager");
            if !(has("livenet") && has("url-lib") && self.has_program("curl") && (legacy || manager)) {
                return Err(Error::missing(
                    "dracut's network modules, or what they pack (curl, dhclient, arping), are not installed",
                )
                .hint(NETWORK_HINT));
            }
        }
        match wanted.iter().find(|name| !has(name)) {
            None => Ok(wanted),
            Some(name) => {
                Err(Error::missing(format!("dracut's module {name} is not installed")).hint(NETWORK_HINT))
            }
        }
    }
}

/// A directory that is removed when it is dropped, in TMPDIR or in the file tree whose dracut is run.
fn temporary_directory(root: Option<&Path>) -> Result<Directory, Error> {
    Directory::new(root.map(|root| root.join("tmp")).as_deref())
        .map_err(|e| Error::temporary(e).hint("set TMPDIR to a directory with 200 MB of free space"))
}

/// An error with the last lines that a program wrote.
fn last_words(program: &str, status: std::process::ExitStatus, text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
    Error::failed(format!("{program} failed ({status})")).hint(format!("its last words:\n  {tail}"))
}

/// Runs dracut and reads the image that it made.
pub(super) fn run(dracut: &Dracut, plan: &Plan<'_>) -> Result<Files, Error> {
    let modules = dracut.wanted_modules(plan)?.join(" ");
    let directory = temporary_directory(dracut.root.as_deref())?;
    let io = Error::temporary;
    let empty = directory.path().join("conf.d");
    fs::create_dir(&empty).map_err(io)?;
    // A distribution's settings are next to dracut's own: an empty file of the same name in our directory hides each.
    for settings in [dracut.base.join("dracut.conf.d"), "/run/initramfs/dracut.conf.d".into()] {
        for entry in fs::read_dir(outside(dracut.root.as_deref(), &settings)).into_iter().flatten().flatten()
        {
            File::create(empty.join(entry.file_name())).map_err(io)?;
        }
    }
    let inside = |path: &Path| match &dracut.root {
        None => path.to_owned(),
        Some(root) => Path::new("/").join(path.strip_prefix(root).unwrap_or(path)),
    };
    let image = directory.path().join("image");
    let temporary = inside(directory.path());
    let mut command = dracut.command(&dracut.program, &temporary);
    command
        .args(["--conf", "/dev/null", "--confdir"])
        .arg(inside(&empty))
        .arg("--tmpdir")
        .arg(&temporary)
        .args([
            "--no-hostonly",
            "--no-hostonly-cmdline",
            "--no-early-microcode",
            "--nofscks",
            "--nostrip",
            "--nohardlink",
        ])
        // The modules of the closure are added by us: dracut would take whole directories of drivers with them.
        .args(["--no-compress", "--no-kernel", "--force", "--modules", &modules])
        .args(["--kver", first(plan.kernels)])
        .arg(inside(&image))
        .current_dir(directory.path());
    let (status, text) =
        scratch::run(&mut command, true).map_err(|e| Error::missing("dracut does not start").caused_by(e))?;
    let failed = || last_words("dracut", status, &text);
    if !status.success() {
        return Err(failed());
    }
    let source = File::open(&image).map_err(|_| failed())?;
    let limits = Limits { max_unpacked: MAX_IMAGE, accept_partial: false };
    let image = initrd::read(&source, Path::new("dracut's image"), &limits, &|_| ())?;
    files(&image.tree)
}

/// The entries of an image; a further name of a file becomes a link to the first.
fn files(tree: &crate::tree::Tree) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut names: BTreeMap<_, String> = BTreeMap::new();
    for entry in tree.walk().filter(|entry| !entry.path.is_empty()) {
        let name = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| {
                Error::failed(format!(
                    "dracut packed a file with an odd name: {}",
                    crate::tree::display(bytes)
                ))
            })
        };
        let path = name(&entry.path)?;
        let inode = tree.inode(entry.id);
        let item = match &inode.node {
            Node::Directory(_) => Item::Directory(if inode.mode & 0o1000 == 0 { 0o755 } else { 0o1777 }),
            Node::Symlink(target) => Item::Symlink(name(target)?),
            Node::Regular(_) => match names.get(&entry.id) {
                Some(first) => Item::Symlink(format!("/{first}")),
                None => {
                    names.insert(entry.id, path.clone());
                    let bytes = tree
                        .read(entry.id, MAX_IMAGE)
                        .map_err(|e| Error::failed("dracut's image cannot be read").caused_by(e))?;
                    Item::File(inode.mode & 0o111 != 0, bytes.unwrap_or_default())
                }
            },
            Node::CharDevice(_) | Node::BlockDevice(_) | Node::Fifo | Node::Socket => continue,
        };
        put(&mut files, &path, item);
    }
    Ok(files)
}

/// The files below lib/modules/VERSION for a kernel: its modules and the tables that depmod makes for just them.
///
/// Nothing that an image names becomes a host path: a module is staged under its own, checked name.
pub(super) fn module_tree(kernel: &KernelModules) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let directory = temporary_directory(None)?;
    let io = Error::temporary;
    let base = directory.path().join("lib/modules").join(&kernel.version);
    let settings = directory.path().join("depmod.d");
    fs::create_dir_all(base.join("kernel")).map_err(io)?;
    fs::create_dir(&settings).map_err(io)?;
    let mut tree = Vec::new();
    let mut order = String::new();
    for module in &kernel.modules {
        let path = format!("kernel/{}.ko", underscored(&module.name));
        fs::write(base.join(&path), &module.elf).map_err(io)?;
        order.push_str(&format!("{path}\n"));
        tree.push((path, module.elf.to_vec()));
    }
    fs::write(base.join("modules.order"), order).map_err(io)?;
    fs::write(base.join("modules.builtin"), kernel.modules_builtin.as_deref().unwrap_or_default())
        .map_err(io)?;
    fs::write(
        base.join("modules.builtin.modinfo"),
        kernel.modules_builtin_modinfo.as_deref().unwrap_or_default(),
    )
    .map_err(io)?;
    let mut command = Command::new("depmod");
    command
        .env_clear()
        .env("PATH", PATH)
        .arg("-b")
        .arg(directory.path())
        .arg("-C")
        .arg(&settings)
        .arg(&kernel.version);
    let (status, text) = scratch::run(&mut command, true).map_err(|e| {
        Error::missing("depmod does not start").caused_by(e).hint("install kmod, or use --front-end built-in")
    })?;
    if !status.success() {
        return Err(last_words("depmod", status, &text));
    }
    let mut tables = Vec::new();
    for entry in fs::read_dir(&base).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        // The rest is what depmod itself reads, or the text form of the tables that modprobe and udev read.
        let read = [
            "modules.alias",
            "modules.builtin",
            "modules.dep",
            "modules.devname",
            "modules.softdep",
            "modules.weakdep",
        ];
        let Some(name) = name
            .to_str()
            .filter(|name| read.contains(name) || Path::new(name).extension() == Some(OsStr::new("bin")))
        else {
            continue;
        };
        tables.push((name.to_owned(), fs::read(entry.path()).map_err(io)?));
    }
    tables.sort();
    tree.extend(tables);
    Ok(tree)
}
