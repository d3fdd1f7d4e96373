//! Kernel modules and their closure, what a kernel can do, and where its modules come from.
//!
//! [`find`] is the preflight: it knows of every kernel that the image can be booted with whether it reaches a btrfs in
//! a squashfs in the initramfs, before any slow work is begun.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::codec::Compression;
use crate::codec::Encoding;
use crate::contract::{Overlay, RuntimeFrom};
use crate::error::Error;
use crate::initrd::Segment;
use crate::tree::Tree;

mod archive;
mod capability;
mod closure;
mod drivers;
mod modinfo;
mod modules;
mod source;
mod vmlinuz;

pub use capability::best as best_encoding;
pub use modules::{KernelModules, Module};

use capability::Config;
use closure::{BuiltIn, Closure, Missing};
use source::Source;

/// The largest kernel file that is read.
const MAX_VMLINUZ: u64 = 256 << 20;

/// What the kernels have to be able to do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What makes the runtime writable; `None`: a device-mapper snapshot where the kernel can, else overlayfs.
    pub overlay: Option<Overlay>,
    /// How the squashfs is packed.
    pub compression: Compression,
    /// Whether its xz is to use the branch filter of the architecture, where that is proven to work.
    pub bcj: bool,
    /// Where the runtime comes from.
    pub runtime: &'a RuntimeFrom,
    /// Names of drivers, or `net` or `storage` for sets of them. Where this is empty, a runtime from the network gets
    /// `net` and one from a disk gets `storage`.
    pub drivers: &'a [String],
    /// The ready-made front-end that is to be used, and its name. Its modules count as found, nothing is added to it,
    /// and what is missing may lie in it where nobody looks: that is noted, not refused.
    pub ready_made: Option<(&'a str, &'a Tree)>,
}

/// How much of a kernel's closure came from one place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// `the image`, or a path of `--modules`.
    pub source: String,
    /// Number of modules.
    pub modules: usize,
    /// Their size in bytes, uncompressed.
    pub bytes: u64,
}

/// One kernel that the converted image will boot with.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its release and what it has to load.
    pub modules: KernelModules,
    /// What will make the runtime writable.
    pub overlay: Overlay,
    /// Whether the squashfs may use xz with the branch filter of the architecture.
    pub bcj: bool,
    /// The encodings of an initramfs that this kernel is proven to unpack (`plain` always is).
    pub encodings: BTreeSet<Encoding>,
    /// The best of them for the front-end.
    pub front_end: Encoding,
    /// Whether the kernel can show the initrd where the boot loader placed it (`retain_initrd`); where not, why.
    pub retained: Result<(), String>,
    /// Its machine as `uname -m` names it.
    pub architecture: Option<String>,
    /// What was needed and is built in, by module name.
    pub built_in: Vec<String>,
    /// Where the modules came from.
    pub origin: Vec<Origin>,
    /// Whether the image itself has a lib/modules/VERSION of this kernel.
    pub in_image: bool,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}

/// `-` and `_` are one character in the names of modules.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The module in a file `….ko`, `.ko.gz`, `.ko.xz` or `.ko.zst`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().find_map(|suffix| file.strip_suffix(suffix)).map(canonical)
}

/// What to type to get the modules of a kernel, told by the distribution's way of naming releases.
pub(crate) fn how_to_get(release: &str) -> String {
    let fedora = [".fc", ".el", ".amzn"].iter().any(|mark| release.contains(mark));
    let debian =
        ["-amd64", "-686", "-686-pae", "-arm64", "-armmp", "-powerpc64le", "-s390x", "-riscv64", "-loong64"]
            .iter()
            .any(|mark| release.ends_with(mark));
    if fedora {
        format!(
            "on Fedora and its kin: dnf download kernel-core-{release} kernel-modules-core-{release} \
             kernel-modules-{release}, then --modules FILE.rpm for each"
        )
    } else if release.ends_with("-generic") || release.ends_with("-lowlatency") {
        format!(
            "on Ubuntu: apt-get download linux-modules-{release}, then --modules linux-modules-{release}_….deb"
        )
    } else if debian {
        format!(
            "on Debian: apt-get download linux-image-{release}, then --modules linux-image-{release}_….deb"
        )
    } else if release.ends_with("-default") {
        let version = release.trim_end_matches("-default");
        format!("on openSUSE: zypper download kernel-default-{version}, then --modules FILE.rpm")
    } else {
        format!(
            "give the package (.deb or .rpm), the lib/modules/{release} or the root folder that has them with --modules PATH"
        )
    }
}

