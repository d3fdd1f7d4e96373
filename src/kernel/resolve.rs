//! One kernel: which modules it has to load to reach the runtime, and what it can do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::closure::{BuiltIn, Closure, Missing};
use super::config::Config;
use super::find::are;
use super::source::Source;
use super::{Btrfs, Facts, Kernel, KernelFile, KernelModules, Origin, Wanted, capability, drivers, vmlinuz};
use crate::codec::{Compression, Encoding};
use crate::contract::{Overlay, RuntimeFormat, RuntimeFrom};
use crate::elf::Archs;
use crate::error::Error;
use crate::initrd::Segment;

/// A kernel that the new image has to boot with, or may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) required: bool,
    pub(super) in_image: bool,
}

/// What is the same for all kernels of one search.
pub(super) struct Search<'a> {
    /// Where modules may be, in order of preference; the image comes first.
    pub(super) sources: &'a [Source<'a>],
    /// The user's `--kernel`.
    pub(super) given: Option<KernelFile>,
    pub(super) old: &'a [Segment],
    pub(super) wanted: Wanted<'a>,
    /// Whether this is the second search, after the kernels differed in what they can do.
    pub(super) again: bool,
    pub(super) drivers: &'a [drivers::Driver],
}

/// A kernel that cannot reach the runtime.
#[derive(Debug)]
pub(super) struct Lacking {
    pub(super) release: String,
    pub(super) missing: Vec<Missing>,
    /// Where its configuration was found.
    config: Option<String>,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}: ", self.release)?;
        let (denied, absent): (Vec<Missing>, Vec<Missing>) =
            self.missing.iter().cloned().partition(|missing| missing.denied_by.is_some());
        if !denied.is_empty() {
            let options: Vec<&str> = denied.iter().filter_map(|m| m.denied_by.as_deref()).collect();
            let names: Vec<&str> = denied.iter().map(|m| m.name.as_str()).collect();
            let config = self.config.as_deref().unwrap_or("its configuration");
            write!(f, "built without {}: {} is not set in {config}", names.join(", "), options.join(", "))?;
        }
        if !absent.is_empty() {
            let and = if denied.is_empty() { "" } else { "; " };
            write!(
                f,
                "{and}{} missing: neither in the image, nor in --modules, nor built into the kernel",
                are(&absent)
            )?;
        }
        Ok(())
    }
}

/// Whether a kernel reaches the runtime.
pub(super) enum Outcome {
    Bootable(Box<Kernel>),
    Lacking(Lacking),
}

/// What is read about a kernel before its modules are.
struct Survey {
    modules_builtin: Option<Vec<u8>>,
    modules_builtin_modinfo: Option<Vec<u8>>,
    config: Option<Config>,
    /// The decompressors in the kernel's own table, and the name of its file; looked for only without a configuration.
    decompressors: Option<(BTreeSet<Encoding>, String)>,
    /// What the kernel file says, the machine of its modules not known yet.
    facts: Facts,
}

/// Finds out whether one kernel reaches the runtime, and how.
pub(super) fn resolve_kernel(
    search: &mut Search<'_>,
    release: &str,
    demand: Demand,
) -> Result<Outcome, Error> {
    let survey = survey(search, release)?;
    let (search, config) = (&*search, survey.config.as_ref());
    let built_in =
        BuiltIn::parse(survey.modules_builtin.as_deref(), survey.modules_builtin_modinfo.as_deref());
    let mut closure = Closure::new(release, search.sources.iter().collect(), built_in, config)?;
    let mut notes = Vec::new();
    let reached = reach(&mut closure, search, config, &mut notes)?;
    if !reached.missing.is_empty() {
        match search.wanted.ready_made {
            Some((name, _)) => notes.push(format!(
                "whether {name} reaches the runtime with kernel {release} could not be checked: {} nowhere to be found",
                are(&reached.missing)
            )),
            None => {
                return Ok(Outcome::Lacking(Lacking {
                    release: release.to_owned(),
                    missing: reached.missing,
                    config: config.map(|config| config.origin.clone()),
                }));
            }
        }
    }
    if !demand.in_image {
        notes.push(format!("kernel {release} has no modules in the image: the old system runs without them"));
    }
    check_compression(release, &closure, config, search.wanted.compression, &mut notes)?;
    let filters = branch_filters(release, &closure, config, &search.wanted, &mut notes);
    let encodings = encodings(release, search.old, config, survey.decompressors.as_ref(), &mut notes);
    let retained = capability::retained(release, config);
    let btrfs = btrfs(&closure, config);
    let mut facts = survey.facts;
    if let Some(machine) = closure.machine() {
        facts = facts.for_machine(machine);
    }
    let early = closure.early();
    let (modules, origin) = collect(closure, search.sources);
    Ok(Outcome::Bootable(Box::new(Kernel {
        modules: KernelModules {
            version: release.to_owned(),
            modules,
            early,
            modules_builtin: survey.modules_builtin,
            modules_builtin_modinfo: survey.modules_builtin_modinfo,
        },
        format: reached.format,
        btrfs,
        overlay: reached.overlay,
        filters,
        encodings,
        retained,
        facts,
        origin,
        notes,
    })))
}

