//! Where kernel modules come from: the image itself, a directory, a `.deb`, an `.rpm`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::modinfo::Info;
use super::release::is_release;
use super::{archive, module_name};
use crate::bytes::{ReadAt, Spool, Spooled, open_regular, read_regular};
use crate::codec;
use crate::error::Error;
use crate::tree::{InodeId, Node, Tree};

/// The largest kernel or list that is read.
const MAX_FILE: u64 = 256 << 20;
/// The largest module that is read: with all debugging information btrfs.ko has 30 MiB.
const MAX_MODULE: u64 = 64 << 20;
/// The deepest directory below lib/modules/VERSION that is looked into.
const MAX_DEPTH: usize = 32;
/// The most files that one source may have.
const MAX_FILES: usize = 1 << 18;

/// Files next to the modules that say something about a kernel, by their names below lib/modules/VERSION. `config` and
/// `vmlinuz` can be in /boot as well, with the release behind the name.
const LISTS: [&str; 4] = ["modules.builtin", "modules.builtin.modinfo", "config", "vmlinuz"];

/// Where a file's bytes are.
#[derive(Debug, Clone)]
enum Place {
    Inode(InodeId),
    Host(PathBuf),
    Span { offset: u64, len: u64 },
}

/// What holds the bytes.
enum Store<'a> {
    Tree(&'a Tree),
    Host,
    Spooled(Spooled),
}

/// The files of one kernel in one source.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// By module name (with `_`): the path below lib/modules/VERSION, with its compression suffix, and the place.
    modules: BTreeMap<String, (String, Place)>,
    lists: BTreeMap<&'static str, Place>,
}

/// A source of modules for one or more kernels.
pub(super) struct Source<'a> {
    /// What it is, for messages: `the image`, or the path as the user gave it.
    pub name: String,
    store: Store<'a>,
    /// By release.
    pub versions: BTreeMap<String, Files>,
}

/// A module's file, read and unpacked.
pub(super) struct ModuleFile {
    /// Path below lib/modules/VERSION without a compression suffix.
    pub path: String,
    pub elf: Vec<u8>,
    pub info: Info,
}

impl Files {
    /// Sorts a file in by its path below lib/modules/VERSION. Of modules with one name that wins which depmod takes
    /// by its default (`search updates built-in`, depmod.d(5)).
    fn put(&mut self, path: &str, place: Place) {
        let path = if path == "build/.config" { "config" } else { path };
        if let Some(list) = LISTS.into_iter().find(|&list| list == path) {
            self.lists.entry(list).or_insert(place);
        } else if let Some(name) = module_name(path) {
            let rank = |path: &str| match path.split('/').next() {
                Some("updates") => 0,
                Some("kernel") => 1,
                _ => 2,
            };
            let better = self.modules.get(&name).is_none_or(|(old, _)| (rank(path), path) < (rank(old), old));
            if better {
                self.modules.insert(name, (path.to_owned(), place));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.modules.is_empty() && self.lists.is_empty()
    }

    /// The modules whose path below lib/modules/VERSION `matches`.
    pub(super) fn names(&self, matches: impl Fn(&str) -> bool) -> Vec<String> {
        self.modules.iter().filter(|(_, (path, _))| matches(path)).map(|(name, _)| name.clone()).collect()
    }
}

/// A path of a package as a kernel's release and the path below its lib/modules/VERSION.
fn of_kernel(path: &[u8]) -> Option<(String, String)> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return None;
    }
    if parts.first() == Some(&"usr") {
        parts.remove(0);
    }
    match parts.as_slice() {
        ["lib", "modules", release, rest @ ..] if is_release(release) && !rest.is_empty() => {
            Some(((*release).to_owned(), rest.join("/")))
        }
        ["boot", file] => {
            let (kind, release) = boot_file(file)?;
            Some((release.to_owned(), kind.to_owned()))
        }
        _ => None,
    }
}

