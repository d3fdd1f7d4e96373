//! Images for other machines than this one: what the boot initramfs is made of, and whether it boots.

use std::path::{Path, PathBuf};

use crate::support::images::convert;
use crate::support::newc::{archive, dir, file, trailer};
use crate::support::{
    FIRST_SCREEN, INSTALLER, assets, btrsquash, converted, have, kernel_package, reaches, run, skip,
};

/// A text installer of Debian for another architecture, its kernel, and the package of that kernel's modules.
struct Installer {
    initrd: PathBuf,
    kernel: PathBuf,
    modules: PathBuf,
}

fn installer(release: u32, arch: &str) -> Option<Installer> {
    let base = assets().join(format!(
        "d{release}/usr/lib/debian-installer/images/{release}/{arch}/text/debian-installer/{arch}"
    ));
    let kernel =
        ["linux", "vmlinux", "vmlinuz"].iter().map(|name| base.join(name)).find(|path| path.exists());
    let package = std::fs::read_dir(assets().join("modules")).ok().and_then(|entries| {
        entries.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.starts_with("linux-image-") && name.ends_with(&format!("_{arch}.deb"))
            })
        })
    });
    let (Some(kernel), Some(modules)) = (kernel, package) else {
        skip(&format!("the installer for {arch} is not there: run samples/fetch --all"));
        return None;
    };
    Some(Installer { initrd: base.join("initrd.gz"), kernel, modules })
}

/// Converts the installer without naming a front-end, verifies it, and boots it.
fn converts_and_boots(release: u32, arch: &str, qemu: &str, machine: &str, mib: u64) {
    let Some(installer) = installer(release, arch) else { return };
    if !have(qemu) || !built_for(machine) {
        return;
    }
    let modules = installer.modules.display().to_string();
    let new = converted(&format!("text-{release}-{arch}"), &installer.initrd, &["--modules", &modules]);
    reaches(&new, &installer.kernel, mib, INSTALLER, FIRST_SCREEN, &[]);
}

/// Whether this btrsquash has the program for a machine: it is built for all of them by samples/build
/// --all-architectures.
fn built_for(machine: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("initrd");
    let mut init = elf(machine);
    init.resize(4096, 0);
    std::fs::write(&image, archive(&[file("init", init).mode(0o100_755), trailer()])).unwrap();
    let output = btrsquash()
        .args([
            "convert",
            "--dry-run",
            "--assume-monolith",
            "--front-end",
            "built-in",
            "--overlay",
            "overlayfs",
        ])
        .arg(&image)
        .arg("-o")
        .arg(dir.path().join("new"))
        .args(["--modules".as_ref(), built_in_kernel(dir.path()).as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return true;
    }
    assert!(said.contains("samples/build --all-architectures"), "{said}");
    skip(&format!("this btrsquash has no boot program for {machine}"));
    false
}

/// The header of a program for a machine.
fn elf(machine: &str) -> Vec<u8> {
    let (class, number) = match machine {
        "x86_64" => (2, 62_u16),
        "i686" => (1, 3),
        "aarch64" => (2, 183),
        "arm" => (1, 40),
        "ppc64le" => (2, 21),
        "riscv64" => (2, 243),
        "s390x" => (2, 22),
        other => panic!("{other}"),
    };
    let big = machine == "s390x";
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, if big { 2 } else { 1 }, 1]);
    let mut put = |at: usize, value: u16| {
        let bytes = if big { value.to_be_bytes() } else { value.to_le_bytes() };
        header[at..at + 2].copy_from_slice(&bytes);
    };
    put(16, 2);
    put(18, number);
    header
}

