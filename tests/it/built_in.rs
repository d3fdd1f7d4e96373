//! The built-in front-end, booted; and the parsers of its init.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::common::{
    FIRST_SCREEN, INSTALLER, assets, boot, btrsquash, console, converted, have, installer, kernel_package,
    reaches, root, sh, skip, systemd_image, told,
};
use crate::convert;
use crate::dracut::{SYSTEMD_MIB, appended};

// The init is a program of its own (src/build.rs): its modules are compiled into the tests once more.
#[allow(dead_code)]
#[path = "../../src/init/arguments.rs"]
mod arguments;
#[allow(dead_code)]
#[path = "../../src/init/block.rs"]
mod block;
#[allow(dead_code)]
#[path = "../../src/init/carry.rs"]
mod carry;
#[path = "../../src/init/checksum.rs"]
mod checksum;
#[path = "../../src/init/inside.rs"]
mod inside;
#[allow(dead_code)]
#[path = "../../src/init/sys.rs"]
mod sys;

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
        for folder in /usr/lib/dracut /sbin /usr/sbin /bin /usr/bin; do
            [ -L $folder ] || [ ! -e $folder ] || echo $folder
        done >hidden
        cp "$(command -v setpriv)" "$(command -v env)" .
        cat >inside <<'INSIDE'
        set -e
        mount --make-rprivate /
        while read -r folder; do mount --bind empty $folder; done <hidden
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
    let folder = assets().join("d13/usr/lib/debian-installer/images/13/amd64/gtk/debian-installer/amd64");
    let package = std::fs::read_dir(assets().join("d13")).ok().and_then(|dir| {
        dir.flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("linux-image-")))
    });
    if package.is_none() || !folder.join("initrd.gz").exists() {
        skip("the Debian 13 installer and its kernel are not there: run samples/fetch --all");
        return None;
    }
    Some((folder.join("initrd.gz"), folder.join("linux"), package?))
}

