//! What a conversion did → its report.

use super::directories::newest_time;
use super::ram::possible;
use super::{encodings, image_file, package_sizes};
use crate::contract::paths;
use crate::contract::{Handover, Overlay, RuntimeFormat, RuntimeFrom};
use crate::convert::{
    self, BlockReason, FormatReason, FrontEndKind, FrontEndReason, New, Note, RuntimeFacts,
};
use crate::image::split::Split;
use crate::report::data::{
    Added, Choice, Conversion, Directory, FrontEndPart, Identity, ImageFile, KernelPart, ModuleSize,
    PackageTotals, Part, Portion, Ram, SCHEMA_VERSION, Tool, Verified,
};
use crate::report::signs;
use crate::report::units::{mebibytes, size};

/// What boot firmware of PowerPC machines is documented to load over a network, bytes.
///
/// * 12 MiB: what IBM's Open Firmware leaves below itself with the real-base it is delivered with, c00000
///   (carloscosta.org/2008/07/22/changing-openfirmware-real-base); it cuts off larger files.
/// * 32 MiB: the address that the note in a kernel's zImage asks Open Firmware to move to (Linux commit 9b09c6d909df,
///   "powerpc: Change the default link address for pSeries zImage kernels"), or `setenv real-base 2000000`.
const POWERPC: [(u64, &str); 2] = [
    (12 << 20, "IBM's Open Firmware as delivered, real-base c00000"),
    (32 << 20, "with real-base 2000000, which a zImage kernel asks for"),
];

/// The report of a conversion.
#[must_use]
pub fn conversion(found: &convert::Conversion) -> Conversion {
    let Split { boot, runtime_parts, additions, runtime, .. } = &found.split;
    let mut notes: Vec<String> = found.notes.iter().map(note).collect();
    notes.extend(signs::remarks(&found.old.class));
    notes.extend(found.new.iter().flat_map(notes_of_new));
    notes.extend(block_devices(found));
    notes.extend(found.new.iter().flat_map(|new| cpu_notes(found, new)));
    let system = found.new.as_ref().map(|new| &new.system);
    let packages = system.and_then(|system| system.packages.as_ref());
    Conversion {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        dry_run: found.new.is_none(),
        old: ImageFile {
            newest_time: newest_time(runtime),
            ..image_file(found.old.path.display().to_string(), found.old.size, &found.old.parts)
        },
        new: found.new.as_ref().map(|new| new_file(found.path.display().to_string(), new, kept(found))),
        files: Vec::new(),
        identity: Identity::from(&found.old.class),
        choices: found.choices.iter().map(choice).collect(),
        front_end: found.new.as_ref().map(|new| front_end(&new.front_end)),
        ram_before: Ram::from(&found.old.facts.estimate(&found.machine)),
        ram_after: found.new.as_ref().map(|new| Ram::from(&new.facts.estimate(&found.machine))),
        boot: boot
            .iter()
            .map(|p| Portion { what: p.what.clone(), why: p.why.clone(), files: p.files, bytes: p.bytes })
            .collect(),
        runtime: runtime_parts
            .iter()
            .map(|p| Portion { what: p.what.clone(), why: p.why.clone(), files: p.files, bytes: p.bytes })
            .collect(),
        directories: match system {
            Some(system) => Directory::map(&system.tree, system.shares.by_inode(), None),
            None => Directory::map(runtime, None, None),
        },
        packages: packages.map_or_else(Vec::new, |(list, accounts)| package_sizes(list, accounts)),
        package_totals: packages.map(|(list, accounts)| PackageTotals::new(list, accounts)),
        additions: additions.iter().map(|a| Added { path: a.path.clone(), why: a.why.clone() }).collect(),
        notes,
        budgets: Vec::new(),
        verified: found.verified.map(|verified| Verified { paths: verified.paths, bytes: verified.bytes }),
    }
}

/// The file inside that holds the system, if the old initramfs stays.
fn kept(found: &convert::Conversion) -> Option<&str> {
    found.choices.iter().find_map(|choice| match choice {
        convert::Choice::FrontEnd(FrontEndKind::Kept, FrontEndReason::SystemInside(path)) => {
            Some(path.as_str())
        }
        _ => None,
    })
}

