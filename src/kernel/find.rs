//! The search for the kernels that an image can be booted with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::closure::Missing;
use super::hints::{how_to_get, without_btrfs};
use super::resolve::{Demand, Lacking, Outcome, Search, resolve_kernel};
use super::source::Source;
use super::{Kernel, KernelFile, Wanted, drivers};
use crate::contract::{Overlay, RuntimeFormat, RuntimeFrom};
use crate::error::Error;
use crate::initrd::Segment;
use crate::tree::Tree;

/// The kernels that the image can be booted with, each with all that it has to load to reach the runtime.
///
/// Without `vmlinuz` every kernel of the image's lib/modules has to boot; with it that kernel has to, and the others do
/// if their modules are found. `modules` are the paths of `--modules`; `old` are the image's segments, whose encodings
/// the kernel is known to unpack.
///
/// # Errors
/// [`crate::error::Kind::Missing`] naming everything that is missing and how to get it, also if a source has the modules
/// of another kernel; input errors if a source is damaged.
pub fn find(
    tree: &Tree,
    old: &[Segment],
    modules: &[PathBuf],
    vmlinuz: Option<&Path>,
    wanted: &Wanted<'_>,
) -> Result<Vec<Kernel>, Error> {
    if wanted.format == Some(RuntimeFormat::Squashfs) && wanted.overlay == Some(Overlay::DeviceMapper) {
        return Err(Error::usage("a squashfs runtime cannot be written to through a device-mapper snapshot")
            .hint("use --overlay overlayfs, or a btrfs runtime"));
    }
    let drivers = drivers_for(wanted);
    let keep = worth_keeping(&drivers);
    let mut sources = vec![Source::tree(tree, "the image")];
    sources.extend(wanted.ready_made.map(|(name, front_end)| Source::tree(front_end, name)));
    for path in modules {
        sources.push(Source::open(path, &keep)?);
    }
    let given = vmlinuz.map(KernelFile::read).transpose()?;
    let mut search =
        Search { sources: &sources, given, old, wanted: *wanted, again: false, drivers: &drivers };
    loop {
        let kernels = resolve_all(&mut search)?;
        let Some(common) = common_choice(&kernels, &search.wanted) else { return Ok(kernels) };
        // One boot initramfs has one runtime and one overlay: those that every kernel can have are searched for again.
        search.wanted = common;
        search.again = true;
    }
}

/// What all kernels have to be asked for because they differ in what they can do; `None` if they agree.
fn common_choice<'a>(kernels: &[Kernel], wanted: &Wanted<'a>) -> Option<Wanted<'a>> {
    let first = kernels.first()?;
    if kernels.iter().any(|kernel| kernel.format != first.format) {
        return Some(Wanted {
            format: Some(RuntimeFormat::Squashfs),
            overlay: Some(Overlay::Overlayfs),
            ..*wanted
        });
    }
    kernels
        .iter()
        .any(|kernel| kernel.overlay != first.overlay)
        .then_some(Wanted { overlay: Some(Overlay::Overlayfs), ..*wanted })
}

/// The kernels that are asked for, by release, or those of the sources if none is.
fn demands(search: &Search<'_>) -> Result<BTreeMap<String, Demand>, Error> {
    let image = search.sources.first();
    let mut demands: BTreeMap<String, Demand> = BTreeMap::new();
    for release in image.into_iter().flat_map(|image| image.versions.keys()) {
        demands.insert(release.clone(), Demand { required: search.given.is_none(), in_image: true });
    }
    if let Some(given) = &search.given {
        demands.entry(given.release.clone()).or_insert(Demand { required: true, in_image: false }).required =
            true;
    }
    if demands.is_empty() {
        let others = search.sources.iter().skip(1).flat_map(|source| source.versions.keys().cloned());
        demands.extend(others.map(|release| (release, Demand { required: true, in_image: false })));
    }
    if demands.is_empty() {
        return Err(Error::missing("the image has no lib/modules/VERSION, so its kernel is not known").hint(
            "name the kernel with --kernel VMLINUZ, and its modules with --modules PATH (.deb, .rpm or directory)",
        ));
    }
    Ok(demands)
}

/// Sources of which no kernel is among the demanded ones, each with its releases: another kernel's modules by mistake, or
/// a further kernel on purpose.
fn unmatched_sources<'a>(
    sources: &'a [Source<'a>],
    demands: &BTreeMap<String, Demand>,
) -> Vec<(&'a str, &'a str)> {
    sources
        .iter()
        .skip(1)
        .filter(|source| !source.versions.keys().any(|release| demands.contains_key(release)))
        .flat_map(|source| {
            source.versions.keys().map(move |release| (source.name.as_str(), release.as_str()))
        })
        .collect()
}

