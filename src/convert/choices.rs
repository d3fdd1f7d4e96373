//! What was chosen for a conversion, and why.

use std::path::PathBuf;

use super::maker::Maker;
use super::request::{Goal, Request};
use crate::btrfs::Features;
use crate::codec::{Compression, Encoding};
use crate::contract::{Handover, Overlay, RuntimeFormat, RuntimeFrom};
use crate::image::classify::{Classification, HandoverReason, Sign};
use crate::image::expand::Expanded;
use crate::kernel::{Btrfs, Kernel};

/// Something that was chosen, by the user or by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// An ordinary initramfs is converted because of `--assume-monolith`.
    AssumedMonolith {
        /// Its maker.
        maker: String,
        /// The evidence that it is an ordinary initramfs.
        evidence: Vec<Sign>,
    },
    /// The front-end.
    FrontEnd(FrontEndKind, FrontEndReason),
    /// `--init` names the program to start.
    Init(String),
    /// What makes the runtime writable.
    Overlay {
        /// It.
        overlay: Overlay,
        /// Whether the user requested it.
        requested: bool,
    },
    /// The file system of the runtime.
    Format(RuntimeFormat, FormatReason),
    /// Packed kernel modules were unpacked, and the evidence that they can be loaded so.
    Expanded(Expanded, String),
    /// Features of the btrfs file system, and the kernels that have to mount it.
    Btrfs(Features, Vec<String>),
    /// How the squashfs is packed.
    Squashfs {
        /// The compression.
        compression: Compression,
        /// The block size in bytes.
        block_size: u32,
        /// Why this block size.
        block_reason: BlockReason,
        /// Whether xz searches longer for a smaller image.
        thorough: bool,
        /// Whether xz uses the branch filter of the architecture.
        bcj: bool,
        /// Whether the content is stored as it is, because it is compressed already.
        stored: bool,
    },
    /// How the front-end is packed.
    Encoding(Encoding),
    /// How the old init is started, and the evidence for it.
    Handover(Handover, HandoverReason),
    /// Where the front-end finds the runtime.
    Runtime(RuntimeFrom),
}

/// Why a block size was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockReason {
    /// `--block-size` names it.
    Requested,
    /// It needs the least memory.
    LeastMemory {
        /// With so many possible CPUs.
        cpus: u32,
        /// So many bytes less than the largest, by the model and an estimate of the image's size.
        saved: u64,
    },
    /// It makes the smallest image.
    Smallest,
}

/// A front-end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontEndKind {
    /// btrsquash's own.
    BuiltIn,
    /// That of dracut, with its version.
    Dracut(String),
    /// An initramfs of the user's.
    ReadyMade(PathBuf),
    /// The old initramfs.
    Kept,
}

/// Why a runtime's file system was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatReason {
    /// `--runtime-format` names it.
    Requested,
    /// It is the default.
    Default,
    /// `--optimize` asks for a small image.
    Optimized(Goal),
    /// A kernel was built without btrfs.
    NoBtrfs {
        /// The kernel.
        kernel: String,
        /// The option that is not set.
        option: String,
        /// The configuration that says so.
        config: String,
    },
}

impl FormatReason {
    fn of(request: &Request, kernels: &[Kernel]) -> Self {
        if request.format.is_some() {
            return Self::Requested;
        }
        let without = kernels.iter().find_map(|kernel| match &kernel.btrfs {
            Btrfs::NotBuilt { option, config } => Some((kernel, option, config)),
            Btrfs::Available | Btrfs::NotFound => None,
        });
        match without {
            Some((kernel, option, config)) => Self::NoBtrfs {
                kernel: kernel.modules.version.clone(),
                option: option.clone(),
                config: config.clone(),
            },
            None => match (request.optimize, kernels.first().map(|kernel| kernel.format)) {
                (Some(goal), Some(RuntimeFormat::Squashfs)) => Self::Optimized(goal),
                _ => Self::Default,
            },
        }
    }
}

/// Why a front-end was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrontEndReason {
    /// `--front-end` names it.
    Requested,
    /// `--optimize` decides.
    Optimized(Goal),
    /// It is the only one that reads a retained runtime in place.
    Retained,
    /// It fetches the runtime with less memory than dracut's, and checks its hash.
    Fetches,
    /// The old initramfs mounts its system, this file inside.
    SystemInside(String),
    /// The host has a dracut with dmsquash-live.
    HostHasDracut,
    /// The host's dracut packs programs that the image's kernel cannot run.
    OtherMachine {
        /// The machine of the image's kernel, as `uname -m` names it.
        kernel: String,
        /// The host's.
        host: &'static str,
    },
    /// dracut cannot be used, with the reason.
    NoDracut(String),
}

/// What was chosen once the kernels were known.
pub(super) fn of(
    request: &Request,
    kernels: &[Kernel],
    (block_size, block_reason): (u32, BlockReason),
    encoding: Encoding,
    maker: &Maker,
    overlay: Overlay,
    class: &Classification,
) -> Vec<Choice> {
    let mut choices = Vec::new();
    let kept = match maker {
        Maker::Kept(kept) => Some(kept),
        _ => None,
    };
    if kept.is_none() {
        choices.extend(of_runtime(request, kernels, overlay));
    }
    choices.push(Choice::Squashfs {
        compression: request.compression(),
        block_size,
        block_reason,
        thorough: request.thorough() && request.compression() == Compression::Xz,
        bcj: request.compression() == Compression::Xz && kernels.iter().all(Kernel::has_own_branch_filter),
        stored: kept.is_some_and(|kept| kept.stored),
    });
    if !matches!(maker, Maker::File(_)) {
        choices.push(Choice::Encoding(encoding));
    }
    if kept.is_none() {
        choices.push(Choice::Handover(class.handover, class.handover_reason.clone()));
    }
    choices.push(Choice::Runtime(request.runtime.clone()));
    choices
}

/// What was chosen for the runtime's file system.
fn of_runtime(request: &Request, kernels: &[Kernel], overlay: Overlay) -> Vec<Choice> {
    let versions = || kernels.iter().map(|kernel| kernel.modules.version.as_str());
    let format = kernels.first().map_or(RuntimeFormat::Btrfs, |kernel| kernel.format);
    let mut choices = vec![
        Choice::Overlay { overlay, requested: request.overlay.is_some() },
        Choice::Format(format, FormatReason::of(request, kernels)),
    ];
    if format == RuntimeFormat::Btrfs {
        let features = Features::for_kernels(versions());
        choices.push(Choice::Btrfs(features, versions().map(str::to_owned).collect()));
    }
    choices
}
