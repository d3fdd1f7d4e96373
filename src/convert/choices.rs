//! What was chosen for a conversion and why, for the report.

use super::request::Request;
use crate::btrfs::Features;
use crate::codec::Encoding;
use crate::contract::{Handover, Overlay, RuntimeFrom};
use crate::image::classify::Classification;
use crate::kernel::Kernel;
use crate::report::Choice;

/// Adds what was chosen once the kernels were known.
pub(super) fn add(
    request: &Request,
    kernels: &[Kernel],
    encoding: Option<Encoding>,
    overlay: Overlay,
    class: &Classification,
    choices: &mut Vec<Choice>,
) {
    let mut add = |what: &str, chosen: String, why: &str| {
        choices.push(Choice { what: what.into(), chosen, why: why.into() })
    };
    let asked = "requested with --overlay";
    let why = match (request.overlay, overlay) {
        (Some(_), _) => asked,
        (None, Overlay::DeviceMapper) => "the default, and the kernel has dm-snapshot",
        (None, Overlay::Overlayfs) => "dm-snapshot was not found for every kernel",
    };
    add("overlay", overlay.to_string(), why);
    let features = Features::for_kernels(kernels.iter().map(|k| k.modules.version.as_str()));
    let oldest = kernels.iter().map(|k| k.modules.version.as_str()).collect::<Vec<_>>().join(", ");
    add("btrfs features", features.notes().join("; "), &format!("what kernel {oldest} can mount"));
    let bcj = request.compression == crate::codec::Compression::Xz && kernels.iter().all(|k| k.bcj);
    let filter = if bcj { ", branch filter for machine code" } else { "" };
    add(
        "squashfs",
        format!("{}, blocks of {} KiB{filter}", request.compression, request.block_size >> 10),
        if bcj {
            "the kernel's xz has the filter"
        } else {
            "--compression and --block-size, or their defaults"
        },
    );
    if let Some(encoding) = encoding {
        add("front-end's compression", encoding.to_string(), "the best that every kernel is known to unpack");
    }
    let handover = match class.handover {
        Handover::Bare => "/proc, /sys, /dev and /run unmounted",
        Handover::Mounted => "/proc, /sys, /dev and /run mounted",
    };
    add("hand-over", handover.into(), &class.handover_reason.to_string());
    let place = match &request.runtime {
        RuntimeFrom::Initramfs => "in the initramfs".into(),
        RuntimeFrom::Retained => "in the image as the boot loader placed it, never copied".into(),
        RuntimeFrom::Network(address) => format!("fetched from {address}"),
        RuntimeFrom::Label(label) => format!("on the medium labelled {label}"),
        RuntimeFrom::Uuid(uuid) => format!("on the medium with UUID {uuid}"),
    };
    add("runtime", place, "--runtime-from, or its default");
}
