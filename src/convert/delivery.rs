//! Entries for boot loaders, where the image is two parts.

use super::{Output, Request};
use crate::frontend::RuntimeFrom;

/// Ready to paste: GRUB, PXELINUX and iPXE.
pub(super) fn entries(request: &Request, output: &Output) -> Vec<String> {
    let name = |path: &std::path::Path| {
        path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let front = name(&request.new);
    let runtime = output.runtime.as_ref().map(|(path, _)| name(path)).unwrap_or_default();
    let mut lines = Vec::new();
    match &request.runtime {
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => {
            lines.push(format!("GRUB: linux /vmlinuz; initrd /{front} newc:squashfs.img:/{runtime}"));
            lines.push(format!(
                "iPXE: kernel vmlinuz initrd=initrd.magic; initrd {front}; initrd --name squashfs.img {runtime} squashfs.img"
            ));
            lines.push(
                "PXELINUX cannot name a file inside an initramfs: use --layout combined, or --runtime-from http://…"
                    .into(),
            );
        }
        RuntimeFrom::Network(address) => {
            lines.push(format!("put {runtime} where {address} finds it"));
            lines.push(format!("GRUB: linux /vmlinuz ip=dhcp; initrd /{front}"));
            lines.push(format!("PXELINUX: KERNEL vmlinuz / INITRD {front} / APPEND ip=dhcp"));
            lines.push(format!("iPXE: kernel vmlinuz initrd={front} ip=dhcp; initrd {front}; boot"));
        }
        RuntimeFrom::Label(_) | RuntimeFrom::Uuid(_) => {
            lines.push(format!("copy {runtime} to LiveOS/squashfs.img on the medium"));
            lines.push(format!("GRUB: linux /vmlinuz; initrd /{front}"));
            lines.push(format!("PXELINUX: KERNEL vmlinuz / INITRD {front}"));
            lines.push(format!("iPXE: kernel vmlinuz initrd={front}; initrd {front}; boot"));
        }
    }
    lines
}
