//! Images for other machines than this one: what the boot initramfs is made of, and whether it boots.

use std::path::{Path, PathBuf};

use crate::support::images::convert;
use crate::support::newc::{archive, dir, file, trailer};
use crate::support::{
    FIRST_SCREEN, INSTALLER, assets, btrsquash, converted, have, kernel_package, reaches, root, run, sh, skip,
};

/// A text installer of Debian for another architecture, its kernel, and the package of that kernel's modules.
pub struct Installer {
    pub initrd: PathBuf,
    pub kernel: PathBuf,
    pub modules: PathBuf,
}

pub fn installer(release: u32, arch: &str) -> Option<Installer> {
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

/// Converts the installer with either overlay and without naming a front-end, verifies both images, and boots them.
fn converts_and_boots(release: u32, arch: &str, machine: &str, overlays: &[&str], more: &[&str]) {
    let Some(installer) = installer(release, arch) else { return };
    if !have(qemu(machine)) || !built_for(machine) {
        return;
    }
    let modules = installer.modules.display().to_string();
    for overlay in overlays {
        let arguments = [&["--overlay", overlay, "--modules", &modules], more].concat();
        let new = converted(&format!("text-{release}-{arch}-{overlay}"), &installer.initrd, &arguments);
        // On a machine with dracut, whose programs are for that machine.
        let said = std::fs::read_to_string(new.with_extension("json")).unwrap();
        assert!(said.contains("built-in"), "{said}");
        let mib = if machine == "ppc64le" { 512 } else { 256 };
        reaches(&new, &installer.kernel, mib, INSTALLER, FIRST_SCREEN, &[]);
    }
}

/// QEMU's program for a machine.
fn qemu(machine: &str) -> &'static str {
    match machine {
        "i686" => "qemu-system-x86_64",
        "aarch64" => "qemu-system-aarch64",
        "arm" => "qemu-system-arm",
        "ppc64le" => "qemu-system-ppc64",
        "riscv64" => "qemu-system-riscv64",
        "s390x" => "qemu-system-s390x",
        other => panic!("{other}"),
    }
}

/// Whether this btrsquash has the program for a machine: it is built for all of them by samples/build
/// --all-architectures.
pub fn built_for(machine: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("initrd");
    monolith(&image, machine);
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
        "ia64" => (2, 50),
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

/// Writes an image with nothing but an init for a machine.
fn monolith(image: &Path, machine: &str) {
    let mut init = elf(machine);
    init.resize(4096, 0);
    std::fs::write(image, archive(&[file("init", init).mode(0o100_755), trailer()])).unwrap();
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
    std::fs::write(
        version.join("config"),
        "CONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_XZ=y\nCONFIG_SQUASHFS_LZ4=y\n",
    )
    .unwrap();
    root
}

#[test]
fn i386_boots() {
    converts_and_boots(12, "i386", "i686", &["dm"], &["--compression", "gzip"]);
}

// arm64 and ppc64el boot over the network in netboot.rs. `cargo test --test it architectures -- --ignored` boots the others,
// and these in the other ways, in minutes.

#[test]
#[ignore = "boots for minutes: run with --ignored"]
fn i386_boots_with_overlayfs() {
    converts_and_boots(12, "i386", "i686", &["overlayfs"], &[]);
}

#[test]
#[ignore = "boots for minutes: run with --ignored"]
fn arm64_boots() {
    converts_and_boots(12, "arm64", "aarch64", &["dm", "overlayfs"], &[]);
}

#[test]
#[ignore = "boots for minutes: run with --ignored"]
fn armhf_boots() {
    converts_and_boots(12, "armhf", "arm", &["dm", "overlayfs"], &[]);
}

#[test]
#[ignore = "boots for minutes: run with --ignored"]
fn ppc64el_boots() {
    converts_and_boots(12, "ppc64el", "ppc64le", &["dm", "overlayfs"], &[]);
}

#[test]
#[ignore = "boots for minutes: run with --ignored"]
fn riscv64_boots() {
    converts_and_boots(13, "riscv64", "riscv64", &["dm", "overlayfs"], &[]);
}

/// A system of Debian 13's packages for s390x, for which there is no package of an installer: busybox as init, the modules
/// of its kernel, and a prompt on the machine's own console.
const S390X_SYSTEM: &str = r#"
dpkg-deb -x "$1" b
dpkg-deb -x "$2" k
version=$(ls k/usr/lib/modules)
mkdir -p r/{bin,sbin,etc,proc,sys,dev,run,tmp,root} "r/usr/lib/modules/$version/kernel/drivers"
cp "$(find b -path '*/bin/busybox')" r/bin/busybox
for link in bin/sh bin/mount bin/hostname bin/login sbin/getty sbin/init; do ln -s /bin/busybox "r/$link"; done
ln -s sbin/init r/init
ln -s usr/lib r/lib
cp k/usr/lib/modules/"$version"/modules.* "r/usr/lib/modules/$version/"
for part in arch crypto fs lib drivers/{block,md,s390}; do
    cp -r "k/usr/lib/modules/$version/kernel/$part" "r/usr/lib/modules/$version/kernel/$part"
done
echo squashed >r/etc/hostname
printf '::sysinit:/bin/%s
' 'mount -t proc proc /proc' 'mount -t devtmpfs dev /dev' 'hostname -F /etc/hostname' >r/etc/inittab
echo '::respawn:/sbin/getty -L 0 ttysclp0 vt100' >>r/etc/inittab
(cd r && find . | sort | cpio --quiet -o -H newc | gzip -1) >initrd.gz
cp k/boot/vmlinuz-* vmlinuz
"#;

/// The big-endian machine.
#[test]
fn s390x_boots() {
    let find = |dir: &str, start: &str| {
        let mut entries = std::fs::read_dir(assets().join(dir)).ok()?.flatten().map(|entry| entry.path());
        entries.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(start) && name.ends_with("_s390x.deb")
        })
    };
    let (Some(busybox), Some(package)) = (find("d13", "busybox-static_"), find("modules", "linux-image-"))
    else {
        skip("the packages for s390x are not there: run samples/fetch --all");
        return;
    };
    if !["dpkg-deb", "cpio", qemu("s390x")].into_iter().all(have) || !built_for("s390x") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    sh(dir.path(), S390X_SYSTEM, &[&busybox, &package]);
    let (old, kernel) = (dir.path().join("initrd.gz"), dir.path().join("vmlinuz"));
    let package = package.display().to_string();
    for overlay in ["dm", "overlayfs"] {
        let new =
            converted(&format!("s390x-{overlay}"), &old, &["--overlay", overlay, "--modules", &package]);
        reaches(&new, &kernel, 256, "", "squashed login:", &[]);
    }
}

