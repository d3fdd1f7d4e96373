//! The built-in front-end, booted: the least RAM, a runtime that is never copied, systemd, a disk, clear failures.

use std::path::{Path, PathBuf};

use crate::common::{
    FIRST_SCREEN, INSTALLER, asset, assets, boot, converted, have, installer, kernel_package, sh, skip,
    systemd_image,
};
use crate::convert;
use crate::dracut::{SYSTEMD_MIB, appended, told};

#[test]
fn the_installer_boots_in_the_least_memory() {
    let (Some(image), Some((_, kernel))) = (convert::built_in(), installer("gtk")) else { return };
    let size = std::fs::metadata(&image).unwrap().len();
    assert!(size <= 54_000_000, "{size} bytes");
    let report = std::fs::read(image.with_extension("json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let unpacked = report["front_end"]["unpacked"].as_u64().unwrap();
    assert!(unpacked <= 8 << 20, "the front-end has {unpacked} bytes unpacked");
    if !have("qemu-system-x86_64") {
        return;
    }
    // With root= on the kernel's own command line rootfs has no cap.
    for (mib, root) in [(224, ""), (192, "root=live:/squashfs.img")] {
        let append = format!("{INSTALLER} {root}");
        let (booted, report) = boot(&image, &kernel, mib, &append, FIRST_SCREEN, &[]);
        assert!(booted, "at {mib} MiB: {report:#}");
    }
}

/// Debian 13's gtk installer, its kernel, and the package of that kernel.
fn trixie() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let folder = "d13/usr/lib/debian-installer/images/13/amd64/gtk/debian-installer/amd64";
    let (initrd, kernel) = (asset(&format!("{folder}/initrd.gz"))?, asset(&format!("{folder}/linux"))?);
    let package = [assets(), assets().join("d13")].into_iter().find_map(|dir| {
        let mut files = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
        files.find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("linux-image-6.12")))
    });
    if package.is_none() {
        skip("no linux-image-6.12 package among the assets: run samples/fetch --all");
    }
    Some((initrd, kernel, package?))
}

#[test]
fn a_retained_runtime_is_never_copied() {
    let Some((initrd, kernel, package)) = trixie() else { return };
    if !have("qemu-system-x86_64") {
        return;
    }
    let arguments = ["--runtime-from", "retained", "--modules", package.to_str().unwrap()];
    let image = converted("trixie-retained", &initrd, &arguments);
    let append = format!("{INSTALLER} retain_initrd");
    let (booted, report) = boot(&image, &kernel, 176, &append, FIRST_SCREEN, &[]);
    assert!(booted, "{report:#}");
    let (booted, report) = boot(&image, &kernel, 512, INSTALLER, FIRST_SCREEN, &[]);
    let console = report["console"].to_string();
    assert!(!booted && console.contains("add retain_initrd to the kernel's command line"), "{report:#}");
}

#[test]
fn a_system_with_systemd_reaches_its_login_prompt() {
    let Some((initrd, kernel)) = systemd_image().filter(|_| have("qemu-system-x86_64")) else { return };
    let dir = tempfile::tempdir().unwrap();
    for overlay in ["dm", "overlayfs"] {
        let arguments = ["--front-end", "built-in", "--overlay", overlay, "--compression", "zstd"];
        let image = converted(&format!("systemd-built-in-{overlay}"), &initrd, &arguments);
        let folder = dir.path().join(overlay);
        std::fs::create_dir(&folder).unwrap();
        let image =
            appended(&folder, &image, "echo hello >appended; mkdir etc; echo replaced >etc/motd", "cat");
        let log = folder.join("log");
        let more = ["--log", log.to_str().unwrap()];
        let (booted, report) = boot(&image, &kernel, SYSTEMD_MIB, "", "login:", &more);
        assert!(booted, "{report:#}");
        assert_eq!(told(&log, "file").trim(), "written");
        let mounts = told(&log, "mount");
        let root = mounts.lines().next().unwrap();
        let expected = if overlay == "dm" { "/dev/mapper/live-rw btrfs rw" } else { "overlay rw" };
        assert!(root.starts_with("/ ") && root.contains(expected), "{mounts}");
        let carried = told(&log, "appended");
        assert!(carried.contains("hello") && carried.contains("replaced"), "{carried}");
    }
}

#[test]
fn the_runtime_stays_on_a_disk() {
    let (Some((initrd, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !have("qemu-system-x86_64") || !(have("mkfs.ext4") || Path::new("/sbin/mkfs.ext4").exists()) {
        return;
    }
    let arguments = [
        "--front-end",
        "built-in",
        "--runtime-from",
        "media:LABEL=SYSTEM",
        "--compression",
        "zstd",
        "--modules",
        package.to_str().unwrap(),
    ];
    let image = converted("text-media", &initrd, &arguments);
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir -p t/LiveOS; cp \"$1\" t/LiveOS/squashfs.img
        PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q -L SYSTEM -d t disk 128M";
    sh(dir.path(), script, &[&image.with_file_name("text-media.squashfs.img")]);
    let drive = format!("file={},if=virtio,format=raw,readonly=on", dir.path().join("disk").display());
    let more = ["--qemu=-drive", &format!("--qemu={drive}")];
    let (booted, report) = boot(&image, &kernel, 192, INSTALLER, FIRST_SCREEN, &more);
    assert!(booted, "{report:#}");
}

#[test]
fn failures_are_named_on_the_console() {
    let (Some(image), Some((_, kernel))) = (convert::built_in(), installer("gtk")) else { return };
    if !have("qemu-system-x86_64") {
        return;
    }
    let (booted, report) = boot(&image, &kernel, 512, "root=/dev/sda1", FIRST_SCREEN, &[]);
    let outcome = report["outcome"].as_str().unwrap();
    assert!(!booted && outcome.contains("root=/dev/sda1"), "{report:#}");
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.img");
    let mut bytes = std::fs::read(&image).unwrap();
    let start = bytes.windows(4).position(|w| w == b"hsqs").unwrap();
    let size = u64::from_le_bytes(bytes[start + 40..start + 48].try_into().unwrap()) as usize;
    bytes[start + size - 400..start + size].fill(0x55);
    std::fs::write(&damaged, bytes).unwrap();
    let (booted, report) = boot(&damaged, &kernel, 512, "", FIRST_SCREEN, &[]);
    assert!(!booted && report["outcome"].as_str().unwrap().contains("cannot go on"), "{report:#}");
}
