//! Machines that load GRUB, the kernel and the boot initramfs over the network, and the runtime by HTTP.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::architectures::{built_for, installer};
use crate::support::server::Server;
use crate::support::{INSTALLER, asset, converted, have, sh};

/// The longest wait for the first screen.
const PATIENCE: Duration = Duration::from_secs(500);

/// An installer in two parts: a directory for TFTP, and the server of its runtime.
struct Netboot {
    directory: tempfile::TempDir,
    server: Server,
    /// Bytes of the boot initramfs.
    first: u64,
    /// Bytes of the old initrd.
    old: u64,
}

/// Converts the installer. The directory has the kernel, the boot initramfs, and grub.cfg with the entry that `convert` wrote
/// for it.
fn netboot(arch: &str, overlay: &str, driver: &str, console: &str) -> Option<Netboot> {
    let installer = installer(12, arch)?;
    let name = format!("net-{arch}");
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("converted");
    let server = Server::of(made.join(format!("{name}.squashfs.img")));
    let address = server.url(&format!("{name}.squashfs.img"));
    let (modules, kernel) = (installer.modules.display().to_string(), installer.kernel.display().to_string());
    let arguments = [
        "--compression",
        "gzip",
        "--overlay",
        overlay,
        "--modules",
        &modules,
        "--kernel",
        &kernel,
        "--runtime-from",
        &address,
        "--drivers",
        driver,
    ];
    let image = converted(&name, &installer.initrd, &arguments);
    let directory = tempfile::tempdir().unwrap();
    let link = |file: &Path| symlink(file, directory.path().join(file.file_name().unwrap())).unwrap();
    link(&image);
    link(&installer.kernel);
    let entries = std::fs::read_to_string(image.with_extension("boot.txt")).unwrap();
    let (_, entry) = entries.split_once("# GRUB: grub.cfg\n").unwrap();
    let entry = entry[..entry.find("\n}\n").unwrap() + 3]
        .replace(" ip=dhcp", &format!(" ip=dhcp console={console} {INSTALLER}"));
    assert!(entry.contains(&format!("initrd /{name}.img")) && entry.contains("console="), "{entries}");
    std::fs::write(directory.path().join("grub.cfg"), format!("set timeout=0\n{entry}")).unwrap();
    let size = |file: &Path| std::fs::metadata(file).unwrap().len();
    let (first, old) = (size(&image), size(&installer.initrd));
    Some(Netboot { directory, server, first, old })
}

impl Netboot {
    /// Starts a machine whose firmware loads `file`; it has to get to the installer's first screen.
    fn boots(&self, qemu: &mut Command, card: &str, file: &str) {
        let network = format!("user,model={card},tftp={},bootfile={file}", self.directory.path().display());
        qemu.args(["-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
        let text = watch(qemu.args(["-boot", "n", "-nic", &network]));
        assert!(text.contains("and the SHA-256 is right"), "{text}");
        assert_eq!(self.server.requests().len(), 1, "{:?}", self.server.requests());
        // What the firmware and GRUB load is a fraction of what it was.
        assert!(self.first * 4 < self.old, "{} of {} bytes", self.first, self.old);
    }
}

/// What the machine's console showed up to the installer's first screen.
fn watch(command: &mut Command) -> String {
    let mut machine =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (send, receive) = mpsc::channel();
    let mut stdout = machine.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if send.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let (start, mut text) = (Instant::now(), String::new());
    let shown = loop {
        if ["Select a language", "Press enter to continue"].iter().any(|screen| text.contains(screen)) {
            break true;
        }
        match receive.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(_) => break false,
        }
    };
    let _ = machine.kill();
    let _ = machine.wait();
    assert!(shown, "{text}");
    text
}

#[test]
fn powerpc_boots_by_open_firmware_and_grub() {
    let tools = ["qemu-system-ppc64", "grub-mkimage", "tar"].into_iter().all(have);
    let Some(grub) = asset("grub/usr/lib/grub/powerpc-ieee1275").filter(|_| tools && built_for("ppc64le"))
    else {
        return;
    };
    let Some(made) = netboot("ppc64el", "dm", "ibmveth", "hvc0") else { return };
    // GRUB unpacks a kernel that is packed with gzip. GRUB 2.06 finds the network card of SLOF only while it says what it
    // looks at, so that its driver is loaded then.
    sh(
        made.directory.path(),
        r#"gzip -1 <vmlinux >vmlinux.gz; rm vmlinux; mv vmlinux.gz vmlinux
        cat >early.cfg <<'END'
set debug=devalias
insmod (memdisk)/ofnet.mod
set debug=
net_bootp
set root=(tftp,10.0.2.2)
configfile /grub.cfg
END
        tar -C "$1" -cf memdisk.tar ofnet.mod
        grub-mkimage -O powerpc-ieee1275 -d "$1" -p /grub -c early.cfg -m memdisk.tar -o core.elf \
            memdisk tar gzio net tftp normal linux configfile minicmd"#,
        &[&grub],
    );
    let mut qemu = Command::new("qemu-system-ppc64");
    qemu.args([
        "-M",
        "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
        "-m",
        "768",
    ]);
    made.boots(&mut qemu, "spapr-vlan", "core.elf");
}

#[test]
fn arm64_boots_by_uefi_and_grub() {
    let firmware = Path::new("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd");
    if !have("qemu-system-aarch64") || !built_for("aarch64") {
        return;
    }
    assert!(firmware.exists(), "qemu-efi-aarch64 is not installed");
    // The GRUB for network boots that comes with the installer.
    let base = "d12/usr/lib/debian-installer/images/12/arm64/text/debian-installer/arm64";
    let Some(base) = asset(base) else { return };
    let Some(made) = netboot("arm64", "overlayfs", "virtio_pci,virtio_net", "ttyAMA0") else { return };
    sh(
        made.directory.path(),
        r#"mkdir -p debian-installer/arm64/grub; cd debian-installer/arm64
        cp "$1"/grubaa64.efi .; ln -s "$1"/grub/* grub; rm grub/grub.cfg; ln -s ../../../grub.cfg grub/grub.cfg"#,
        &[&base],
    );
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-M", "virt", "-cpu", "cortex-a57", "-m", "512", "-bios"]).arg(firmware);
    made.boots(&mut qemu, "virtio-net-pci", "debian-installer/arm64/grubaa64.efi");
}