/// Reads the lists and the configuration of a kernel.
fn survey(search: &mut Search<'_>, release: &str) -> Result<Survey, Error> {
    let list = |name: &'static str| -> Result<Option<(&Source<'_>, Vec<u8>)>, Error> {
        for source in search.sources {
            if let Some(bytes) = source.list(release, name)? {
                return Ok(Some((source, bytes)));
            }
        }
        Ok(None)
    };
    let modules_builtin = list("modules.builtin")?.map(|(_, bytes)| bytes);
    let modules_builtin_modinfo = list("modules.builtin.modinfo")?.map(|(_, bytes)| bytes);
    let mut config = None;
    for source in search.sources {
        if let Some(text) = source.list(release, "config")?
            && config.is_none()
        {
            config = Config::parse(&text, format!("the configuration in {}", source.name));
        }
    }
    let given = search.given.as_mut().filter(|given| given.release == release);
    // Unpacking the kernel file takes a second, and its sizes are worth that.
    let mut unpacked = vmlinuz::Unpacked::default();
    let packaged = if given.is_none() { list("vmlinuz")? } else { None };
    let (name, image, kernel) = match (given, &packaged) {
        (Some(KernelFile { path, bytes, unpacked, .. }), _) => {
            (path.display().to_string(), Some(bytes.as_slice()), unpacked.get(bytes))
        }
        (None, Some((source, file))) => {
            (format!("the kernel in {}", source.name), Some(file.as_slice()), unpacked.get(file))
        }
        (None, None) => (String::new(), None, None),
    };
    let config = config.or_else(|| {
        let text = kernel.and_then(vmlinuz::embedded_config)?;
        Config::parse(&text, format!("the configuration inside {name}"))
    });
    let facts = Facts::of(release, None, config.as_ref(), image, kernel);
    let decompressors = kernel.and_then(vmlinuz::decompressors).map(|found| (found, name));
    Ok(Survey { modules_builtin, modules_builtin_modinfo, config, decompressors, facts })
}

/// How a kernel reaches the runtime.
struct Reached {
    format: RuntimeFormat,
    overlay: Overlay,
    missing: Vec<Missing>,
}

/// Adds to the closure all that the runtime needs.
fn reach(
    closure: &mut Closure<'_>,
    search: &Search<'_>,
    config: Option<&Config>,
    notes: &mut Vec<String>,
) -> Result<Reached, Error> {
    let wanted = &search.wanted;
    let mut missing = Vec::new();
    for root in ["loop", "squashfs"] {
        missing.extend(closure.add(root)?);
    }
    if wanted.in_place {
        return Ok(Reached { format: RuntimeFormat::Squashfs, overlay: Overlay::Overlayfs, missing });
    }
    let format = match (wanted.format, btrfs(closure, config)) {
        (Some(format), _) => format,
        (None, Btrfs::NotBuilt { option, config }) => {
            notes.push(format!(
                "the runtime is a squashfs under overlayfs, because the kernel was built without btrfs: {option} is not \
                 set in {config}"
            ));
            RuntimeFormat::Squashfs
        }
        (None, Btrfs::Available | Btrfs::NotFound) => RuntimeFormat::Btrfs,
    };
    add_drivers(closure, wanted.runtime, search.drivers, &mut missing, notes)?;
    let overlay = match format {
        RuntimeFormat::Squashfs => {
            missing.extend(closure.add("overlay")?);
            Overlay::Overlayfs
        }
        RuntimeFormat::Btrfs => {
            closure.squashfs_is_mounted();
            missing.extend(closure.add("btrfs")?);
            add_overlay(closure, wanted.overlay, &mut missing, notes)?
        }
    };
    missing.sort();
    missing.dedup();
    Ok(Reached { format, overlay, missing })
}

/// Whether the kernel can mount a btrfs.
fn btrfs(closure: &Closure<'_>, config: Option<&Config>) -> Btrfs {
    match (closure.denied("btrfs"), config) {
        (Some(option), Some(config)) => Btrfs::NotBuilt { option, config: config.origin.clone() },
        _ if closure.has("btrfs") => Btrfs::Available,
        _ => Btrfs::NotFound,
    }
}

/// The branch filters that xz may use. That the one for the kernel's own machine is missing is noted.
fn branch_filters(
    release: &str,
    closure: &Closure<'_>,
    config: Option<&Config>,
    wanted: &Wanted<'_>,
    notes: &mut Vec<String>,
) -> Archs {
    if !wanted.bcj || wanted.compression != Compression::Xz {
        return Archs::NONE;
    }
    let symbols = closure.symbols("xz_dec");
    if let Err(why) = capability::own_branch_filter(closure.machine(), config, symbols.as_ref()) {
        notes.push(format!("kernel {release}: xz without the branch filter: {why}"));
    }
    capability::branch_filters(config, symbols.as_ref())
}

/// The modules of the closure, and how many came from each source.
fn collect(closure: Closure<'_>, sources: &[Source<'_>]) -> (Vec<super::Module>, Vec<Origin>) {
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
    (modules, origin.into_values().collect())
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
                notes.push(format!("overlayfs, because the {} nowhere to be found", are(&snapshot)));
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
                notes.push(format!("without {version}: the {} nowhere to be found", are(&lacking)));
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
        notes.push(format!("these drivers of the set `{set}` were not found: {}", names.join(", ")));
    }
    Ok(())
}

/// Refuses a compression that the kernel's squashfs cannot read, if that is known.
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
            let since = capability::squashfs_since(wanted);
            if !since.reached_by(release) {
                return Err(Error::missing(format!(
                    "squashfs of kernel {release} cannot read {wanted}, which came with Linux {since}"
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
        [] => error.hint("btrsquash knows no compression that this kernel's squashfs reads"),
        names => error.hint(format!("choose --compression {}, which it reads", names.join(" or "))),
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
    notes.push(format!("kernel {release} unpacks {}, according to {by}", capability::best(&proven)));
    proven
}
