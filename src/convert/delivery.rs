//! Entries for boot loaders, where the image is two parts.

use std::fmt::Write;
use std::path::Path;

use super::layout;
use super::request::Request;
use crate::contract::RuntimeFrom;
use crate::report::units;

/// What boot firmware of PowerPC machines is documented to load over a network, bytes.
///
/// * 12 MiB: what IBM's Open Firmware has below itself with the real-base it is delivered with, c00000
///   (carloscosta.org/2008/07/22/changing-openfirmware-real-base); it cuts off what is larger.
/// * 32 MiB: where the note in a kernel's zImage has Open Firmware move to (Linux commit 9b09c6d909df, "powerpc: Change
///   the default link address for pSeries zImage kernels"), if need be by `setenv real-base 2000000`.
const POWERPC: [(u64, &str); 2] = [
    (12 << 20, "IBM's Open Firmware as it is delivered, real-base c00000"),
    (32 << 20, "with real-base 2000000, which a zImage kernel asks for"),
];

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Ready to paste: GRUB, PXELINUX and iPXE.
pub(super) fn entries(request: &Request, runtime: &Path) -> String {
    let (front, runtime) = (name(&request.new), name(runtime));
    let kernel = request.kernel.as_deref().map_or_else(|| "vmlinuz".to_owned(), name);
    let title = front.strip_suffix(".img").unwrap_or(&front);
    let mut text = String::new();
    let mut line = |words: &str| {
        let _ = writeln!(text, "{words}");
    };
    let (arguments, second) = match &request.runtime {
        RuntimeFrom::Initramfs | RuntimeFrom::Retained => {
            line(&format!(
                "# {front} and {runtime} are loaded together: the boot loader makes the second one"
            ));
            line("# /squashfs.img of the initramfs.");
            ("", true)
        }
        RuntimeFrom::Network(address) => {
            line(&format!("# Put {runtime} where {address} finds it."));
            (" ip=dhcp", false)
        }
        RuntimeFrom::Label(label) => {
            line(&format!("# Copy {runtime} to /LiveOS/squashfs.img on the medium with label {label}."));
            ("", false)
        }
        RuntimeFrom::Uuid(uuid) => {
            line(&format!("# Copy {runtime} to /LiveOS/squashfs.img on the medium with UUID {uuid}."));
            ("", false)
        }
    };

    // GRUB's loader/linux.c: `newc:NAME:FILE` gives FILE the name NAME in a cpio archive of its own.
    line("\n# GRUB: grub.cfg");
    line(&format!("menuentry '{title}' {{"));
    line(&format!("    linux /{kernel}{arguments}"));
    line(&format!(
        "    initrd /{front}{}",
        if second { format!(" newc:squashfs.img:/{runtime}") } else { String::new() }
    ));
    line("}");

    // INITRD takes several files with commas between (syslinux.txt); it cannot name a file inside an archive.
    line("\n# PXELINUX: pxelinux.cfg/default");
    if second {
        line("# It takes archives only: make one with");
        line(&format!(
            "#   ln {runtime} squashfs.img && echo squashfs.img | cpio -o -H newc >{runtime}.cpio"
        ));
    }
    line(&format!("LABEL {}", title.replace(' ', "-")));
    line(&format!("    KERNEL {kernel}"));
    line(&format!("    INITRD {front}{}", if second { format!(",{runtime}.cpio") } else { String::new() }));
    if !arguments.is_empty() {
        line(&format!("    APPEND{arguments}"));
    }

    // ipxe.org/cmd/initrd: what follows the address is the path in the initramfs; UEFI kernels before 5.7 have to be
    // told of the archive that iPXE makes (initrd.magic), to the others it does no harm.
    line("\n# iPXE");
    line("#!ipxe");
    line(&format!("kernel {kernel} initrd=initrd.magic{arguments}"));
    line(&format!("initrd {front}"));
    if second {
        line(&format!("initrd {runtime} /squashfs.img"));
    }
    line("boot");
    text
}

/// What the report says about two files, the one to load first being `front` bytes long.
pub(super) fn notes(request: &Request, front: u64) -> Vec<String> {
    let limits: Vec<String> = POWERPC
        .iter()
        .map(|(limit, what)| {
            let fits = if front <= *limit { "fits" } else { "does not fit" };
            format!("{fits} into {} ({what})", units::mebibytes(*limit))
        })
        .collect();
    vec![
        format!(
            "the runtime is {}; entries for GRUB, PXELINUX and iPXE, ready to paste, are in {}",
            layout::runtime_file(&request.new).display(),
            layout::entries_file(&request.new).display()
        ),
        format!(
            "netboot of PowerPC machines: the part to load first has {front} bytes and, without the kernel, {}",
            limits.join("; ")
        ),
    ]
}
