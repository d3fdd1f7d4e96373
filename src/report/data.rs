//! The data of every report, as the JSON schemas in `src/report/schema` describe it.
//!
//! Sizes are bytes. Paths of an image are shown through [`crate::tree::display`]: names that are not UTF-8 and control
//! characters are escaped. Nothing here holds a wall-clock time unless the user asked for timings.

use serde::{Deserialize, Serialize};

/// The version of the JSON that the exporters write; grows when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Who wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Program name.
    pub name: String,
    /// Program version.
    pub version: String,
}

impl Default for Tool {
    fn default() -> Self {
        Self { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// Whether a figure was taken from a running machine or follows from the model in `footprint.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Seen on a (virtual) machine.
    Measured,
    /// Worked out by the model.
    Computed,
}

/// The unit of a [`Figure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes of memory.
    Bytes,
    /// Inodes.
    Inodes,
    /// Milliseconds.
    Milliseconds,
}

/// A figure about memory that says where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The value.
    pub value: u64,
    /// Its unit.
    pub unit: Unit,
    /// Measured or computed.
    pub origin: Origin,
}

impl Figure {
    /// A computed number of bytes.
    #[must_use]
    pub const fn computed(bytes: u64) -> Self {
        Self { value: bytes, unit: Unit::Bytes, origin: Origin::Computed }
    }
    /// A measured number of bytes.
    #[must_use]
    pub const fn measured(bytes: u64) -> Self {
        Self { value: bytes, unit: Unit::Bytes, origin: Origin::Measured }
    }
}

/// A part of an image file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is: `early cpio`, `squashfs`, `front-end`, `padding`, …
    pub name: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// Share of the whole file, 0 to 1.
    pub share: f64,
    /// Why it is there.
    pub why: String,
}

impl Part {
    /// The parts of a file of `total` bytes, each `(name, bytes, why)` with its share; empty parts are left out.
    pub fn list<'a>(total: u64, parts: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Vec<Self> {
        parts
            .into_iter()
            .filter(|&(_, bytes, _)| bytes > 0)
            .map(|(name, bytes, why)| Self {
                name: name.into(),
                bytes,
                share: share(bytes, total),
                why: why.into(),
            })
            .collect()
    }
}

/// `part` of `whole` to four digits, so that the same image gives the same text everywhere.
#[must_use]
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0 }
}

/// An image file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// The file, as the user named it.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// What it is made of, in the order in the file.
    pub parts: Vec<Part>,
}

/// What an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `monolith`, `front-end (dracut)`, `converted (btrsquash)`, `squashfs`.
    pub verdict: String,
    /// What speaks for that verdict, a sentence each.
    pub why: Vec<String>,
    /// The first program.
    pub init: Option<String>,
    /// What kind of program it is: `shell script`, `systemd`, …
    pub init_kind: String,
    /// How the first program wants to find the machine: `bare` or `mounted`.
    pub handover: String,
    /// Why.
    pub handover_why: String,
    /// Architecture, as `uname -m` names it.
    pub architecture: Option<String>,
    /// Kernel releases with modules in the image.
    pub kernels: Vec<String>,
    /// The distribution, as its os-release names it.
    pub distribution: Option<String>,
}

/// Something that was chosen, by the user or by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What had to be chosen.
    pub what: String,
    /// What was.
    pub chosen: String,
    /// Why.
    pub why: String,
}

/// A kernel module in a front-end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSize {
    /// Its name.
    pub name: String,
    /// Bytes, uncompressed.
    pub bytes: u64,
}

/// What one kernel adds to a front-end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelPart {
    /// Release, as `uname -r` gives it.
    pub version: String,
    /// Bytes of all its modules, uncompressed.
    pub bytes: u64,
    /// The modules in the order in which they are loaded.
    pub modules: Vec<ModuleSize>,
}

/// The front-end of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontEndPart {
    /// Who made it: `dracut 059`, `built-in`, a file's name.
    pub maker: String,
    /// How it is compressed.
    pub encoding: String,
    /// Bytes as it lies in the image.
    pub compressed: u64,
    /// Bytes of the unpacked archive.
    pub unpacked: u64,
    /// What each kernel adds.
    pub kernels: Vec<KernelPart>,
    /// What was chosen and why, a sentence each.
    pub notes: Vec<String>,
}