fn new_file(path: String, new: &New, kept: Option<&str>) -> ImageFile {
    let starts = if kept.is_some() {
        "the old one, without what is in the squashfs"
    } else {
        "mounts the runtime and starts the system's own init"
    };
    let runtime = match (kept, new.runtime) {
        (Some(file), _) => &format!("{file}, which is read in place"),
        (None, RuntimeFacts::Btrfs(_)) => &format!("the runtime: {}, a btrfs file system", paths::ROOTFS),
        (None, RuntimeFacts::Squashfs(_)) => "the runtime: the squashfs itself",
    };
    let (inside, separate) = if new.separate.is_some() { (0, new.squashfs) } else { (new.squashfs, 0) };
    let total = new.parts.total + separate;
    let parts = [
        ("early cpio", new.parts.early, "what the kernel reads before it unpacks anything, byte for byte"),
        (paths::SQUASHFS, inside, runtime),
        ("cpio around it", new.parts.squashfs_cpio - inside, "headers, padding, /etc/cmdline.d"),
        ("boot initramfs", new.parts.front_end, starts),
        ("boot configuration", new.parts.bootconfig, "unchanged, byte for byte"),
        ("kernel and headers", new.parts.around, "what the initrd is packed in, as in the old image"),
        (&format!("{}, separate", paths::SQUASHFS), separate, runtime),
    ];
    // The system is the same: the old image's date is also that of the new one.
    ImageFile { path, size: total, parts: Part::list(total, parts), sha256: None, newest_time: None }
}

fn front_end(found: &convert::FrontEndPart) -> FrontEndPart {
    let kernel = |(version, modules): &(String, Vec<convert::ModuleSize>)| KernelPart {
        version: version.clone(),
        bytes: modules.iter().map(|module| module.bytes).sum(),
        modules: modules
            .iter()
            .map(|module| ModuleSize { name: module.name.clone(), bytes: module.bytes })
            .collect(),
    };
    FrontEndPart {
        maker: found.maker.clone(),
        encoding: encodings(&found.encodings),
        compressed: found.compressed,
        unpacked: found.unpacked,
        kernels: found.kernels.iter().map(kernel).collect(),
        notes: found.notes.clone(),
    }
}

fn choice(choice: &convert::Choice) -> Choice {
    use convert::Choice as C;
    let (what, chosen, why) = match choice {
        C::AssumedMonolith { maker, evidence } => (
            "kind of image",
            "monolith".into(),
            format!(
                "--assume-monolith, although it looks like an initramfs made by {maker}: {}",
                evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            ),
        ),
        C::FrontEnd(kind, reason) => ("front-end", front_end_name(kind), front_end_reason(kind, reason)),
        C::Init(init) => ("init", init.clone(), "requested with --init".into()),
        C::Overlay { overlay, requested } => {
            let why = match (requested, overlay) {
                (true, _) => "requested with --overlay",
                (false, Overlay::DeviceMapper) => "the default, and the kernel has dm-snapshot",
                (false, Overlay::Overlayfs) => "dm-snapshot was not found for every kernel",
            };
            ("overlay", overlay.to_string(), why.into())
        }
        C::Format(format, reason) => {
            let name = match format {
                RuntimeFormat::Btrfs => "btrfs inside the squashfs",
                RuntimeFormat::Squashfs => "the squashfs itself, under overlayfs",
            };
            let why = match reason {
                FormatReason::Requested => "requested with --runtime-format".into(),
                FormatReason::Optimized(goal) => {
                    format!("--optimize {}: smaller, because it has no metadata of btrfs", goal.name())
                }
                FormatReason::Default => "the default, and every kernel can mount it".into(),
                FormatReason::NoBtrfs { kernel, option, config } => {
                    format!("kernel {kernel} was built without btrfs: {option} is not set in {config}")
                }
            };
            ("runtime format", name.into(), why)
        }
        C::Expanded(done, why) => (
            "kernel modules",
            format!(
                "{} stored unpacked under their names: {} instead of {}",
                done.modules,
                size(done.unpacked),
                size(done.packed)
            ),
            format!("requested with --expand-modules; {why}"),
        ),
        C::Btrfs(features, kernels) => {
            let why = format!("what kernel {} can mount", kernels.join(", "));
            ("btrfs features", features.notes().join("; "), why)
        }
        C::Squashfs { stored: true, .. } => {
            ("squashfs", "not compressed".into(), "the file inside is compressed already".into())
        }
        C::Squashfs { compression, block_size, block_reason, thorough, bcj, .. } => {
            let filter = if *bcj { ", branch filter for machine code" } else { "" };
            let search = if *thorough { ", thorough search" } else { "" };
            let chosen = format!("{compression}, blocks of {} KiB{filter}{search}", block_size >> 10);
            ("squashfs", chosen, block_size_reason(*block_reason))
        }
        C::Encoding(encoding) => (
            "compression of the boot initramfs",
            encoding.to_string(),
            "the best that every kernel is known to unpack".into(),
        ),
        C::Handover(handover, why) => {
            let state = match handover {
                Handover::Bare => "unmounted",
                Handover::Mounted => "mounted",
            };
            ("state for init", format!("/proc, /sys, /dev and /run {state}"), why.to_string())
        }
        C::Runtime(from) => ("runtime", runtime(from), "--runtime-from, or its default".into()),
    };
    Choice { what: what.into(), chosen, why }
}