/// A kernel that has to be served, or would be nice to serve.
struct Demand {
    required: bool,
    in_image: bool,
}

/// The user's `--kernel` file.
struct Given {
    path: PathBuf,
    bytes: Vec<u8>,
    release: String,
    unpacked: vmlinuz::Unpacked,
}

/// The kernels that the image can be booted with, each with all that it has to load to reach the runtime.
///
/// Without `vmlinuz` every kernel of the image's lib/modules has to be served; with it that kernel has to be, and the
/// others are where their modules are found. `modules` are the paths of `--modules`; `old` are the image's segments,
/// whose encodings the kernel is known to unpack.
///
/// # Errors
/// [`crate::error::Kind::Missing`] naming everything that is missing and how to get it, also where a source has the
/// modules of another kernel; input errors where a source is damaged.
pub fn find(
    tree: &Tree,
    old: &[Segment],
    modules: &[PathBuf],
    vmlinuz: Option<&Path>,
    wanted: &Wanted<'_>,
) -> Result<Vec<Kernel>, Error> {
    let drivers = drivers_for(wanted);
    let keep = worth_keeping(&drivers);
    let mut sources = vec![Source::tree(tree, "the image")];
    sources.extend(wanted.ready_made.map(|(name, front_end)| Source::tree(front_end, name)));
    for path in modules {
        sources.push(Source::open(path, &keep)?);
    }
    let mut given = vmlinuz.map(read_vmlinuz).transpose()?;

    let mut demands: BTreeMap<String, Demand> = BTreeMap::new();
    for release in sources[0].versions.keys() {
        demands.insert(release.clone(), Demand { required: given.is_none(), in_image: true });
    }
    if let Some(given) = &given {
        demands.entry(given.release.clone()).or_insert(Demand { required: true, in_image: false }).required =
            true;
    }
    if demands.is_empty() {
        let others = sources[1..].iter().flat_map(|source| source.versions.keys().cloned());
        demands.extend(others.map(|release| (release, Demand { required: true, in_image: false })));
    }
    if demands.is_empty() {
        return Err(Error::missing("the image has no lib/modules/VERSION that would tell its kernel").hint(
            "name the kernel with --kernel VMLINUZ, and its modules with --modules PATH (.deb, .rpm or folder)",
        ));
    }

    let mut kernels = Vec::new();
    let mut lacking: Vec<(String, Vec<Missing>)> = Vec::new();
    let mut unserved = Vec::new();
    for (release, demand) in &demands {
        match serve(release, demand, &sources, given.as_mut(), old, wanted, &drivers)? {
            Ok(kernel) => kernels.push(kernel),
            Err(missing) if demand.required => lacking.push((release.clone(), missing)),
            Err(missing) => unserved.push(format!(
                "the image's kernel {release} is not served: its {} found nowhere",
                are(&missing)
            )),
        }
    }
    // A source that fits no kernel of the image: another one's modules, or a further kernel.
    let strangers: Vec<(&Source<'_>, &String)> = sources[1..]
        .iter()
        .filter(|source| !source.versions.keys().any(|release| demands.contains_key(release)))
        .flat_map(|source| source.versions.keys().map(move |release| (source, release)))
        .collect();
    if !lacking.is_empty() || kernels.is_empty() {
        return Err(report(&lacking, &strangers, &unserved));
    }
    let further: BTreeSet<&String> = strangers.iter().map(|(_, release)| *release).collect();
    for release in further {
        let demand = Demand { required: true, in_image: false };
        match serve(release, &demand, &sources, given.as_mut(), old, wanted, &drivers)? {
            Ok(kernel) => kernels.push(kernel),
            Err(missing) => lacking.push((release.clone(), missing)),
        }
    }
    if !lacking.is_empty() {
        return Err(report(&lacking, &[], &unserved));
    }
    for kernel in &mut kernels {
        kernel.notes.extend(unserved.iter().cloned());
    }
    if kernels.iter().any(|kernel| kernel.overlay != kernels[0].overlay) {
        // One front-end has one overlay: that which each of them can have is looked for anew, with its modules.
        let wanted = Wanted { overlay: Some(Overlay::Overlayfs), ..*wanted };
        return find(tree, old, modules, vmlinuz, &wanted).map_err(|error| Error {
            what: format!("not every kernel has dm-snapshot, nor has every one overlayfs: {}", error.what),
            ..error
        });
    }
    kernels.sort_by(|a, b| a.modules.version.cmp(&b.modules.version));
    Ok(kernels)
}

/// The encodings that all of `kernels` are proven to unpack, and so the best for their common front-end.
#[must_use]
pub fn common_encoding(kernels: &[Kernel]) -> Encoding {
    let common = kernels
        .iter()
        .map(|kernel| kernel.encodings.clone())
        .reduce(|a, b| a.intersection(&b).copied().collect())
        .unwrap_or_default();
    best_encoding(&common)
}

fn drivers_for(wanted: &Wanted<'_>) -> Vec<drivers::Driver> {
    let default = match wanted.runtime {
        RuntimeFrom::Network(_) => Some("net"),
        RuntimeFrom::Label(_) | RuntimeFrom::Uuid(_) => Some("storage"),
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => None,
    };
    match default {
        _ if wanted.ready_made.is_some() => Vec::new(),
        Some(set) if wanted.drivers.is_empty() => drivers::expand(&[set.to_owned()]),
        _ => drivers::expand(wanted.drivers),
    }
}

/// Which files of a package are kept while it streams by: not the hundreds of megabytes that no front-end needs,
/// unless a driver is asked for by name, which can be anywhere.
fn worth_keeping(drivers: &[drivers::Driver]) -> impl Fn(&str) -> bool + use<> {
    let everything = drivers.iter().any(|driver| driver.set.is_none());
    let hardware = !drivers.is_empty();
    move |path: &str| {
        let Some(path) = path.strip_prefix("kernel/") else { return true };
        let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        everything
            || !below(&["drivers/", "sound/", "net/"])
            || below(&["drivers/block/", "drivers/md/", "drivers/dax/"])
            || (hardware
                && !below(&[
                    "sound/",
                    "drivers/gpu/",
                    "drivers/media/",
                    "drivers/iio/",
                    "drivers/net/wireless/",
                ]))
    }
}

fn read_vmlinuz(path: &Path) -> Result<Given, Error> {
    let usage = |e: std::io::Error| Error::usage(format!("cannot be read: {e}")).file(path);
    let mut bytes = Vec::new();
    File::open(path).map_err(usage)?.take(MAX_VMLINUZ + 1).read_to_end(&mut bytes).map_err(usage)?;
    if bytes.len() as u64 > MAX_VMLINUZ {
        return Err(Error::input(format!("larger than {MAX_VMLINUZ} bytes: not a kernel")).file(path));
    }
    let mut unpacked = vmlinuz::Unpacked::default();
    let release = vmlinuz::release(&bytes, &mut unpacked).ok_or_else(|| {
        Error::input("not a Linux kernel: neither a bzImage header nor a `Linux version` banner").file(path)
    })?;
    Ok(Given { path: path.to_path_buf(), bytes, release, unpacked })
}

/// Prepares one kernel; the inner error is what it lacks.
fn serve(
    release: &str,
    demand: &Demand,
    sources: &[Source<'_>],
    given: Option<&mut Given>,
    old: &[Segment],
    wanted: &Wanted<'_>,
    drivers: &[drivers::Driver],
) -> Result<Result<Kernel, Vec<Missing>>, Error> {
    let list = |name: &'static str| -> Result<Option<(&Source<'_>, Vec<u8>)>, Error> {
        for source in sources {
            if let Some(bytes) = source.list(release, name)? {
                return Ok(Some((source, bytes)));
            }
        }
        Ok(None)
    };
    let builtin = list("modules.builtin")?.map(|(_, bytes)| bytes);
    let builtin_modinfo = list("modules.builtin.modinfo")?.map(|(_, bytes)| bytes);
    let mut config = None;
    for source in sources {
        if let Some(text) = source.list(release, "config")?
            && config.is_none()
        {
            config = Config::parse(&text, format!("the configuration in {}", source.name));
        }
    }
    // The kernel file itself is the last resort: it takes a second to unpack.
    let mut table = None;
    if config.is_none() {
        let mut look = |file: &[u8], unpacked: &mut vmlinuz::Unpacked, name: &str| {
            let Some(kernel) = unpacked.get(file) else { return };
            config = vmlinuz::embedded_config(kernel)
                .and_then(|text| Config::parse(&text, format!("the configuration inside {name}")));
            table = vmlinuz::decompressors(kernel).map(|found| (found, name.to_owned()));
        };
        match given.filter(|given| given.release == release) {
            Some(given) => look(&given.bytes, &mut given.unpacked, &given.path.display().to_string()),
            None => {
                if let Some((source, file)) = list("vmlinuz")? {
                    look(&file, &mut vmlinuz::Unpacked::default(), &format!("the kernel in {}", source.name));
                }
            }
        }
    }

    let built_in = BuiltIn::parse(builtin.as_deref(), builtin_modinfo.as_deref());
    let mut closure = Closure::new(release, sources.iter().collect(), built_in, config.as_ref())?;
    let mut notes = Vec::new();
    let mut missing = Vec::new();
    for root in ["loop", "squashfs", "btrfs"] {
        missing.extend(closure.add(root)?);
    }
    let overlay = add_overlay(&mut closure, wanted.overlay, &mut missing, &mut notes)?;
    add_drivers(&mut closure, wanted.runtime, drivers, &mut missing, &mut notes)?;
    missing.sort();
    missing.dedup();
    match wanted.ready_made {
        _ if missing.is_empty() => {}
        Some((name, _)) => notes.push(format!(
            "whether {name} reaches the runtime with kernel {release} could not be checked: {} found nowhere",
            are(&missing)
        )),
        None => return Ok(Err(missing)),
    }

    check_compression(release, &closure, config.as_ref(), wanted.compression, &mut notes)?;
    let machine = closure.machine();
    let bcj = wanted.bcj
        && wanted.compression == Compression::Xz
        && match capability::bcj(machine, config.as_ref(), closure.symbols("xz_dec").as_ref()) {
            Ok(()) => true,
            Err(why) => {
                notes.push(format!("kernel {release}: xz without the branch filter: {why}"));
                false
            }
        };
    let encodings = encodings(release, old, config.as_ref(), table.as_ref(), &mut notes);
    if !demand.in_image {
        notes.push(format!("kernel {release} has no modules in the image: the old system runs without them"));
    }

    let retained = capability::retained(release, config.as_ref());
    let built_in = closure.used_built_in();
    let mut origin: BTreeMap<usize, Origin> = BTreeMap::new();
    let mut modules = Vec::new();
    for (module, index) in closure.finish() {
        let from = origin.entry(index).or_insert_with(|| Origin {
            source: sources.get(index).map(|s| s.name.clone()).unwrap_or_default(),
            modules: 0,
            bytes: 0,
        });
        from.modules += 1;
        from.bytes += module.elf.len() as u64;
        modules.push(module);
    }
    Ok(Ok(Kernel {
        modules: KernelModules {
            version: release.to_owned(),
            modules,
            modules_builtin: builtin,
            modules_builtin_modinfo: builtin_modinfo,
        },
        overlay,
        bcj,
        front_end: best_encoding(&encodings),
        encodings,
        retained,
        architecture: machine.map(str::to_owned),
        built_in,
        origin: origin.into_values().collect(),
        in_image: demand.in_image,
        notes,
    }))
}

fn add_overlay(
    closure: &mut Closure<'_>,
    wanted: Option<Overlay>,
    missing: &mut Vec<Missing>,
    notes: &mut Vec<String>,
) -> Result<Overlay, Error> {
    const SNAPSHOT: &str = "dm_snapshot";
    match wanted {
        Some(Overlay::DeviceMapper) => {
            missing.extend(closure.add(SNAPSHOT)?);
            Ok(Overlay::DeviceMapper)
        }
        Some(Overlay::Overlayfs) => {
            missing.extend(closure.add("overlay")?);
            Ok(Overlay::Overlayfs)
        }
        None => {
            let snapshot = closure.add(SNAPSHOT)?;
            if snapshot.is_empty() {
                return Ok(Overlay::DeviceMapper);
            }
            let overlay = closure.add("overlay")?;
            if overlay.is_empty() {
                notes.push(format!("overlayfs, because the {} found nowhere", are(&snapshot)));
            } else {
                missing.extend(snapshot);
                missing.extend(overlay);
            }
            Ok(Overlay::Overlayfs)
        }
    }
}

fn add_drivers(
    closure: &mut Closure<'_>,
    runtime: &RuntimeFrom,
    drivers: &[drivers::Driver],
    missing: &mut Vec<Missing>,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    if matches!(runtime, RuntimeFrom::Network(address) if address.starts_with("nfs")) {
        missing.extend(closure.add("nfs")?);
        for version in ["nfsv3", "nfsv4"] {
            let lacking = closure.add(version)?;
            if !lacking.is_empty() {
                notes.push(format!("without {version}: the {} found nowhere", are(&lacking)));
            }
        }
    }
    let mut absent: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for driver in drivers {
        let lacking = closure.add(&driver.name)?;
        match driver.set {
            _ if lacking.is_empty() => {}
            Some(set) => absent.entry(set).or_default().push(&driver.name),
            None => missing.extend(lacking),
        }
    }
    for (set, names) in absent {
        notes.push(format!("of the drivers `{set}` these are found nowhere: {}", names.join(", ")));
    }
    Ok(())
}

/// Refuses a compression that the kernel's squashfs cannot read, where that can be told.
fn check_compression(
    release: &str,
    closure: &Closure<'_>,
    config: Option<&Config>,
    wanted: Compression,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let (known, by) = match (closure.symbols("squashfs"), config) {
        (Some(symbols), _) => (capability::of_squashfs_module(&symbols), "its module's symbols".to_owned()),
        (None, Some(config)) => (capability::of_squashfs_config(config), config.origin.clone()),
        (None, None) => {
            let (major, minor, patch) = capability::squashfs_since(wanted);
            if capability::version(release) < (major, minor, patch) {
                return Err(Error::missing(format!(
                    "squashfs of kernel {release} cannot read {wanted}: that came with Linux {major}.{minor}.{patch}"
                ))
                .hint("choose another with --compression"));
            }
            notes.push(format!(
                "whether the built-in squashfs of kernel {release} reads {wanted} could not be checked: no configuration was found"
            ));
            return Ok(());
        }
    };
    if known.contains(&wanted) {
        return Ok(());
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    let error = Error::missing(format!("squashfs of kernel {release} cannot read {wanted}, by {by}"));
    Err(match names.as_slice() {
        [] => error.hint("this kernel's squashfs reads no compression that is known here"),
        names => error.hint(format!("it reads: choose --compression {}", names.join(" or "))),
    })
}

/// The encodings that the kernel is proven to unpack as an initramfs.
fn encodings(
    release: &str,
    old: &[Segment],
    config: Option<&Config>,
    table: Option<&(BTreeSet<Encoding>, String)>,
    notes: &mut Vec<String>,
) -> BTreeSet<Encoding> {
    // It unpacks the image itself, and plain archives always.
    let mut proven: BTreeSet<Encoding> = old.iter().filter(|s| !s.early).map(|s| s.encoding).collect();
    proven.insert(Encoding::Plain);
    let by = if let Some(config) = config {
        proven.extend(capability::of_initramfs_config(config));
        config.origin.clone()
    } else if let Some((found, name)) = table {
        proven.extend(found);
        format!("the table of decompressors in {name}")
    } else {
        "the image, which uses it itself".to_owned()
    };
    notes.push(format!("kernel {release} unpacks {}, says {by}", best_encoding(&proven)));
    proven
}

fn shown(name: &str) -> &str {
    match name {
        "dm_snapshot" => "dm-snapshot",
        "dm_mod" => "dm-mod",
        other => other,
    }
}

/// `modules a, b (for c) are`.
fn are(missing: &[Missing]) -> String {
    let names: Vec<String> = missing
        .iter()
        .map(|m| match &m.needed_by {
            Some(by) => format!("{} (for {})", shown(&m.name), shown(by)),
            None => shown(&m.name).to_owned(),
        })
        .collect();
    match names.as_slice() {
        [one] => format!("module {one} is"),
        names => format!("modules {} are", names.join(", ")),
    }
}

fn report(
    lacking: &[(String, Vec<Missing>)],
    strangers: &[(&Source<'_>, &String)],
    unserved: &[String],
) -> Error {
    let mut what: Vec<String> = lacking
        .iter()
        .map(|(release, missing)| {
            format!("kernel {release}: {} neither in the image nor in --modules nor built in", are(missing))
        })
        .collect();
    what.extend(strangers.iter().map(|(source, release)| {
        let wanted: Vec<&str> = lacking.iter().map(|(wanted, _)| wanted.as_str()).collect();
        format!(
            "{} is for kernel {release}, not for {}: it would be refused",
            source.name,
            wanted.join(" or ")
        )
    }));
    what.extend(unserved.iter().cloned());
    let hints: Vec<String> = lacking.iter().map(|(release, _)| how_to_get(release)).collect();
    let error = Error::missing(what.join("; "));
    if hints.is_empty() { error } else { error.hint(hints.join("\n  ")) }
}