#[test]
fn every_machine_gets_a_static_init() {
    if !have("file") {
        return;
    }
    for (machine, said) in [
        ("x86_64", "x86-64"),
        ("i686", "Intel 80386"),
        ("aarch64", "ARM aarch64"),
        ("arm", "ARM, EABI5"),
        ("ppc64le", "64-bit PowerPC"),
        ("riscv64", "UCB RISC-V"),
        ("s390x", "MSB executable, IBM S/390"),
    ] {
        if !built_for(machine) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let (image, new) = (dir.path().join("initrd"), dir.path().join("new"));
        monolith(&image, machine);
        let modules = built_in_kernel(dir.path()).display().to_string();
        // Without --front-end: where the host's dracut packs programs for another machine, it is not used.
        let arguments = ["--assume-monolith", "--overlay", "overlayfs", "--modules", &modules];
        let mut all = arguments.to_vec();
        if machine == "x86_64" {
            all.extend(["--front-end", "built-in"]);
        }
        convert(&image, &new, &all);
        let init = run(btrsquash().args(["cat", "--layer", "initramfs"]).arg(&new).arg("init")).stdout;
        std::fs::write(dir.path().join("init"), init).unwrap();
        let is = sh(dir.path(), "file init", &[]);
        assert!(is.contains(said) && is.contains("statically linked"), "{machine}: {is}");
    }
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

/// A root directory with just what makes it one whose dracut could be used, with an interpreter for `machine` that does not
/// run anywhere.
fn root_for(dir: &Path, machine: &str) -> PathBuf {
    let root = dir.join(format!("root-{machine}"));
    for directory in ["usr/bin", "usr/sbin", "usr/lib/dracut/modules.d/90dmsquash-live", "tmp", "proc", "dev"]
    {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    // As a distribution with merged directories may have it: the link leads out of the root only for those outside.
    std::os::unix::fs::symlink("/usr/bin", root.join("bin")).unwrap();
    let programs =
        [("bash", elf(machine)), ("dracut", b"#!/bin/bash --norc\n".to_vec()), ("dmsetup", elf(machine))];
    for (name, bytes) in programs.into_iter().chain([("losetup", elf(machine))]) {
        let path = root.join("usr/bin").join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    root
}

#[test]
fn a_root_whose_programs_do_not_run_here_is_named_with_what_to_install() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("initrd");
    // QEMU has no Itanium: whatever else binfmt_misc knows here, not this one.
    monolith(&image, "ia64");
    let modules = built_in_kernel(dir.path());
    let refused = |machine: &str, words: &[&str]| {
        let output = btrsquash()
            .args(["convert", "--assume-monolith", "--front-end", "dracut", "--dracut-root"])
            .arg(root_for(dir.path(), machine))
            .arg("--modules")
            .arg(&modules)
            .arg(&image)
            .arg("-o")
            .arg(dir.path().join("new"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!dir.path().join("new").exists());
    };
    refused("ia64", &["root-ia64: ", "are for ia64", "qemu-user-static", "--front-end built-in"]);
    // Emulated or not, a root for another machine than the kernel's is of no use.
    refused("aarch64", &["packs programs for aarch64, and the kernel is for ia64", "--front-end built-in"]);
}

/// Debian's packages for arm64 are unpacked and its dracut is run by QEMU, which the kernel starts for its programs.
#[test]
#[ignore = "emulates dracut and boots for minutes: run with --ignored"]
fn the_dracut_of_an_arm64_root_makes_a_front_end() {
    let Some(installer) = installer(12, "arm64") else { return };
    if !(have("mmdebstrap") && have(qemu("aarch64")) && root()) {
        return;
    }
    if !Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() {
        skip("binfmt_misc does not know qemu-aarch64: install qemu-user-static and binfmt-support");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mmdebstrap --quiet --arch=arm64 --skip=check/qemu --variant=minbase \
        --include=dracut-core,dracut-live,kmod,cpio,dmsetup bookworm root $(\"$1\") >&2";
    sh(dir.path(), script, &[&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/mirror")]);
    let other = dir.path().join("root");
    let modules = installer.modules.display().to_string();
    let arguments =
        ["--compression", "zstd", "--modules", &modules, "--dracut-root", other.to_str().unwrap()];
    let image = converted("text-12-arm64-dracut", &installer.initrd, &arguments);
    let init = run(btrsquash().args(["cat", "--layer", "initramfs"]).arg(&image).arg("usr/bin/dash")).stdout;
    // EM_AARCH64.
    assert_eq!(init[18], 183);
    reaches(&image, &installer.kernel, 512, INSTALLER, FIRST_SCREEN, &[]);
}

#[test]
fn the_kernel_decides_and_not_the_init() {
    let Some(package) = kernel_package() else { return };
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("initrd");
    let new = dir.path().join("new");
    monolith(&image, "i686");
    let package = package.display().to_string();
    convert(&image, &new, &["--assume-monolith", "--front-end", "built-in", "--modules", &package]);
    // Class and machine in the header of the boot initramfs's init: ELFCLASS64, EM_X86_64.
    let init = run(btrsquash().args(["cat", "--layer", "initramfs"]).arg(&new).arg("init")).stdout;
    assert_eq!((init[4], init[18]), (2, 62));

    boots_with_a_32_bit_userland(dir.path(), &package);

    // The other way round no kernel does it.
    monolith(&image, "aarch64");
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

/// A 32-bit program as the init of an image for a 64-bit kernel.
fn boots_with_a_32_bit_userland(dir: &Path, package: &str) {
    const INIT: &str = r#"
        #include <stdio.h>
        #include <sys/utsname.h>
        #include <unistd.h>
        int main(void) {
            struct utsname name;
            uname(&name);
            printf("%d-bit program on %s\n", (int)(8 * sizeof(void *)), name.machine);
            for (;;) pause();
        }
    "#;
    let Some((_, kernel)) = crate::support::installer("text") else { return };
    if !have("i686-linux-gnu-gcc") || !have("qemu-system-x86_64") {
        return;
    }
    std::fs::write(dir.join("init.c"), INIT).unwrap();
    sh(dir, "i686-linux-gnu-gcc -static -Os -s -o init.elf init.c", &[]);
    let (image, new) = (dir.join("small"), dir.join("small.new"));
    let init = std::fs::read(dir.join("init.elf")).unwrap();
    let entries = [
        file("init", init).mode(0o100_755),
        self::dir("dev"),
        self::dir("proc"),
        self::dir("sys"),
        trailer(),
    ];
    std::fs::write(&image, archive(&entries)).unwrap();
    convert(&image, &new, &["--assume-monolith", "--front-end", "built-in", "--modules", package]);
    reaches(&new, &kernel, 256, "", "32-bit program on x86_64", &[]);
}