/// Resolves every kernel that is demanded, then those of the unmatched sources.
fn resolve_all(search: &mut Search<'_>) -> Result<Vec<Kernel>, Error> {
    let demands = demands(search)?;
    let mut kernels = Vec::new();
    let mut lacking = Vec::new();
    let mut skipped = Vec::new();
    for (release, demand) in &demands {
        match resolve_kernel(search, release, *demand)? {
            Outcome::Bootable(kernel) => kernels.push(*kernel),
            Outcome::Lacking(kernel) if demand.required => lacking.push(kernel),
            Outcome::Lacking(kernel) => skipped.push(format!(
                "the new image will not boot with kernel {release} of the old one: {} nowhere to be found",
                are(&kernel.missing)
            )),
        }
    }
    let unmatched = unmatched_sources(search.sources, &demands);
    if !lacking.is_empty() || kernels.is_empty() {
        return Err(missing(&lacking, &unmatched, &skipped, search.again));
    }
    let further: BTreeSet<&str> = unmatched.iter().map(|(_, release)| *release).collect();
    for release in further {
        match resolve_kernel(search, release, Demand { required: true, in_image: false })? {
            Outcome::Bootable(kernel) => kernels.push(*kernel),
            Outcome::Lacking(kernel) => lacking.push(kernel),
        }
    }
    if !lacking.is_empty() {
        return Err(missing(&lacking, &[], &skipped, search.again));
    }
    for kernel in &mut kernels {
        kernel.notes.extend(skipped.iter().cloned());
    }
    kernels.sort_by(|a, b| a.modules.version.cmp(&b.modules.version));
    Ok(kernels)
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

/// Which files of a package are kept while it streams by: not the hundreds of megabytes that no boot initramfs needs,
/// unless a driver is asked for by name, which can be anywhere.
fn worth_keeping(drivers: &[drivers::Driver]) -> impl Fn(&str) -> bool + use<> {
    let everything = drivers.iter().any(|driver| driver.set.is_none());
    let hardware = !drivers.is_empty();
    move |path: &str| {
        let Some(path) = path.strip_prefix("kernel/") else { return true };
        let below = |directories: &[&str]| directories.iter().any(|directory| path.starts_with(directory));
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

fn shown(name: &str) -> &str {
    match name {
        "dm_snapshot" => "dm-snapshot",
        "dm_mod" => "dm-mod",
        other => other,
    }
}

/// `modules a, b (for c) are`.
pub(super) fn are(missing: &[Missing]) -> String {
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

/// The error that names what each kernel lacks, the sources that are for another kernel, and what to do.
fn missing(
    lacking: &[Lacking],
    unmatched: &[(&str, &str)],
    skipped: &[String],
    searched_again: bool,
) -> Error {
    let mut what: Vec<String> = lacking.iter().map(Lacking::to_string).collect();
    what.extend(unmatched.iter().map(|(source, release)| {
        let wanted: Vec<&str> = lacking.iter().map(|kernel| kernel.release.as_str()).collect();
        format!("{source} is for kernel {release}, not for {}, which would refuse it", wanted.join(" or "))
    }));
    what.extend(skipped.iter().cloned());
    let mut what = what.join("; ");
    if searched_again {
        what = format!("every kernel needs the same overlay: {what}");
    }
    let hints: Vec<String> = lacking.iter().map(hint).collect();
    let error = Error::missing(what);
    if hints.is_empty() { error } else { error.hint(hints.join("\n  ")) }
}

/// What to do about a kernel that lacks something. No package has what the kernel was built without.
fn hint(kernel: &Lacking) -> String {
    let (denied, absent): (Vec<&Missing>, Vec<&Missing>) =
        kernel.missing.iter().partition(|missing| missing.denied_by.is_some());
    let btrfs_only = |missing: &[&Missing]| missing.iter().all(|m| m.name == "btrfs");
    if absent.is_empty() && btrfs_only(&denied) {
        return "use --runtime-format squashfs, which needs no btrfs".into();
    }
    if !denied.is_empty() {
        return "boot with a kernel that has them: no package of this one does".into();
    }
    let get = how_to_get(&kernel.release);
    if without_btrfs(&kernel.release) && absent.iter().any(|m| m.name == "btrfs") {
        return format!(
            "Red Hat's kernels since version 8 and their rebuilds have no btrfs: use --runtime-format squashfs; for the \
             other modules, {get}"
        );
    }
    get
}