fn boot_file(name: &str) -> Option<(&'static str, &str)> {
    [("config", "config-"), ("vmlinuz", "vmlinuz-"), ("vmlinuz", "vmlinux-")]
        .into_iter()
        .find_map(|(kind, prefix)| Some((kind, name.strip_prefix(prefix)?)))
        .filter(|(_, release)| is_release(release))
}

impl<'a> Source<'a> {
    /// A tree in memory, such as the image itself: /lib/modules and /usr/lib/modules, /boot where it has one.
    pub(super) fn tree(tree: &'a Tree, name: &str) -> Self {
        let mut source =
            Source { name: name.to_owned(), store: Store::Tree(tree), versions: BTreeMap::new() };
        for modules in ["usr/lib/modules", "lib/modules"] {
            let Some(names) = tree.resolve(modules).and_then(|id| tree.names(id)) else { continue };
            for (name, &id) in names {
                let Some(release) = std::str::from_utf8(name).ok().filter(|name| is_release(name)) else {
                    continue;
                };
                let files = source.versions.entry(release.to_owned()).or_default();
                let mut todo = vec![(String::new(), id, 0)];
                while let Some((path, id, depth)) = todo.pop() {
                    match &tree.inode(id).node {
                        Node::Directory(names) if depth < MAX_DEPTH => {
                            todo.extend(names.iter().rev().filter_map(|(name, &id)| {
                                let name = std::str::from_utf8(name).ok()?;
                                let path =
                                    if path.is_empty() { name.into() } else { format!("{path}/{name}") };
                                Some((path, id, depth + 1))
                            }));
                        }
                        Node::Regular(_) => files.put(&path, Place::Inode(id)),
                        _ => {}
                    }
                }
            }
        }
        if let Some(names) = tree.resolve("boot").and_then(|id| tree.names(id)) {
            for (name, &id) in names {
                let Some((kind, release)) = std::str::from_utf8(name).ok().and_then(boot_file) else {
                    continue;
                };
                if matches!(tree.inode(id).node, Node::Regular(_)) {
                    source.versions.entry(release.to_owned()).or_default().put(kind, Place::Inode(id));
                }
            }
        }
        source.versions.retain(|_, files| !files.is_empty());
        source
    }

    /// What `--modules PATH` names. `wanted` says of a path below lib/modules/VERSION whether it is worth keeping;
    /// only packages ask, because they can be read but once.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or holds no kernel modules.
    pub(super) fn open(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        let usage = |e: io::Error| Error::unreadable(e).file(path);
        let mut source = if path.is_dir() {
            Source { name: path.display().to_string(), store: Store::Host, versions: directory(path)? }
        } else {
            let mut file = open_regular(path).map_err(usage)?;
            let mut head = Vec::new();
            file.by_ref().take(8).read_to_end(&mut head).map_err(usage)?;
            if !archive::is_package(&head) {
                return Err(Error::usage("neither a directory, a .deb nor an .rpm")
                    .file(path)
                    .hint("--modules takes an unpacked package, a lib/modules/VERSION directory, the root directory of a system, a .deb or an .rpm"));
            }
            io::Seek::rewind(&mut file).map_err(usage)?;
            package(file, path, wanted)?
        };
        source.versions.retain(|_, files| !files.is_empty());
        if source.versions.is_empty() {
            return Err(Error::missing("holds no kernel modules (no lib/modules/VERSION)")
                .file(path)
                .hint("give the package with the modules of the kernel that boots the image, or its directory, to --modules"));
        }
        Ok(source)
    }