fn block_size_reason(reason: BlockReason) -> String {
    match reason {
        BlockReason::LeastMemory { cpus, saved: 0 } => {
            format!("the block size with the lowest minimum RAM for {}", possible(cpus))
        }
        BlockReason::LeastMemory { cpus, saved } => format!(
            "the block size with the lowest minimum RAM for {}: about {} less than with blocks of 1 MiB, computed",
            possible(cpus),
            mebibytes(saved)
        ),
        BlockReason::Smallest => "the block size that makes the smallest image".into(),
        BlockReason::Requested => "requested with --block-size".into(),
    }
}

fn front_end_name(kind: &FrontEndKind) -> String {
    match kind {
        FrontEndKind::BuiltIn => "built-in".into(),
        FrontEndKind::Dracut(version) => format!("dracut {version}"),
        FrontEndKind::ReadyMade(path) => path.display().to_string(),
        FrontEndKind::Kept => "the old initramfs".into(),
    }
}

fn front_end_reason(kind: &FrontEndKind, reason: &FrontEndReason) -> String {
    match (kind, reason) {
        (FrontEndKind::ReadyMade(_), FrontEndReason::Requested) => "--front-end names this initramfs".into(),
        (_, FrontEndReason::Requested) => "requested with --front-end".into(),
        (_, FrontEndReason::SystemInside(path)) => {
            format!("it mounts its system, {path}, which is all that has to be moved")
        }
        (_, FrontEndReason::Optimized(goal)) => {
            format!("--optimize {}: the smallest, and it starts the fastest", goal.name())
        }
        (_, FrontEndReason::Retained) => "only it reads a retained runtime in place".into(),
        (_, FrontEndReason::Fetches) => {
            "it fetches the runtime with less RAM than dracut, and checks its SHA-256; for bonds, VLANs or IPv6 use \
             --front-end dracut"
                .into()
        }
        (_, FrontEndReason::HostHasDracut) => "the host's dracut has dmsquash-live".into(),
        (_, FrontEndReason::OtherMachine { kernel, host }) => {
            format!("the kernel is for {kernel}, and dracut on this machine packs programs for {host}")
        }
        (_, FrontEndReason::NoDracut(why)) => why.clone(),
    }
}