#[test]
fn a_retained_runtime_is_not_copied() {
    let Some((initrd, kernel, package)) = trixie().filter(|_| have("qemu-system-x86_64")) else { return };
    let arguments = ["--front-end", "built-in", "--modules", package.to_str().unwrap()];
    let image =
        converted("gtk13-retained", &initrd, &[&arguments[..], &["--runtime-from", "retained"]].concat());
    reaches(&image, &kernel, 176, &format!("{INSTALLER} retain_initrd"), FIRST_SCREEN, &[]);
    fails(&image, &kernel, INSTALLER, &["cannot go on", "add retain_initrd to the kernel's command line"]);
    let image = converted("gtk13", &initrd, &arguments);
    reaches(&image, &kernel, 288, INSTALLER, FIRST_SCREEN, &[]);
    reaches(&image, &kernel, 224, &format!("{INSTALLER} root=live:/squashfs.img"), FIRST_SCREEN, &[]);
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

#[test]
fn a_system_with_systemd_runs_on_both_overlays_and_on_two_kernels() {
    let Some((initrd, kernel)) = systemd_image().filter(|_| have("qemu-system-x86_64")) else { return };
    let Some((_, other_kernel, package)) = trixie() else { return };
    let check = |text: &str, root: &str, release: &str| {
        assert_eq!(told(text, "file").trim(), "written");
        let mounts = told(text, "mount");
        assert!(mounts.lines().next().unwrap().starts_with(root), "{mounts}");
        for place in ["/proc proc", "/sys sysfs", "/dev devtmpfs", "/run tmpfs"] {
            assert!(mounts.lines().any(|line| line.starts_with(place)), "{place}: {mounts}");
        }
        assert!(told(text, "free").contains("Mem:"));
        assert!(told(text, "kernel").starts_with(release));
        assert!(told(text, "init").starts_with("/init"), "{}", told(text, "init"));
    };
    let fast = ["--front-end", "built-in", "--compression", "gzip"];
    let image =
        converted("systemd-built-in-overlayfs", &initrd, &[&fast[..], &["--overlay", "overlayfs"]].concat());
    let folder = tempfile::tempdir().unwrap();
    let image =
        appended(folder.path(), &image, "echo hello >appended; mkdir etc; echo replaced >etc/motd", "gzip");
    let text = reaches(&image, &kernel, SYSTEMD_MIB, "", "login:", &[]);
    check(&text, "/ LiveOS_rootfs overlay rw", "6.1.");
    let carried = told(&text, "appended");
    assert!(carried.contains("hello") && carried.contains("replaced"), "{carried}");

    // The same system with the modules of a second kernel: an archive more, as the kernel would unpack it.
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
    let image = converted("systemd-two-kernels", &two, &fast);
    let report = report_of(&image);
    let kernels = report["front_end"]["kernels"].as_array().unwrap();
    let sizes: BTreeMap<&str, u64> =
        kernels.iter().map(|k| (k["version"].as_str().unwrap(), k["bytes"].as_u64().unwrap())).collect();
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    assert!(sizes.values().all(|bytes| *bytes > MIB), "{sizes:?}");
    for (kernel, release) in [(&kernel, "6.1."), (&other_kernel, "6.12.")] {
        let text = reaches(&image, kernel, SYSTEMD_MIB, "", "login:", &[]);
        check(&text, "/ /dev/mapper/live-rw btrfs rw", release);
        // The report behind the console repeats its last lines.
        assert_eq!(told(&text, "versions").lines().next().unwrap().split_whitespace().count(), 2);
        assert!(told(&text, "modules").contains("dm_snapshot"));
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
    // One archive plain and one gzip; none holds the folders that the runtime has.
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
        # Without what is in this folder of the runtime the installer does not start.
        echo no folder >lib/debian-installer-startup.d
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
    let stays = "/lib/debian-installer-startup.d was appended to the image, but is a folder of the runtime";
    for words in [
        "/preseed.cfg",
        "replaced",
        "linked",
        "insmod /lib/modules/",
        "dummy 16384",
        "there is no shell",
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
        &["root=live:/elsewhere.img names no file", "try: root=live:/squashfs.img"],
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

#[test]
fn the_command_line_is_read_as_dracut_reads_it() {
    let read = arguments::Arguments::parse;
    let all =
        read("root=live:/a rd.live.image name=\"two words\"\nroot=live:/b quiet rd.x=0 rd.y=no rd.z=1\n");
    assert_eq!(all.value("root"), Some("live:/b"));
    assert_eq!(all.value("name"), Some("two words"));
    assert_eq!(all.value("quiet"), None);
    assert!(all.has("quiet") && all.is_set("quiet") && all.is_set("rd.z"));
    assert!(!all.is_set("rd.x") && !all.is_set("rd.y") && !all.is_set("absent") && !all.has("absent"));
    // Whatever name stands last counts.
    let two = read("rd.live.overlay.overlayfs=0 rd.overlayfs=0\nrd.overlayfs=1");
    assert_eq!(two.switch(&["rd.live.overlay.overlayfs", "rd.overlayfs"]), Some(true));
    assert_eq!(two.switch(&["other"]), None);
}

proptest! {
    #[test]
    fn any_command_line_can_be_read(text in "\\PC*|[a-z=\" \n]*") {
        let all = arguments::Arguments::parse(&format!("{text}\nroot=live:/x"));
        prop_assert_eq!(all.value("root"), Some("live:/x"));
    }

    #[test]
    fn any_disk_can_be_looked_at(start in proptest::collection::vec(any::<u8>(), 0..2048), magic in 0_usize..6) {
        let mut bytes = vec![0; 72 << 10];
        bytes[..start.len()].copy_from_slice(&start);
        let (at, sign): (usize, &[u8]) = [
            (0, b"hsqs".as_slice()), (0x8001, b"CD001"), (0x438, &[0x53, 0xef]), (0, b"XFSB"), (0x10040, b"_BHRfS_M"), (510, &[0x55, 0xaa]),
        ][magic];
        bytes[at..at + sign.len()].copy_from_slice(sign);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let _ = block::identify(file.path());
        std::fs::write(file.path(), &bytes[..start.len()]).unwrap();
        let _ = block::identify(file.path());
    }
}

fn have_disk_tools() -> bool {
    let found = Path::new("/usr/sbin/mkfs.ext4").is_file() || Path::new("/sbin/mkfs.ext4").is_file();
    if !found {
        skip("mkfs.ext4 is not installed");
    }
    found
}

/// blkid is the judge.
#[test]
fn disks_are_told_by_their_superblocks() {
    if !(have_disk_tools() && have("mkfs.btrfs") && have("mksquashfs") && have("genisoimage")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        export PATH=$PATH:/usr/sbin:/sbin
        mkdir tree; echo hello >tree/file
        mkfs.ext4 -q -L Label-1 ext4 8M
        truncate -s 128M btrfs && mkfs.btrfs -q -L 'a label with blanks' btrfs
        truncate -s 64M vfat && mkfs.vfat -n FATLABEL vfat
        truncate -s 8M vfat12 && mkfs.vfat -F 12 -n SMALL vfat12
        genisoimage -quiet -V DISC -o iso9660 tree
        mksquashfs tree squashfs -quiet -no-progress
        for file in ext4 btrfs vfat vfat12 iso9660 squashfs; do
            echo $file,$(blkid -p -o value -s TYPE $file),$(blkid -p -o value -s LABEL $file),$(blkid -p -o value -s UUID $file)
        done"#;
    let said = sh(dir.path(), script, &[]);
    // mkfs says something too.
    let told: Vec<&str> = said.lines().filter(|line| line.matches(',').count() == 3).collect();
    assert_eq!(told.len(), 6, "{said}");
    for line in told {
        let [file, kind, label, uuid] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let found = block::identify(&dir.path().join(file)).unwrap();
        assert_eq!((found.kind, found.label.as_str(), found.uuid.as_str()), (kind, label, uuid), "{line}");
    }
}

#[test]
fn the_checksum_is_xxh64() {
    // Of doc/xxhash_spec.md and the reference program: `xxhsum -H64`.
    let of = |bytes: &[u8]| checksum::of(&mut &*bytes).unwrap();
    assert_eq!(of(b""), (0, 0xef46_db37_51d8_e999));
    assert_eq!(of(b"a"), (1, 0xd24e_c4f1_a98c_6e5b));
    assert_eq!(of(b"abc"), (3, 0x44bc_2cf5_ad77_0999));
    assert_eq!(of(b"Nobody inspects the spammish repetition"), (39, 0xfbce_a83c_8a37_8bf1));
    // However it arrives.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(buf.len()).min(1009);
            let (now, later) = self.0.split_at(count);
            buf[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }
    let bytes: Vec<u8> = (0..200_003_u32).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
    assert_eq!(checksum::of(&mut Slow(&bytes)).unwrap(), of(&bytes));
}

#[test]
fn trees_are_carried_over_others() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mkdir -p from/lib/modules from/etc from/both from/new/empty to/usr/lib to/etc to/both to/taken
        echo new >from/lib/modules/x.ko; ln -s usr/lib to/lib
        echo new >from/etc/file; ln from/etc/file from/etc/again; echo old >to/etc/file; echo kept >to/etc/other
        chmod 700 from/both; chmod 755 to/both
        echo file >from/taken; mkdir to/full; echo kept >to/full/kept; echo file >from/full; ln -s both from/filled
        mkdir -p to/filled/folder; echo old >to/one; ln to/one to/other; echo new >from/one
        ln -s /nowhere from/link; echo left >from/stays; mkfifo from/pipe
        ln -s usr/lib from/same; ln -s usr/lib to/same"#;
    sh(dir.path(), script, &[]);
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let stays = from.join("stays");
    let leave = |path: &Path| path == stays;
    let mut carrier = carry::Carrier::new(&from, &to, &leave).unwrap();
    carrier.tree(&from).unwrap();
    let text = |path: &str| std::fs::read_to_string(to.join(path)).unwrap();
    assert_eq!((text("usr/lib/modules/x.ko").as_str(), text("etc/file").as_str()), ("new\n", "new\n"));
    assert_eq!((text("etc/other").as_str(), text("taken").as_str()), ("kept\n", "file\n"));
    let data = |path: &str| std::fs::symlink_metadata(to.join(path)).unwrap();
    assert_eq!(data("etc/file").ino(), data("etc/again").ino());
    assert_eq!(data("both").mode() & 0o777, 0o700);
    assert!(data("lib").is_symlink() && data("new/empty").is_dir() && !to.join("stays").exists());
    assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
    // As Linux does: rmdir for a folder in the way, and a file is written over with all its names.
    assert_eq!((text("full/kept").as_str(), text("other").as_str()), ("kept\n", "new\n"));
    assert!(data("filled/folder").is_dir());
    let names = |paths: &[PathBuf]| -> Vec<String> {
        paths.iter().map(|p| p.strip_prefix(&to).unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&carrier.kept), ["filled", "full"]);
    let carried = names(&carrier.carried);
    let has = |name: &str| carried.iter().any(|path| path == name);
    assert!(!has("same") && !has("full") && has("new/empty"), "{carried:?}");
}

/// Every link of the runtime here leads outside where it is followed as the tests' own root has it.
#[test]
fn links_of_the_runtime_stay_inside_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mkdir -p from/var/run from/sbin from/up/deep from/lost from/file to/only-here/bin to/var
        ln -s /only-here to/var/run; ln -s /only-here/bin to/sbin; ln -s ../../../../../../../only-here to/up
        ln -s /not-there to/lost; ln -s /only-here/text to/file; echo text >to/only-here/text
        ln -s /only-here/../up/./bin/ to/chain; ln -s round to/round; ln -s /sbin/init to/init; echo x >to/only-here/bin/init
        for folder in var/run sbin up/deep lost file; do echo mine >from/$folder/mine; done
        echo mine >from/init"#;
    sh(dir.path(), script, &[]);
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let resolve = |path: &str| inside::resolve(&to, Path::new(path));
    for (path, at) in [
        ("/init", "only-here/bin/init"),
        ("sbin/init", "only-here/bin/init"),
        ("//chain/../bin/./init", "only-here/bin/init"),
        ("up/text", "only-here/text"),
        ("/../..", ""),
    ] {
        assert_eq!(resolve(path).unwrap(), to.join(at).components().collect::<PathBuf>(), "{path}");
    }
    let kind = |path: &str| resolve(path).unwrap_err();
    assert_eq!(kind("lost").kind(), std::io::ErrorKind::NotFound);
    assert_eq!(kind("file/..").kind(), std::io::ErrorKind::NotADirectory);
    assert_eq!(kind("round/x").raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));

    let nothing = |_: &Path| false;
    let mut carrier = carry::Carrier::new(&from, &to, &nothing).unwrap();
    carrier.tree(&from).unwrap();
    let text = |path: &str| std::fs::read_to_string(to.join(path)).unwrap();
    // A link that leads to no folder gives way to one, and a link in a file's place to the file.
    for path in
        ["only-here/mine", "only-here/bin/mine", "only-here/deep/mine", "lost/mine", "file/mine", "init"]
    {
        assert_eq!(text(path), "mine\n", "{path}");
    }
    for link in ["var/run", "sbin", "up"] {
        assert!(to.join(link).is_symlink(), "{link}");
    }
    assert_eq!((text("only-here/text").as_str(), text("only-here/bin/init").as_str()), ("text\n", "x\n"));
}