/// A term of the memory model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RamPart {
    /// What it is.
    pub name: String,
    /// How much.
    pub figure: Figure,
    /// Why it counts.
    pub why: String,
}

/// A moment of the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Which one: `kernel starts`, `unpacking`, `hand-over`, …
    pub name: String,
    /// Memory that is in use then and cannot be reclaimed.
    pub used: Figure,
    /// The same as seen on a machine, where it was measured.
    pub measured: Option<Figure>,
}

/// The memory an image needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ram {
    /// The least size of a machine that boots it.
    pub least: Figure,
    /// The same, measured (`boot --find-min`).
    pub measured: Option<Figure>,
    /// What `least` is made of.
    pub parts: Vec<RamPart>,
    /// Memory in use over the boot.
    pub phases: Vec<Phase>,
    /// How `least` follows from its parts.
    pub formula: String,
    /// What the figures take for granted.
    pub notes: Vec<String>,
}

impl Ram {
    /// The least machine in bytes: measured where it was, else computed.
    #[must_use]
    pub fn best(&self) -> Figure {
        self.measured.unwrap_or(self.least)
    }
}

/// A share of the files and the reason why it went where it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portion {
    /// What it is.
    pub what: String,
    /// Why it is in this portion.
    pub why: String,
    /// Number of paths.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// A path that the runtime has and the original has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// The path.
    pub path: String,
    /// Why it was added.
    pub why: String,
}

/// How a text file differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextDifference {
    /// The path.
    pub path: String,
    /// A unified diff.
    pub diff: String,
    /// Whether the diff was cut short.
    pub truncated: bool,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The stage.
    pub stage: String,
    /// Wall time in milliseconds.
    pub milliseconds: u64,
}

/// A limit the user set and what came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is limited: `size` or `ram`.
    pub what: String,
    /// The limit in bytes.
    pub limit: u64,
    /// The figure in bytes.
    pub actual: u64,
    /// Whether it is within the limit.
    pub kept: bool,
}

/// A folder with all that is below it, for size listings and the treemap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Its name; `/` for the root.
    pub name: String,
    /// Bytes of all content below it, a hard-linked file counted once.
    pub bytes: u64,
    /// Number of files below it that are no folders.
    pub files: u64,
    /// The folders and large files in it, largest first, down to a limited depth.
    pub folders: Vec<Folder>,
}

/// What `convert` did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// Whether nothing was written: sizes of `new` are then what is known without compressing.
    pub dry_run: bool,
    /// The original.
    pub old: ImageFile,
    /// The new image; with a split layout its files are its parts. `None` in a dry run.
    pub new: Option<ImageFile>,
    /// What the original is.
    pub identity: Identity,
    /// What was chosen.
    pub choices: Vec<Choice>,
    /// The new front-end.
    pub front_end: Option<FrontEndPart>,
    /// Memory that the original needs.
    pub ram_before: Ram,
    /// Memory that the new image needs; `None` where it is not known yet (dry run).
    pub ram_after: Option<Ram>,
    /// What boots the machine.
    pub boot: Vec<Portion>,
    /// What went into the runtime.
    pub runtime: Vec<Portion>,
    /// The folders of the runtime.
    pub folders: Folder,
    /// Paths added to the runtime.
    pub additions: Vec<Added>,
    /// Text files that differ between original and runtime or front-end.
    pub text_differences: Vec<TextDifference>,
    /// Whatever else the user should know.
    pub notes: Vec<String>,
    /// Wall times, only where asked for: they differ from run to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Vec<Timing>>,
    /// The limits that were set.
    pub budgets: Vec<Budget>,
}

/// A segment of an initrd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRow {
    /// Counted from 1.
    pub number: u64,
    /// Where it starts in the file.
    pub offset: u64,
    /// Bytes in the file, without zero padding.
    pub size: u64,
    /// Zero bytes after it.
    pub padding: u64,
    /// How it is compressed.
    pub encoding: String,
    /// Bytes unpacked.
    pub unpacked: u64,
    /// Entries of its cpio archives, trailers not counted.
    pub entries: u64,
    /// Whether it is an early cpio, read by the kernel before it unpacks anything.
    pub early: bool,
    /// Whether it was appended to a converted image.
    pub appended: bool,
}