    fn read(&self, place: &Place, limit: u64) -> io::Result<Vec<u8>> {
        let too_large = || io::Error::other(format!("is larger than {} MiB", limit >> 20));
        match (&self.store, place) {
            (Store::Tree(tree), Place::Inode(id)) => tree.read(*id, limit)?.ok_or_else(too_large),
            (Store::Spooled(_), Place::Span { len, .. }) if *len > limit => Err(too_large()),
            (Store::Spooled(spool), Place::Span { offset, len }) => {
                let mut bytes = vec![0; usize::try_from(*len).map_err(|_| too_large())?];
                spool.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes)
            }
            (_, Place::Host(path)) => read_regular(path, limit),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn fault(&self, path: &str, what: impl std::fmt::Display) -> Error {
        Error::input(format!("{path} in {}: {what}", self.name))
    }

    /// The module `name` of the kernel `release`, uncompressed, where it is here.
    ///
    /// # Errors
    /// When its file is damaged.
    pub(super) fn module(&self, release: &str, name: &str) -> Result<Option<ModuleFile>, Error> {
        let Some((path, place)) = self.versions.get(release).and_then(|files| files.modules.get(name)) else {
            return Ok(None);
        };
        let packed = self.read(place, MAX_MODULE).map_err(|e| self.fault(path, e))?;
        let elf = if packed.starts_with(b"\x7fELF") {
            packed
        } else {
            codec::unpack(&packed, MAX_MODULE).map_err(|e| self.fault(path, e))?
        };
        let info = Info::parse(&elf).map_err(|e| self.fault(path, e))?;
        let path = [".gz", ".xz", ".zst"].iter().find_map(|s| path.strip_suffix(s)).unwrap_or(path);
        Ok(Some(ModuleFile { path: path.to_owned(), elf, info }))
    }

    /// Whether the module `name` of the kernel `release` is here.
    pub(super) fn has(&self, release: &str, name: &str) -> bool {
        self.versions.get(release).is_some_and(|files| files.modules.contains_key(name))
    }

    /// One of [`LISTS`] of the kernel `release`, where it is here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn list(&self, release: &str, list: &'static str) -> Result<Option<Vec<u8>>, Error> {
        let Some(place) = self.versions.get(release).and_then(|files| files.lists.get(list)) else {
            return Ok(None);
        };
        self.read(place, MAX_FILE).map(Some).map_err(|e| self.fault(list, e))
    }
}

