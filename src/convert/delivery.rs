//! Entries for boot loaders, for an image in two files.

use std::fmt::Write;
use std::path::Path;

use super::request::Request;
use crate::contract::RuntimeFrom;
use crate::contract::paths::{OTHER_SQUASHFS, SQUASHFS};
use crate::ram::{Machine, SIZED};

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What to know about a runtime that is fetched.
fn fetched(runtime: &str, address: &str) -> [String; 4] {
    [
        format!("# Make {runtime} available at {address}."),
        "# ip=dhcp may be any other ip= of the kernel or dracut. root=live:URL names another place of the same file.".into(),
        "# GRUB loads the kernel and the boot initramfs by TFTP too: grub-mknetdir or grub-mkimage makes it for UEFI,".into(),
        "# and for the Open Firmware of PowerPC machines (package grub-ieee1275-bin).".into(),
    ]
}

/// Ready to paste: GRUB, PXELINUX and iPXE.
pub(super) fn entries(request: &Request, machine: &Machine, runtime: &Path) -> String {
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
                "# {front} and {runtime} are loaded together: the boot loader adds the second one to the initramfs"
            ));
            line(&format!("# as /{SQUASHFS}."));
            ("", true)
        }
        RuntimeFrom::Network(address) => {
            for words in fetched(&runtime, address) {
                line(&words);
            }
            (" ip=dhcp", false)
        }
        RuntimeFrom::Label(label) => {
            line(&format!("# Copy {runtime} to /{OTHER_SQUASHFS} on the medium with label {label}."));
            ("", false)
        }
        RuntimeFrom::Uuid(uuid) => {
            line(&format!("# Copy {runtime} to /{OTHER_SQUASHFS} on the medium with UUID {uuid}."));
            ("", false)
        }
    };

    if machine.kernel.rootfs_options == Some(true) {
        line(&format!(
            "# Add initramfs_options=size={SIZED}% to the kernel's arguments to boot with less RAM; the report has"
        ));
        line("# the minimum for each.");
    }
    line(&format!(
        "# The image is meant for at most {} possible CPUs: add nr_cpus={} on machines that allow for more.",
        machine.cpus, machine.cpus
    ));

    // GRUB's loader/linux.c: `newc:NAME:FILE` gives FILE the name NAME in a cpio archive of its own.
    line("\n# GRUB: grub.cfg");
    line(&format!("menuentry '{title}' {{"));
    line(&format!("    linux /{kernel}{arguments}"));
    line(&format!(
        "    initrd /{front}{}",
        if second { format!(" newc:{SQUASHFS}:/{runtime}") } else { String::new() }
    ));
    line("}");

    // INITRD takes several files with commas between (syslinux.txt); it cannot name a file inside an archive.
    line("\n# PXELINUX: pxelinux.cfg/default");
    if second {
        line("# It takes archives only: make one with");
        line(&format!("#   ln {runtime} {SQUASHFS} && echo {SQUASHFS} | cpio -o -H newc >{runtime}.cpio"));
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
        line(&format!("initrd {runtime} /{SQUASHFS}"));
    }
    line("boot");
    text
}
