//! The built-in front-end, booted; and the parsers of its init.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::convert;
use crate::dracut::{SYSTEMD_MIB, appended};
use crate::support::{
    FIRST_SCREEN, INSTALLER, assets, boot, btrsquash, console, converted, have, installer, kernel_package,
    reaches, root, sh, skip, systemd_image, told,
};

const MB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

fn report_of(image: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(image.with_extension("json")).unwrap()).unwrap()
}

/// The boot has to fail within 30 seconds of the machine's own time, with these words on the console.
fn fails(image: &Path, kernel: &Path, append: &str, words: &[&str]) {
    let (booted, text) = console(image, kernel, 512, append, FIRST_SCREEN, &[]);
    assert!(!booted, "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    let stamp = text
        .lines()
        .rev()
        .find_map(|line| line.split_once('[')?.1.split_once(']')?.0.trim().parse::<f64>().ok());
    assert!(stamp.is_some_and(|seconds| seconds < 30.0), "{stamp:?}: {text}");
}

/// The text installer, quickly compressed: the smallest real image.
fn text_image() -> Option<(PathBuf, PathBuf)> {
    let ((initrd, kernel), package) = (installer("text")?, kernel_package()?);
    let arguments = ["--front-end", "built-in", "--compression", "gzip", "--modules", package.to_str()?];
    have("qemu-system-x86_64").then(|| (converted("text-built-in", &initrd, &arguments), kernel))
}

#[test]
fn the_gtk_installer_is_small_and_boots_in_little_memory() {
    let (Some(image), Some((_, kernel))) = (convert::built_in(), installer("gtk")) else { return };
    let size = std::fs::metadata(&image).unwrap().len();
    assert!(size <= 54 * MB, "{size} bytes");
    let unpacked = report_of(&image)["front_end"]["unpacked"].as_u64().unwrap();
    assert!(unpacked <= 8 * MIB, "the front-end has {unpacked} bytes unpacked");
    if !have("qemu-system-x86_64") {
        return;
    }
    reaches(&image, &kernel, 224, INSTALLER, FIRST_SCREEN, &[]);
    // With root= on the kernel's own command line rootfs has no cap.
    reaches(&image, &kernel, 192, &format!("{INSTALLER} root=live:/squashfs.img"), FIRST_SCREEN, &[]);
}

#[test]
fn nobody_without_any_tool_makes_the_same_image() {
    let (Some((image, _)), Some((initrd, _)), Some(package)) =
        (text_image(), installer("text"), kernel_package())
    else {
        return;
    };
    // Only root can hide what is installed.
    if !root() {
        return;
    }
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    open(dir.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_btrsquash"));
    for (from, name) in [(binary, "btrsquash"), (&initrd, "old.gz"), (&package, "linux.deb")] {
        std::fs::copy(from, dir.path().join(name)).unwrap();
        open(&dir.path().join(name));
    }
    // A machine with nothing installed, as nobody and with an empty environment. `auto` sees that and says so.
    let script = r#"
        mkdir empty
        # mount itself goes last.
        for directory in /usr/lib/dracut /sbin /usr/sbin /bin /usr/bin; do
            [ -L $directory ] || [ ! -e $directory ] || echo $directory
        done >hidden
        cp "$(command -v setpriv)" "$(command -v env)" .
        cat >inside <<'INSIDE'
        set -e
        mount --make-rprivate /
        while read -r directory; do mount --bind empty $directory; done <hidden
        exec ./setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- \
            ./env -i TMPDIR="$PWD" ./btrsquash convert old.gz --compression gzip --quiet \
            --modules linux.deb -o new.img --report new.json
INSIDE
        unshare --mount bash inside"#;
    sh(dir.path(), script, &[]);
    let new = dir.path().join("new.img");
    assert!(std::fs::read(&new).unwrap() == std::fs::read(&image).unwrap(), "another image");
    let report = report_of(&new);
    let choice = report["choices"].as_array().unwrap().iter().find(|c| c["what"] == "front-end").unwrap();
    assert!(choice["chosen"] == "built-in" && choice["why"].as_str().unwrap().contains("dracut"), "{choice}");
}

/// The Debian 13 gtk installer, its kernel and that kernel's package.
fn trixie() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let directory = assets().join("d13/usr/lib/debian-installer/images/13/amd64/gtk/debian-installer/amd64");
    let package = std::fs::read_dir(assets().join("d13")).ok().and_then(|dir| {
        dir.flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("linux-image-")))
    });
    if package.is_none() || !directory.join("initrd.gz").exists() {
        skip("the Debian 13 installer and its kernel are not there: run samples/fetch --all");
        return None;
    }
    Some((directory.join("initrd.gz"), directory.join("linux"), package?))
}