fn runtime(from: &RuntimeFrom) -> String {
    match from {
        RuntimeFrom::Initramfs => "in the initramfs".into(),
        RuntimeFrom::Retained => "in the image as the boot loader placed it, never copied".into(),
        RuntimeFrom::Network(address) => format!("downloaded from {address}"),
        RuntimeFrom::Label(label) => format!("on the medium labelled {label}"),
        RuntimeFrom::Uuid(uuid) => format!("on the medium with UUID {uuid}"),
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::Found(sentence) => sentence.clone(),
        Note::NoRdinit(init) => format!(
            "the new image has an /init, which starts {init}: leave rdinit={init} out of the kernel's command line"
        ),
        Note::LessMemory { built_in: Some(bytes) } => format!(
            "--front-end built-in needs {} (computed); --optimize ram also takes a squashfs runtime and a thorough search",
            mebibytes(*bytes)
        ),
        Note::LessMemory { built_in: None } => {
            "--optimize ram makes a smaller image that needs less RAM: a squashfs runtime and a thorough search, which takes \
             longer"
                .into()
        }
        Note::NoLiveModule(path) => format!(
            "no dmsquash-live was found in {}: it has to understand root=live: and rd.live.image",
            path.display()
        ),
    }
}

/// From how many possible CPUs on a conversion is no gain, and what limits their number.
fn cpu_notes(found: &convert::Conversion, new: &New) -> Vec<String> {
    let mut notes = Vec::new();
    let machine = &found.machine;
    if let Some(from) = new.facts.worse_from(&found.old.facts, machine) {
        notes.push(format!(
            "warning: on machines with {} or more the new image needs more RAM than the old one (computed): convert with \
             --cpus {from} or more, or add nr_cpus= to the kernel's command line",
            possible(from)
        ));
    }
    let (all, few) = (new.facts.minimum(&machine.with_cpus(128)), new.facts.minimum(&machine.with_cpus(8)));
    if all > few + few / 10 {
        notes.push(format!(
            "a machine with 128 possible CPUs needs {} (computed); with nr_cpus=8 on the kernel's command line, {}",
            mebibytes(all),
            mebibytes(few)
        ));
    }
    notes
}

/// The block devices that the running system shows, which an installer may list as disks.
fn block_devices(found: &convert::Conversion) -> Option<String> {
    let overlay = found.choices.iter().find_map(|choice| match choice {
        convert::Choice::Overlay { overlay, .. } => Some(*overlay),
        _ => None,
    })?;
    let btrfs = matches!(found.new.as_ref()?.runtime, RuntimeFacts::Btrfs(_));
    Some(match (btrfs, overlay) {
        (false, _) => "the running system shows one more block device, loop0, which is read-only".into(),
        (true, Overlay::Overlayfs) => {
            "the running system shows two more block devices, loop0 and loop1, which are read-only".into()
        }
        (true, Overlay::DeviceMapper) => {
            "the running system shows four more block devices: loop0 and loop1, which are read-only, loop2 and dm-0, which \
             is the root: an installer may list them as disks (--overlay overlayfs leaves the last two out)"
                .into()
        }
    })
}

fn notes_of_new(new: &New) -> Vec<String> {
    let mut notes = vec![match new.runtime {
        RuntimeFacts::Btrfs(facts) => format!(
            "btrfs: {} of data and {} of metadata; {} of content is stored once for several files",
            size(facts.data),
            size(facts.metadata),
            size(facts.shared),
        ),
        RuntimeFacts::Squashfs(facts) => format!(
            "squashfs: {} of data in {} inodes; {} of content is stored once for several files",
            size(facts.data),
            facts.inodes,
            size(facts.shared),
        ),
    }];
    let Some((runtime, entries)) = &new.separate else { return notes };
    notes.push(format!(
        "the runtime is {}; entries for GRUB, PXELINUX and iPXE, ready to paste, are in {}",
        runtime.display(),
        entries.display()
    ));
    let limits: Vec<String> = POWERPC
        .iter()
        .map(|(limit, what)| {
            let fits = if new.parts.total <= *limit { "fits" } else { "does not fit" };
            format!("{fits} into {} ({what})", mebibytes(*limit))
        })
        .collect();
    notes.push(format!(
        "netboot of PowerPC machines: the part to load first has {} bytes and, without the kernel, {}",
        new.parts.total,
        limits.join("; ")
    ));
    notes
}