/// A file system inside an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// `squashfs`, `btrfs`.
    pub kind: String,
    /// The file that holds it.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Paths in it.
    pub entries: u64,
}

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSize {
    /// Its path.
    pub path: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// Files with the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicate {
    /// Size of one copy.
    pub bytes: u64,
    /// Bytes that all copies but one take.
    pub wasted: u64,
    /// Where the copies are (hard links to one copy are one).
    pub paths: Vec<String>,
}

/// Files that no boot needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// What they are.
    pub what: String,
    /// Why no one boots from them.
    pub why: String,
    /// How many.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// The largest of them.
    pub examples: Vec<FileSize>,
}

/// What `inspect` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image.
    pub image: ImageFile,
    /// What it is.
    pub identity: Identity,
    /// Its segments; none in a bare squashfs.
    pub segments: Vec<SegmentRow>,
    /// The file systems inside it, outermost first.
    pub layers: Vec<Layer>,
    /// Its front-end, where it has one.
    pub front_end: Option<FrontEndPart>,
    /// Paths of the system (the runtime, where the image is converted).
    pub entries: u64,
    /// Bytes of their content.
    pub content: u64,
    /// The folders, largest first.
    pub folders: Folder,
    /// The largest files.
    pub largest: Vec<FileSize>,
    /// The same content stored more than once, the most wasteful first.
    pub duplicates: Vec<Duplicate>,
    /// Bytes that all duplicates waste (also those not listed).
    pub duplicate_bytes: u64,
    /// What no one boots from.
    pub weight: Vec<Weight>,
    /// Memory that it needs; `None` for a bare squashfs.
    pub ram: Option<Ram>,
    /// Whatever else is to be known.
    pub notes: Vec<String>,
    /// The limits that were set.
    pub budgets: Vec<Budget>,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The file with its parts.
    pub image: ImageFile,
    /// `monolith`, `converted (…)`, `squashfs`, …
    pub verdict: String,
    /// Paths of its system.
    pub entries: u64,
    /// Bytes of their content.
    pub content: u64,
    /// Memory that it needs; `None` for a bare squashfs.
    pub ram: Option<Ram>,
}

/// What of a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// The file type.
    Type,
    /// The bytes of a regular file.
    Content,
    /// The target of a symbolic link.
    Target,
    /// The number of a device node.
    Device,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// The number of names, or which names share the inode.
    Links,
    /// The time of last modification.
    Time,
}

/// One difference of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AspectChange {
    /// What differs.
    pub aspect: Aspect,
    /// How it was.
    pub old: String,
    /// How it is.
    pub new: String,
}

/// A path that both sides have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// The path.
    pub path: String,
    /// Content bytes before.
    pub old_bytes: u64,
    /// Content bytes after.
    pub new_bytes: u64,
    /// What differs.
    pub aspects: Vec<AspectChange>,
}

/// A path that one side has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The path.
    pub path: String,
    /// `file`, `directory`, `symlink`, …
    pub kind: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// A file that went from one path to another; it is also among the removed and the added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// Where it was.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// Bytes of content.
    pub bytes: u64,
}

/// How many paths differ and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Only in the new image (each path, not only the topmost).
    pub added: u64,
    /// Only in the old image.
    pub removed: u64,
    /// In both, and different in anything but times and link counts.
    pub changed: u64,
    /// In both, and the same but for the time or the link count.
    pub only_times: u64,
    /// In both, and the same in everything.
    pub same: u64,
    /// Pairs of removed and added that are one file with another path.
    pub moved: u64,
    /// Paths whose type differs.
    pub r#type: u64,
    /// Regular files whose bytes differ.
    pub content: u64,
    /// Symbolic links whose target differs.
    pub target: u64,
    /// Device nodes whose number differs.
    pub device: u64,
    /// Paths whose permission bits differ.
    pub mode: u64,
    /// Paths whose user or group differs.
    pub owner: u64,
    /// Paths whose link count or partners differ.
    pub links: u64,
    /// Paths whose time differs.
    pub time: u64,
}