#[test]
fn a_retained_runtime_is_not_copied() {
    let Some((initrd, kernel, package)) = trixie().filter(|_| have("qemu-system-x86_64")) else { return };
    let arguments =
        ["--front-end", "built-in", "--compression", "gzip", "--modules", package.to_str().unwrap()];
    let image =
        converted("gtk13-retained", &initrd, &[&arguments[..], &["--runtime-from", "retained"]].concat());
    // With xz 168 is enough: src/docs/ram-model.md. The original needs 448.
    reaches(&image, &kernel, 192, &format!("{INSTALLER} retain_initrd"), FIRST_SCREEN, &[]);
    fails(&image, &kernel, INSTALLER, &["cannot continue", "add retain_initrd to the kernel's command line"]);
    // The text installer is half as large: unconverted it needs 232.
    let initrd = initrd.to_str().unwrap().replace("/gtk/", "/text/");
    let image = converted("text13", Path::new(&initrd), &arguments);
    reaches(&image, &kernel, 192, INSTALLER, FIRST_SCREEN, &[]);
    // Debian 12's kernel cannot.
    let (Some((initrd, _)), Some(package)) = (installer("text"), kernel_package()) else { return };
    let output = btrsquash()
        .arg("convert")
        .arg(initrd)
        .arg("--modules")
        .arg(package)
        .args(["--runtime-from", "retained", "--dry-run"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Linux 6.8"));
}

/// On a device-mapper snapshot; tests/it/dracut.rs has such a system on overlayfs.
#[test]
fn a_system_with_systemd_runs_on_two_kernels() {
    let Some((initrd, kernel)) = systemd_image().filter(|_| have("qemu-system-x86_64")) else { return };
    let Some((_, other_kernel, package)) = trixie() else { return };
    // The system with the modules of a second kernel: an archive more, as the kernel would unpack it.
    let dir = tempfile::tempdir().unwrap();
    let two = dir.path().join("two.gz");
    let script = r#"
        mkdir deb usr
        dpkg-deb --fsys-tarfile "$1" | tar -x -C deb ./usr/lib/modules
        cd deb/usr/lib/modules/*/kernel
        rm -rf sound net
        find drivers -mindepth 1 -maxdepth 1 ! -name block ! -name char ! -name dax ! -name md ! -name virtio \
            -exec rm -r {} +
        cd ../../../../..
        find usr/lib/modules | cpio --quiet -H newc -R 0:0 -o | gzip -1 >../more.gz
        cd ..
        cat "$2" more.gz >two.gz"#;
    sh(dir.path(), script, &[&package, &initrd]);
    let arguments = ["--front-end", "built-in", "--compression", "gzip"];
    let image = converted("systemd-two-kernels", &two, &arguments);
    let report = report_of(&image);
    let kernels = report["front_end"]["kernels"].as_array().unwrap();
    let sizes: BTreeMap<&str, u64> =
        kernels.iter().map(|k| (k["version"].as_str().unwrap(), k["bytes"].as_u64().unwrap())).collect();
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    // loop and squashfs; the others travel inside the squashfs.
    assert!(sizes.values().all(|bytes| *bytes > 100 << 10), "{sizes:?}");
    let image =
        appended(dir.path(), &image, "echo hello >appended; mkdir etc; echo replaced >etc/motd", "gzip");
    for (kernel, release) in [(&kernel, "6.1."), (&other_kernel, "6.12.")] {
        let text = reaches(&image, kernel, SYSTEMD_MIB, "", "login:", &[]);
        assert_eq!(told(&text, "file").trim(), "written");
        let mounts = told(&text, "mount");
        assert!(mounts.starts_with("/ /dev/mapper/live-rw btrfs rw"), "{mounts}");
        for place in ["/proc proc", "/sys sysfs", "/dev devtmpfs", "/run tmpfs"] {
            assert!(mounts.lines().any(|line| line.starts_with(place)), "{place}: {mounts}");
        }
        assert!(told(&text, "free").contains("Mem:"));
        assert!(told(&text, "kernel").starts_with(release));
        assert!(told(&text, "init").starts_with("/init"), "{}", told(&text, "init"));
        // The report behind the console repeats its last lines.
        assert_eq!(told(&text, "versions").lines().next().unwrap().split_whitespace().count(), 2);
        assert!(told(&text, "modules").contains("dm_snapshot"));
        let carried = told(&text, "appended");
        assert!(carried.contains("hello") && carried.contains("replaced"), "{carried}");
    }
}

#[test]
fn the_runtime_stays_on_a_disk() {
    let (Some((initrd, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !(have("qemu-system-x86_64") && have_disk_tools()) {
        return;
    }
    let arguments = [
        "--front-end",
        "built-in",
        "--compression",
        "gzip",
        "--runtime-from",
        // With a blank, as the labels of installers' media have.
        "media:LABEL=INSTALL ME",
        "--modules",
        package.to_str().unwrap(),
    ];
    let image = converted("text-media", &initrd, &arguments);
    let entries = std::fs::read_to_string(image.with_file_name("text-media.boot.txt")).unwrap();
    for words in ["initrd /text-media.img", "INITRD text-media.img", "label INSTALL ME"] {
        assert!(entries.contains(words), "{entries}");
    }
    // The front-end part alone is known for what it is, and is not converted again.
    let output = btrsquash().arg("convert").arg(&image).arg("--dry-run").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("already converted"), "{said}");
    let notes = report_of(&image)["notes"].to_string();
    assert!(notes.contains("PowerPC") && notes.contains("fits into 12 MiB"), "{notes}");
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.img");
    let script = "mkdir -p medium/LiveOS; cp \"$1\" medium/LiveOS/squashfs.img
        PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -L 'INSTALL ME' -d medium disk.img 80M";
    sh(dir.path(), script, &[&image.with_file_name("text-media.squashfs.img")]);
    let drive = format!("--qemu=file={},format=raw,if=virtio,readonly=on", disk.display());
    // The squashfs takes no memory: less is needed than for the combined image.
    reaches(&image, &kernel, 160, INSTALLER, FIRST_SCREEN, &["--qemu=-drive", &drive]);
}

#[test]
fn two_parts_loaded_together_boot_as_one() {
    let (Some((initrd, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !(have("qemu-system-x86_64") && have("cpio")) {
        return;
    }
    let arguments = ["--front-end", "built-in", "--compression", "gzip", "--layout", "split", "--modules"];
    let image = converted("text-split", &initrd, &[&arguments[..], &[package.to_str().unwrap()]].concat());
    let entries = std::fs::read_to_string(image.with_file_name("text-split.boot.txt")).unwrap();
    for words in [
        "initrd /text-split.img newc:squashfs.img:/text-split.squashfs.img",
        "INITRD text-split.img,text-split.squashfs.img.cpio",
        "initrd text-split.squashfs.img /squashfs.img",
    ] {
        assert!(entries.contains(words), "{entries}");
    }
    let dir = tempfile::tempdir().unwrap();
    // As PXELINUX loads them, by the commands in the entry; then with a runtime that was cut short.
    let script = r#"
        ln -s "$2" squashfs.img
        echo squashfs.img | cpio --quiet -L -o -H newc >whole.cpio
        rm squashfs.img; head -c 30000000 "$2" >squashfs.img
        echo squashfs.img | cpio --quiet -o -H newc >cut.cpio
        for part in whole cut; do cp "$1" $part.img; truncate -s %4 $part.img; cat $part.cpio >>$part.img; done"#;
    sh(dir.path(), script, &[&image, &image.with_file_name("text-split.squashfs.img")]);
    reaches(&dir.path().join("whole.img"), &kernel, 512, INSTALLER, FIRST_SCREEN, &[]);
    fails(
        &dir.path().join("cut.img"),
        &kernel,
        INSTALLER,
        &["/squashfs.img is damaged: it has 30000000 bytes"],
    );
}

#[test]
fn appended_files_go_where_they_went() {
    let (Some((image, kernel)), Some(package)) = (text_image(), kernel_package()) else { return };
    if !(have("cpio") && have("dpkg-deb")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // One archive plain and one gzip; none holds the directories that the runtime has.
    let script = r#"
        mkdir -p plain zipped deb
        cat >plain/preseed.cfg <<'PRESEED'
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i preseed/early_command string exec >/dev/console 2>&1; ls -l /preseed.cfg /dev/console; ls -ld /srv/mine /etc; cat /etc/default-release /srv/link; modprobe -v dummy; grep dummy /proc/modules; grep -c . /proc/1/cmdline; cat /proc/mounts; echo THE END
PRESEED
        cd deb
        dpkg-deb --fsys-tarfile "$2" | tar -x --wildcards '*/kernel/drivers/net/dummy.ko'
        module=$(find . -name dummy.ko)
        release=$(echo "$module" | cut -d / -f 4)
        cd ../zipped
        mkdir -p lib/modules/$release/updates srv/mine updates/etc lib
        # Without what is in this directory of the runtime the installer does not start.
        echo no directory >lib/debian-installer-startup.d
        cp ../deb/$module lib/modules/$release/updates/
        echo linked >srv/mine/one; ln srv/mine/one srv/link; chmod 750 srv/mine
        echo replaced >updates/etc/default-release
        pack() { cpio --quiet -R $1 -H newc -o; }
        {
            printf '%s\n' srv srv/mine srv/mine/one srv/link | pack 7:8
            printf '%s\n' lib/modules/$release/updates lib/modules/$release/updates/dummy.ko \
                lib/debian-installer-startup.d updates updates/etc updates/etc/default-release | pack 0:0
        } | gzip >../zipped.cpio
        cd ../plain
        echo preseed.cfg | cpio --quiet -R 0:0 -H newc -o >../plain.cpio
        cd ..
        cp "$1" new.img; truncate -s %4 new.img; cat plain.cpio zipped.cpio >>new.img"#;
    sh(dir.path(), script, &[&image, &package]);
    // And rd.break says that there is no shell.
    let text =
        reaches(&dir.path().join("new.img"), &kernel, 512, &format!("{INSTALLER} rd.break"), "THE END", &[]);
    let stays =
        "/lib/debian-installer-startup.d was appended to the image, but is a directory of the runtime";
    for words in [
        "/preseed.cfg",
        "replaced",
        "linked",
        "insmod /lib/modules/",
        "dummy 16384",
        "this boot initramfs has no shell",
        stays,
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let line = |end: &str| text.lines().find(|line| line.ends_with(end)).unwrap_or_default();
    let (mine, etc) = (line(" /srv/mine"), line(" /etc"));
    assert!(mine.starts_with("drwxr-x---") && mine.contains(" 7 "), "{text}");
    assert!(etc.starts_with("drwxr-xr-x") && etc.contains(" root "), "{text}");
    assert!(line(" /dev/console").contains("5,   1"), "{text}");
    assert!(text.contains("/dev/mapper/live-rw / btrfs rw"), "{text}");
}

#[test]
fn failures_are_named_on_the_console() {
    let Some((image, kernel)) = text_image() else { return };
    let wrong = format!("{INSTALLER} root=live:/elsewhere.img");
    fails(
        &image,
        &kernel,
        &wrong,
        &["root=live:/elsewhere.img: no such file", "try: write root=live:/squashfs.img"],
    );
    let (booted, report) = boot(&image, &kernel, 512, "root=/dev/sda1", FIRST_SCREEN, &[]);
    let outcome = report["outcome"].as_str().unwrap();
    assert!(!booted && outcome.contains("root=/dev/sda1"), "{report:#}");
    if let Some((_, other, _)) = trixie() {
        let words = [
            "has no modules for kernel 6.12",
            "only for 6.1.",
            "boot the image with the kernel it was made for",
        ];
        fails(&image, &other, INSTALLER, &words);
    }
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.img");
    let mut bytes = std::fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16].fill(0x55);
    std::fs::write(&damaged, bytes).unwrap();
    fails(&damaged, &kernel, INSTALLER, &["/squashfs.img is damaged: its checksum is"]);
}

fn have_disk_tools() -> bool {
    let found = Path::new("/usr/sbin/mkfs.ext4").is_file() || Path::new("/sbin/mkfs.ext4").is_file();
    if !found {
        skip("mkfs.ext4 is not installed");
    }
    found
}