/// Reads a package in one go; what is wanted goes to an unlinked file.
fn package<'a>(file: File, path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Source<'a>, Error> {
    let mut versions: BTreeMap<String, Files> = BTreeMap::new();
    let cannot = |e: io::Error| Error::temporary(e).hint("set TMPDIR to a directory with room");
    let mut spool = Spool::new().map_err(cannot)?;
    let mut count = 0;
    let mut chunk = vec![0; 64 << 10];
    archive::package(BufReader::with_capacity(256 << 10, file), &mut |path, size, data| {
        let Some((release, rest)) = of_kernel(path) else { return Ok(ControlFlow::Continue(())) };
        let keep = LISTS.contains(&rest.as_str()) || (module_name(&rest).is_some() && wanted(&rest));
        if keep && size <= MAX_FILE {
            count += 1;
            if count > MAX_FILES {
                return Err(io::Error::other(format!("more than {MAX_FILES} modules")));
            }
            let offset = spool.written();
            loop {
                let got = data.read(&mut chunk)?;
                if got == 0 {
                    break;
                }
                spool.append(&chunk[..got])?;
            }
            if spool.written() - offset != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            versions.entry(release).or_default().put(&rest, Place::Span { offset, len: size });
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(|e| e.file(path))?;
    let store = Store::Spooled(spool.finish().map_err(cannot)?);
    Ok(Source { name: path.display().to_string(), store, versions })
}

/// A directory of the host: a root or an unpacked package, a lib/modules, or a lib/modules/VERSION.
fn directory(path: &Path) -> Result<BTreeMap<String, Files>, Error> {
    let usage = |e: io::Error| Error::unreadable(e).file(path);
    let mut versions: BTreeMap<String, Files> = BTreeMap::new();
    let mut roots: Vec<PathBuf> =
        ["usr/lib/modules", "lib/modules"].iter().map(|sub| path.join(sub)).filter(|p| p.is_dir()).collect();
    if roots.is_empty() {
        let mut files = Files::default();
        walk(path, &mut files).map_err(usage)?;
        let own = path.join("kernel").is_dir()
            || path.join("modules.builtin").is_file()
            || std::fs::read_dir(path)
                .map_err(usage)?
                .flatten()
                .any(|e| e.file_name().to_str().and_then(module_name).is_some());
        if own {
            // The name of the directory may say anything; its modules know for which kernel they are.
            let release = files.modules.values().find_map(|(_, place)| release_of(place)).or_else(|| {
                let name = path.canonicalize().ok()?.file_name()?.to_str()?.to_owned();
                is_release(&name).then_some(name)
            });
            return Ok(release.map(|release| (release, files)).into_iter().collect());
        }
        roots.push(path.to_path_buf());
    }
    for root in roots {
        for entry in std::fs::read_dir(&root).map_err(usage)? {
            let entry = entry.map_err(usage)?;
            let name = entry.file_name();
            // Followed where it is a link: an unpacked tree may link one release to another's directory.
            if let Some(release) = name.to_str().filter(|n| is_release(n) && entry.path().is_dir()) {
                walk(&entry.path(), versions.entry(release.to_owned()).or_default()).map_err(usage)?;
            }
        }
    }
    if let Ok(boot) = std::fs::read_dir(path.join("boot")) {
        for entry in boot.flatten().filter(|e| e.path().is_file()) {
            if let Some((kind, release)) = entry.file_name().to_str().and_then(boot_file) {
                versions.entry(release.to_owned()).or_default().put(kind, Place::Host(entry.path()));
            }
        }
    }
    Ok(versions)
}

/// Sorts in all below `top`, a host's lib/modules/VERSION; links (`build`, `source`, weak-updates) are not followed.
fn walk(top: &Path, files: &mut Files) -> io::Result<()> {
    let mut todo = vec![(top.to_path_buf(), 0)];
    let mut count = 0;
    while let Some((directory, depth)) = todo.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            count += 1;
            if count > MAX_FILES {
                return Err(io::Error::other(format!("more than {MAX_FILES} files")));
            }
            if kind.is_dir() && depth < MAX_DEPTH {
                todo.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                let path = entry.path();
                let below = path.strip_prefix(top).ok().map(|p| p.as_os_str().as_bytes());
                if let Some(below) = below.and_then(|p| std::str::from_utf8(p).ok()) {
                    files.put(below, Place::Host(entry.path()));
                }
            }
        }
    }
    Ok(())
}

/// The kernel release for which the module at `place` was built.
fn release_of(place: &Place) -> Option<String> {
    let Place::Host(path) = place else { return None };
    let packed = read_regular(path, MAX_FILE).ok()?;
    let info = Info::parse(&codec::unpack(&packed, MAX_FILE).ok()?).ok()?;
    let release = info.vermagic?.split_whitespace().next()?.to_owned();
    is_release(&release).then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_packages() {
        let of = |path: &str| of_kernel(path.as_bytes());
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(of("./lib/modules/6.1.0-50-amd64/kernel/a.ko"), pair("6.1.0-50-amd64", "kernel/a.ko"));
        assert_eq!(
            of("/usr/lib/modules/6.9.5-200.fc40.x86_64/config"),
            pair("6.9.5-200.fc40.x86_64", "config")
        );
        assert_eq!(of("./boot/config-6.1.0"), pair("6.1.0", "config"));
        assert_eq!(of("boot/vmlinux-6.1.0"), pair("6.1.0", "vmlinuz"));
        for other in
            ["lib/modules/../../etc/x.ko", "lib/modules/6.1", "boot/grub", "etc/x", "lib/modules/x y/z.ko"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn an_update_goes_before_the_kernels_own_module() {
        let mut files = Files::default();
        for path in
            ["extra/a.ko", "kernel/z/a.ko.xz", "updates/dkms/a.ko", "kernel/b/a.ko", "kernel/b-c.ko.gz"]
        {
            files.put(path, Place::Span { offset: 0, len: 0 });
        }
        assert_eq!(files.modules["a"].0, "updates/dkms/a.ko");
        assert_eq!(files.names(|path| path.starts_with("kernel/")), ["b_c"]);
    }
}