/// A directory with the lists of a kernel that has everything built in, so that only the init tells the machine.
fn built_in_kernel(dir: &Path) -> PathBuf {
    let root = dir.join("modules");
    let version = root.join("lib/modules/6.1.0-test");
    std::fs::create_dir_all(&version).unwrap();
    let list: String = [
        "drivers/block/loop",
        "fs/squashfs/squashfs",
        "fs/btrfs/btrfs",
        "crypto/crc32c_generic",
        "fs/overlayfs/overlay",
        "drivers/md/dm-mod",
        "drivers/md/dm-snapshot",
    ]
    .iter()
    .map(|path| format!("kernel/{path}.ko\n"))
    .collect();
    std::fs::write(version.join("modules.builtin"), list).unwrap();
    std::fs::write(version.join("config"), "CONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_XZ=y\n").unwrap();
    root
}

#[test]
#[ignore = "needs a btrsquash made by samples/build --all-architectures: run with --ignored"]
fn i386_boots() {
    converts_and_boots(12, "i386", "qemu-system-x86_64", "i686", 192);
}

#[test]
#[ignore = "needs a btrsquash made by samples/build --all-architectures: run with --ignored"]
fn arm64_boots() {
    converts_and_boots(12, "arm64", "qemu-system-aarch64", "aarch64", 256);
}

#[test]
#[ignore = "needs a btrsquash made by samples/build --all-architectures: run with --ignored"]
fn ppc64el_boots() {
    converts_and_boots(12, "ppc64el", "qemu-system-ppc64", "ppc64le", 512);
}

#[test]
fn programs_for_another_machine_are_refused_whoever_packed_them() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("initrd");
    let program = |machine: &str| {
        let mut init = elf(machine);
        init.resize(4096, 0);
        init
    };
    let monolith = archive(&[file("init", program("aarch64")).mode(0o100_755), trailer()]);
    std::fs::write(&image, monolith).unwrap();
    // The user's own initramfs has programs for this machine, among others.
    let front_end = dir.path().join("front-end");
    let entries = [
        file("init", program("aarch64")).mode(0o100_755),
        self::dir("bin"),
        file("bin/sh", program("x86_64")).mode(0o100_755),
        trailer(),
    ];
    std::fs::write(&front_end, archive(&entries)).unwrap();
    let modules = built_in_kernel(dir.path());
    let run = |front_end: &str| {
        btrsquash()
            .args(["convert", "--assume-monolith", "--front-end", front_end, "--modules"])
            .arg(&modules)
            .arg(&image)
            .arg("-o")
            .arg(dir.path().join("new"))
            .output()
            .unwrap()
    };
    for maker in [front_end.to_str().unwrap(), "dracut"] {
        let output = run(maker);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{maker}: {said}");
        assert!(said.contains("x86_64") && said.contains("aarch64"), "{said}");
        assert!(said.contains("--front-end built-in"), "{said}");
        assert!(!dir.path().join("new").exists());
    }
}

#[test]
fn the_kernel_decides_and_not_the_init() {
    let Some(package) = kernel_package() else { return };
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("initrd");
    let new = dir.path().join("new");
    let mut init = elf("i686");
    init.resize(4096, 0);
    std::fs::write(&image, archive(&[file("init", init).mode(0o100_755), trailer()])).unwrap();
    let package = package.display().to_string();
    convert(&image, &new, &["--assume-monolith", "--front-end", "built-in", "--modules", &package]);
    // Class and machine in the header of the boot initramfs's init: ELFCLASS64, EM_X86_64.
    let init = run(btrsquash().args(["cat", "--layer", "initramfs"]).arg(&new).arg("init")).stdout;
    assert_eq!((init[4], init[18]), (2, 62));

    // The other way round no kernel does it.
    let mut init = elf("aarch64");
    init.resize(4096, 0);
    std::fs::write(&image, archive(&[file("init", init).mode(0o100_755), trailer()])).unwrap();
    let output = btrsquash()
        .args(["convert", "--assume-monolith", "--modules", &package])
        .arg(&image)
        .arg("-o")
        .arg(dir.path().join("other"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("for x86_64") && said.contains("aarch64"), "{said}");
}