/// A folder or part in both images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeChange {
    /// Its name or path.
    pub name: String,
    /// Bytes before.
    pub old: u64,
    /// Bytes after.
    pub new: u64,
}

/// What `diff` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The old image.
    pub old: Side,
    /// The new image.
    pub new: Side,
    /// How many paths differ.
    pub counts: Counts,
    /// Parts of the files, by name.
    pub parts: Vec<SizeChange>,
    /// Folders whose size differs, largest change first.
    pub folders: Vec<SizeChange>,
    /// Only in the new image.
    pub added: Vec<Item>,
    /// Only in the old image.
    pub removed: Vec<Item>,
    /// In both and different.
    pub changed: Vec<Changed>,
    /// Moved from one path to another.
    pub moved: Vec<Moved>,
    /// How text files differ, where asked for.
    pub texts: Vec<TextDifference>,
    /// The folders of the new system.
    pub tree: Folder,
    /// Whatever else is to be known.
    pub notes: Vec<String>,
    /// The limits that were set.
    pub budgets: Vec<Budget>,
}

impl Difference {
    /// Whether the two hold the same system, times and link counts included.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The original.
    pub old: String,
    /// The converted image.
    pub new: String,
    /// Whether the runtime is what the kernel would have unpacked from the original.
    pub holds: bool,
    /// Paths compared.
    pub compared: u64,
    /// Content bytes compared.
    pub bytes: u64,
    /// Documented additions to the runtime.
    pub additions: Vec<Added>,
    /// How many of the paths were appended to the new image, and laid over its runtime.
    pub appended: u64,
    /// Paths of the original that are no longer there.
    pub missing: Vec<Item>,
    /// Paths of the runtime that are in neither the original nor the documented additions.
    pub unexpected: Vec<Item>,
    /// Paths that differ.
    pub changed: Vec<Changed>,
    /// Whatever else is to be known.
    pub notes: Vec<String>,
}

/// What memory was like at one moment of a boot, from /proc/meminfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Which one.
    pub name: String,
    /// Memory in use that cannot be reclaimed.
    pub used: Figure,
    /// `MemAvailable`.
    pub available: Figure,
}

/// What `boot` saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image.
    pub image: String,
    /// The kernel.
    pub kernel: String,
    /// `kvm` or `tcg`, and why.
    pub accelerator: String,
    /// Memory of the machine in MiB.
    pub ram_mib: u64,
    /// Whether it reached what was expected.
    pub booted: bool,
    /// What ended the boot: the expected line, the panic, …
    pub outcome: String,
    /// Wall time until then.
    pub milliseconds: u64,
    /// The last lines of the console.
    pub console: Vec<String>,
    /// What the probe saw, where asked for; in the order of time.
    pub moments: Vec<Moment>,
    /// Whatever else is to be known.
    pub notes: Vec<String>,
}

/// One try of `boot --find-min`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// Memory of the machine in MiB.
    pub ram_mib: u64,
    /// Whether it reached what was expected.
    pub booted: bool,
    /// What it failed of: `unpacking`, `tmpfs full`, `out of memory`, `time`, …; empty where it booted.
    pub why: String,
    /// Wall time.
    pub milliseconds: u64,
}

/// What `boot --find-min` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image.
    pub image: String,
    /// The kernel.
    pub kernel: String,
    /// `kvm` or `tcg`, and why.
    pub accelerator: String,
    /// Smallest machine to be tried, MiB.
    pub from_mib: u64,
    /// Largest machine to be tried, MiB.
    pub to_mib: u64,
    /// Step, MiB.
    pub step_mib: u64,
    /// The least machine that booted.
    pub least: Option<Figure>,
    /// Why less fails.
    pub why_less_fails: String,
    /// What the model says.
    pub computed: Option<Figure>,
    /// Every try, in the order of memory.
    pub tries: Vec<Try>,
    /// Whatever else is to be known.
    pub notes: Vec<String>,
}
