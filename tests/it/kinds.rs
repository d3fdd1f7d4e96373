//! Kinds of image that people hold: what each is taken for, and on what signs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::images::{bootable, inspect, json};
use crate::support::newc::{Entry, archive, device, dir, file, symlink, trailer};
use crate::support::{
    btrsquash, console, have, installer, kernel_package, newer_kernel_package, reaches, run, sh,
};
use serde_json::Value;

/// An ELF file as far as anything looks.
const ELF: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0";

/// An image with these files, executable, and their directories.
fn image(dir_of: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let (mut entries, mut made) = (Vec::<Entry>::new(), BTreeSet::new());
    for (path, body) in files {
        for (at, _) in path.match_indices('/') {
            if made.insert(path[..at].to_owned()) {
                entries.push(dir(&path[..at]));
            }
        }
        entries.push(file(path, body).mode(0o755));
    }
    entries.extend([device("console", 0o020_600, 5, 1), symlink("bin-sh", "busybox"), trailer()]);
    let path = dir_of.join("image.cpio");
    std::fs::write(&path, archive(&entries)).unwrap();
    path
}

/// What inspect says of an image with an init and further files: (verdict, evidence, notes).
fn judged(init: &str, files: &[(&str, &[u8])]) -> (String, String, String) {
    let scratch = tempfile::tempdir().unwrap();
    let mut all: Vec<(&str, &[u8])> = vec![("init", init.as_bytes()), ("bin/busybox", ELF)];
    all.extend(files);
    let report = inspect(&image(scratch.path(), &all));
    let text = |list: &Value| {
        list.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let identity = &report["identity"];
    (identity["verdict"].as_str().unwrap().to_owned(), text(&identity["why"]), text(&report["notes"]))
}

#[test]
fn an_init_that_goes_to_another_root_is_a_front_end() {
    let system: &[(&str, &[u8])] = &[("sbin/getty", ELF), ("sbin/init", ELF), ("sbin/switch_root", ELF)];
    for end in [
        "exec switch_root /r /sbin/init",
        "exec /usr/bin/busybox switch_root /r /sbin/init",
        "b=/bin/busybox\nexec $b switch_root -c /dev/console /r /sbin/init \"$@\"",
        "exec env -i $(type -P switch_root) /r /sbin/init",
        "exec run-init /r /sbin/init <dev/console >dev/console",
        "cd /r; pivot_root . mnt; exec chroot . /sbin/init",
        "boot() { exec switch_root \"$1\" /sbin/init; }\n[ \"$rescue\" ] || boot /r",
        "exec sh /second",
        "exec systemctl switch-root /r /sbin/init",
        "trap 'exec switch_root /r /sbin/init' ALRM\nexec /sbin/getty",
        "exec $b switch_root \"$ROOT\" /sbin/init",
        // Linux Live Kit: it copies itself to be able to pivot, and starts itself again.
        "if [ ! -r /lib/escaped ]; then\nmkdir -p /m\nmount -n -t tmpfs -o size=\"100%\" tmpfs /m\ncp -a /??* /m 2>/dev/null\ncd /m\n\
         echo escaped >/m/lib/escaped\nexec switch_root -c /dev/console . $0\nfi\ncd /r\npivot_root . mnt/live\nexec chroot . sbin/init",
    ] {
        let init = format!("#!/bin/sh\nmount -t proc proc /proc\nmount -o ro /dev/sda1 /r\n{end}\n");
        let mut files = system.to_vec();
        files.push(("second", b"#!/bin/sh\nexec switch_root /r /sbin/init\n"));
        let (verdict, why, _) = judged(&init, &files);
        assert_eq!(verdict, "front-end (an unknown generator)", "{end}: {why}");
        assert!(why.starts_with("/init goes to another root with "), "{end}: {why}");
    }
    // The word alone is no sign.
    for end in
        ["echo exec switch_root /r /sbin/init; exec /sbin/init", "# exec switch_root /r\nexec /sbin/init"]
    {
        assert_eq!(judged(&format!("#!/bin/sh\n{end}\n"), system).0, "monolith", "{end}");
    }
}

#[test]
fn sourced_scripts_count_as_yocto_writes_them() {
    let init = "#!/bin/sh\nMODULE_DIR=/init.d\nROOTFS_DIR=\"/rootfs\"\nfatal() { echo $1; exec sh; }\nmount -t proc proc /proc\n\
                for m in $MODULE_DIR/*; do\n    if [ \"`echo $m | sed -e 's/\\~$//'`\" != \"$m\" ]; then\n        continue\n    fi\n\
                module=`basename $m | cut -d'-' -f 2`\n    . $m\n    if ! eval \"${module}_enabled\"; then continue; fi\n\
                eval \"${module}_run\"\ndone\nfatal 'nothing found'\n";
    let finish: &[u8] = b"finish_enabled() {\n return 0\n}\nfinish_run() {\n if [ -n \"$ROOTFS_DIR\" ]; then\n \
                          exec switch_root -c /dev/console $ROOTFS_DIR ${bootparam_init:-/sbin/init}\n fi\n}\n";
    let (verdict, why, _) = judged(
        init,
        &[
            ("init.d/01-udev", b"udev_enabled() { return 0; }\n"),
            ("init.d/90-finish", finish),
            ("sbin/init", ELF),
        ],
    );
    assert_eq!(verdict, "front-end (an unknown generator)", "{why}");
    let (verdict, why, _) = judged(init, &[("init.d/99-finish", finish), ("sbin/init", ELF)]);
    assert_eq!(verdict, "front-end (initramfs-framework (Yocto))", "{why}");
}

#[test]
fn a_crash_dump_initramfs_is_a_monolith() {
    let init = "#!/bin/sh\n. /lib/dracut-lib.sh\nexec switch_root \"$NEWROOT\" \"$INIT\"\n";
    for sign in [
        "etc/kdump.conf",
        "usr/lib/systemd/system/kdump-capture.service",
        "lib/kdump/kdump-lib-initramfs.sh",
        "kdump/kdump-save",
        "usr/lib/systemd/system/kdump-save.service",
    ] {
        let (verdict, why, _) =
            judged(init, &[("usr/lib/dracut-lib.sh", b""), ("etc/initrd-release", b""), (sign, b"")]);
        assert_eq!(verdict, "monolith", "{sign}: {why}");
        assert!(why.starts_with("a crash dump tool"), "{why}");
    }
}

/// How real projects' inits copy the image, and what they start in the copy.
const COPIES: [(&str, &str, &str); 22] = [
    (
        "OpenWrt",
        "DIRS=$(echo *)\nN=/new_root\nmkdir -p $N\nmount -t tmpfs tmpfs $N\ncp -pr $DIRS $N\nexec switch_root $N /sbin/init",
        "/sbin/init",
    ),
    (
        "minikube",
        "mkdir /sysroot\nmount -t tmpfs -o size=90% tmpfs /sysroot\ntar -C / --exclude=sysroot -cf - . | tar -C /sysroot/ -xf -\n\
         /bin/mount -t devtmpfs devtmpfs /sysroot/dev\nexec 0</sysroot/dev/console\nexec /sbin/switch_root /sysroot /sbin/init \"$@\"",
        "/sbin/init",
    ),
    (
        "boot2docker",
        "if mount -t tmpfs -o size=90% tmpfs /mnt; then\n if tar -C / --exclude=mnt -cf - . | tar -C /mnt/ -xf - ; then\n mkdir /mnt/mnt\n\
         exec /sbin/switch_root mnt /sbin/init\n fi\nfi\nexec /sbin/init",
        "/sbin/init",
    ),
    ("a second script", "exec /etc/second.sh", "/etc/last.sh"),
    (
        "Warewulf",
        ". /warewulf/config\nif [ \"$ROOT\" = initramfs ]; then exec /sbin/init\nelif [ \"$ROOT\" = ramfs -o \"$ROOT\" = tmpfs ]; then\n\
         mkdir /n\nmount wwroot /n -t ${ROOT} -o mpol=interleave\ntar -cf - --exclude ./proc --exclude ./n . | tar -xf - -C /n\n\
         exec /sbin/switch_root /n \"/etc/last.sh\"\nfi\nsleep 60; reboot -f",
        "/etc/last.sh",
    ),
    (
        "ReaR",
        "mkdir /ramdisk\nmount -t tmpfs $opts none /ramdisk\ncp -ax / /ramdisk/\ncd /ramdisk\nexec switch_root /ramdisk sbin/init <dev/console",
        "/sbin/init",
    ),
    (
        "rsync",
        "mount -t ramfs ramfs /n\nrsync -aHx --exclude=/n / /n\nexec busybox switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "cpio",
        "mount -t tmpfs none /n\ncd /\nfind . -xdev | cpio -pdm /n\nexec run-init /n /sbin/init",
        "/sbin/init",
    ),
    (
        "cpio by a pipe",
        "mount -t tmpfs none /n\n(cd / && find . -xdev | cpio -o -H newc) | (cd /n; cpio -idm)\nexec switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "pivot_root",
        "mount -t tmpfs none /n\ncp -a /. /n\ncd /n\nmkdir old\npivot_root . old\nexec chroot . /sbin/init",
        "/sbin/init",
    ),
    (
        "a function",
        "copy() {\n for d in /*; do case $d in /n|/proc) continue ;; esac; cp -a $d \"$1\"; done\n}\nmount -t tmpfs t /n && copy /n\nexec switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "claylinux",
        "set -eu\nexec >/dev/console 2>/dev/console\nb=/busybox.static\n$b mount -t tmpfs root /n\n\
         $b find / -path /n -prune -o ! -path $b ! -path /init -mindepth 1 -maxdepth 1 -exec $b mv -t /n {} +\n\
         exec $b switch_root /n /sbin/init \"$@\"",
        "/sbin/init",
    ),
    (
        "ReaR with bash's own syntax",
        "if test -s /warewulf/config; then\n read free junk </warewulf/config\n read size junk <<<$(du -xsm /) # not <()\n\
         ((total = size + free))\n opts=\"-o size=${total}m\"\nfi\nmount -t tmpfs $opts none /n\ncp -ax / /n/\ncd /n\n\
         exec switch_root /n sbin/init <dev/console &>dev/console",
        "/sbin/init",
    ),
    (
        "SliTaz",
        "size=\"$(grep rootfssize= < /proc/cmdline | sed 's/x/y/')\"\n[ -z \"$size\" ] && size=90%\nfree=$(busybox free | busybox awk '{ print $1 }')\n\
         if [ \"$free\" -lt 100 ] || ! mount -t tmpfs -o size=$size tmpfs /n; then\n exec /sbin/init\nfi\n\
         for i in $(ls -a /); do\n case \"$i\" in .|..) ;; n) mkdir /n/n ;; *) cp -a /$i /n ;; esac\ndone\nexec /bin/busybox switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "a name for each",
        "mount -t tmpfs n /n\nls / | grep -v n | xargs -I{} cp -a /{} /n/\nexec switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "braces",
        "mount -t tmpfs n /n\ncp -a /{bin,sbin,etc,usr} /n\nexec switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "another place of the root",
        "mount --bind / /tmp/old\nmount -nt tmpfs n /tmp/new\ncp -a /tmp/old/. /tmp/new/\nexec switch_root /tmp/new /sbin/init",
        "/sbin/init",
    ),
    (
        "a made-up directory",
        "N=$(mktemp -d)\nmount -t tmpfs n $N\ncp -ax / $N\nexec switch_root $N /sbin/init",
        "/sbin/init",
    ),
    (
        "a compressed RAM disk",
        "mkfs.ext4 /dev/zram0\nmount /dev/zram0 /n\ncp -ax / /n\nexec switch_root /n /sbin/init",
        "/sbin/init",
    ),
    (
        "moved over the root",
        "mount -t tmpfs n /n\ncp -ax /. /n\ncd /n\nmount --move . /\nexec chroot . /sbin/init",
        "/sbin/init",
    ),
    (
        "itself, by a variable",
        "mount -t devtmpfs d /dev\nif [ -z \"${ROOT_SWITCHED}\" ]; then\n if mount -t tmpfs -o size=90% tmpfs /mnt; then\n\
          if tar -C / --exclude=mnt -cf - . | tar -C /mnt/ -xf -; then\n export ROOT_SWITCHED=true\n exec switch_root /mnt /init\n fi\n fi\nfi\nexec /sbin/init $*",
        "/init",
    ),
    (
        "itself, by an argument",
        "if [ \"$1\" != second ]; then\n mount -t tmpfs t /n\n cp -a /bin /sbin /etc /usr /init /n\n exec switch_root /n /init second\nfi\nexec /sbin/init",
        "/init",
    ),
];

/// Inits that mount the image a second time and go on from there.
const SECOND_MOUNTS: [&str; 3] = [
    "mount --bind / /n\nexec switch_root /n /sbin/init",
    "mount -t tmpfs t /o\nmount -t overlay -o lowerdir=/,upperdir=/o/u,workdir=/o/w none /n\nexec busybox switch_root /n /sbin/init",
    "mount -t aufs -o br:/o/u=rw:/=ro none /n\nexec chroot /n /sbin/init",
];

fn copying_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("sbin/init", ELF.to_vec()),
        ("sbin/switch_root", ELF.to_vec()),
        (
            "etc/second.sh",
            b"#!/bin/sh\nmount -t tmpfs none /mnt\nfor dir in */ ; do\ncase $dir in\nproc/|mnt/) ;;\n*) cp -a $dir /mnt ;;\nesac\ndone\n\
              mount --move /dev /mnt/dev\nexec switch_root /mnt /etc/last.sh\n"
                .to_vec(),
        ),
        ("etc/last.sh", b"#!/bin/sh\nexec /sbin/init\n".to_vec()),
        ("warewulf/config", b"ROOT=tmpfs\n".to_vec()),
        ("usr/lib/data", vec![7; 2 << 20]),
    ]
}

#[test]
fn an_init_that_copies_the_image_is_skipped() {
    let files = copying_files();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, body)| (*path, body.as_slice())).collect();
    for (name, init, started) in COPIES {
        let (verdict, why, notes) = judged(&format!("#!/bin/sh\n{init}\n"), &files);
        assert_eq!(verdict, "monolith", "{name}: {why}");
        assert!(why.starts_with("/init copies the image into a file system in memory"), "{name}: {why}");
        assert!(notes.contains(&format!("skips /init and starts {started} itself")), "{name}: {notes}");
        assert!(!notes.contains("cannot be skipped"), "{name}: {notes}");
    }
}

#[test]
fn an_init_that_mounts_the_image_again_is_skipped() {
    let files = copying_files();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, body)| (*path, body.as_slice())).collect();
    for init in SECOND_MOUNTS {
        let (verdict, why, notes) = judged(&format!("#!/bin/sh\n{init}\n"), &files);
        assert_eq!(verdict, "monolith", "{init}: {why}");
        assert!(why.starts_with("/init mounts the image a second time"), "{init}: {why}");
        assert!(notes.contains("skips /init and starts /sbin/init itself"), "{init}: {notes}");
    }
}

#[test]
fn a_copy_that_cannot_be_skipped_safely_is_said() {
    let files = copying_files();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, body)| (*path, body.as_slice())).collect();
    for (init, why) in [
        (
            "if probe-memory; then mount -t tmpfs t /n; cp -a /* /n; exec switch_root /n /sbin/init; fi\nexec /sbin/init",
            "only shows at boot",
        ),
        ("mount -t tmpfs t /n; cp -a /* /n; exec switch_root /n $(choose-init)", "is not known"),
        (
            "[ -e /escaped ] && exec /sbin/init; mount -t tmpfs t /n; cp -a /* /n; touch /n/escaped; exec switch_root /n $0",
            "started again in the copy",
        ),
        // The system is in a directory.
        (
            "mount -t tmpfs t /n; find /usr -mindepth 1 -exec mv -t /n {} +; exec switch_root /n /lib/systemd",
            "is not known",
        ),
    ] {
        let (verdict, _, notes) = judged(&format!("#!/bin/sh\n{init}\n"), &files);
        assert_eq!(verdict, "monolith");
        assert!(
            notes.contains("cannot be skipped safely") && notes.contains(why) && notes.contains("--init"),
            "{notes}"
        );
    }
    // Tiny Core copies only where the command line says noembed.
    let tiny = "mount proc\nif ! grep -qw noembed /proc/cmdline; then\n mount / -o remount,size=90%\n umount proc\n exec /sbin/init\nfi\n\
                mount -t tmpfs -o size=90% tmpfs /mnt\ntar -C / --exclude=mnt -cf - . | tar -C /mnt/ -xf -\nexec switch_root mnt /sbin/init\n";
    let (verdict, why, notes) = judged(&format!("#!/bin/sh\n{tiny}"), &files);
    assert_eq!((verdict.as_str(), notes.contains("copies")), ("monolith", false), "{why}\n{notes}");
    // A few files taken along are no copy of the image.
    let (verdict, why, _) =
        judged("#!/bin/sh\nmount -t tmpfs t /r\ncp -a /etc /r\nexec switch_root /r /sbin/init\n", &files);
    assert_eq!(verdict, "front-end (an unknown generator)", "{why}");
}

#[test]
fn the_memory_for_a_copy_counts() {
    let scratch = tempfile::tempdir().unwrap();
    let least = |init: &str| {
        let files = copying_files();
        let large = vec![7; 64 << 20];
        let mut all: Vec<(&str, &[u8])> =
            vec![("init", init.as_bytes()), ("usr/share/large", &large), ("usr/bin/agent", ELF)];
        all.extend(files.iter().map(|(path, body)| (*path, body.as_slice())));
        let packed = image(scratch.path(), &all);
        run(std::process::Command::new("gzip").arg("-kf").arg(&packed));
        let report = inspect(&packed.with_extension("cpio.gz"));
        (report["ram"]["minimum"]["value"].as_u64().unwrap(), report["ram"]["parts"].to_string())
    };
    // Programs of their own, for which the model has the same working set.
    let (alone, parts) = least("#!/bin/sh\nexec /usr/bin/agent\n");
    assert!(!parts.contains("T: copied"));
    let (copied, parts) =
        least("#!/bin/sh\nmount -t tmpfs t /n\ncp -a /* /n\nexec switch_root /n /usr/bin/agent\n");
    assert!(parts.contains("T: copied"), "{parts}");
    assert!(copied > alone, "{copied} {alone}");
}

#[test]
fn the_program_to_start_is_what_the_script_starts_or_what_init_names() {
    let scratch = tempfile::tempdir().unwrap();
    let old = bootable(scratch.path());
    sh(
        scratch.path(),
        r"cd tree; mkdir -p sbin new; printf '#!/bin/sh\nmount -t proc proc /proc\n' >sbin/init; chmod 755 sbin/init; cp sbin/init sbin/other
        printf '#!/bin/sh\nexport A=1\nmount -t tmpfs t /new\ncp -a /* /new\nexec switch_root /new /sbin/init\n' >init
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 >../bootable.img",
        &[],
    );
    let config = |more: &[&str]| {
        let new = scratch.path().join("new.img");
        crate::support::images::convert(&old, &new, &[&["--front-end", "built-in"], more].concat());
        let opened = btrsquash::image::open(&new, &btrsquash::initrd::Limits::default(), &|_| ())
            .unwrap()
            .initrd
            .unwrap();
        let id = opened.tree.get(".btrsquash/config").unwrap();
        String::from_utf8(opened.tree.read(id, 4096).unwrap().unwrap()).unwrap()
    };
    let skipped = config(&[]);
    assert!(skipped.contains("init=/sbin/init\n") && skipped.contains("environment=A=1\n"), "{skipped}");
    let named = config(&["--init", "/sbin/other"]);
    assert!(named.contains("init=/sbin/other\n") && !named.contains("environment="), "{named}");
    for (wrong, words) in
        [("/sbin/none", "is not in the image"), ("sbin/init", "absolute"), ("/etc/text", "executable")]
    {
        let output = btrsquash()
            .arg("convert")
            .arg(&old)
            .args(["--dry-run", "--front-end", "built-in", "--init", wrong])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{wrong}: {output:?}");
    }
}

/// Files that hold a system, made by their own tools.
fn inside(scratch: &Path) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    sh(
        scratch,
        r"mkdir -p s/etc s/usr/bin; head -c 1300000 /dev/urandom >s/usr/bin/noise; echo hello >s/etc/motd
        mksquashfs s a.squashfs -quiet -no-progress >/dev/null
        mke2fs -q -t ext4 -d s a.ext4 3M
        tar cf a.tar s; xz -T1 -1k a.tar; gzip -k a.tar
        (cd s && find . | cpio -o -H newc --quiet) >a.cpio; xz -1k a.cpio
        genisoimage -quiet -R -o a.iso s",
        &[],
    );
    let read = |name: &str| std::fs::read(scratch.join(name)).unwrap();
    vec![
        ("root.squashfs", "squashfs", read("a.squashfs")),
        ("usr.squashfs", "squashfs", read("a.squashfs")),
        ("nix-store.squashfs", "squashfs", read("a.squashfs")),
        ("rootfs.sqsh", "squashfs", read("a.squashfs")),
        ("images/pxe/system.bin", "squashfs", read("a.squashfs")),
        ("rootfs.ext4", "ext4", read("a.ext4")),
        ("live.iso", "ISO 9660", read("a.iso")),
        ("rootfs.tar", "tar", read("a.tar")),
        ("rootfs.tar.gz", "tar, compressed", read("a.tar.gz")),
        ("rootfs.tar.xz", "tar, compressed", read("a.tar.xz")),
        ("system.cpio", "cpio", read("a.cpio")),
        ("system.cpio.xz", "cpio, compressed", read("a.cpio.xz")),
    ]
}

#[test]
fn a_system_in_layers_is_found() {
    if !["mksquashfs", "mke2fs", "genisoimage", "xz", "cpio"].into_iter().all(have) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let inside = inside(scratch.path());
    let (_, _, layer) = &inside[0];
    let init =
        "#!/bin/sh\nmount -t aufs -o br=/m/rw:/m/1=ro none /m/union\nexec switch_root /m/union /sbin/init\n";
    let firmware = vec![7; 2 * layer.len() / 3];
    let files: [(&str, &[u8]); 5] = [
        ("slax/01-core.sb", layer),
        ("slax/02-xorg.sb", layer),
        ("init", init.as_bytes()),
        ("lib/firmware/blob", &firmware),
        ("sbin/init", ELF),
    ];
    let report = inspect(&image(scratch.path(), &files));
    let identity = &report["identity"];
    assert_eq!(identity["verdict"], "front-end (an unknown generator) with the system inside", "{report:#}");
    let why = identity["why"].to_string();
    assert!(why.contains("/slax/01-core.sb and another file hold 74% of the image's content"), "{why}");
    let parts = report["ram"]["parts"].as_array().unwrap();
    let pinned = parts.iter().find(|part| part["name"] == "S: pinned").unwrap();
    assert_eq!(pinned["figure"]["value"], 2 * (layer.len() as u64).next_multiple_of(4096));
}

#[test]
fn a_system_in_a_file_inside_is_found_by_magic() {
    if !["mksquashfs", "mke2fs", "genisoimage", "xz", "cpio"].into_iter().all(have) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let dracut: &[(&str, &[u8])] = &[("usr/lib/dracut-lib.sh", b"")];
    let script = "#!/bin/sh\nexec switch_root /sysroot /sbin/init\n";
    let elf = String::from_utf8_lossy(b"\x7fELF").into_owned();
    let files_inside = inside(scratch.path());
    for (path, kind, body) in &files_inside {
        let (path, kind) = (*path, *kind);
        for (init, front, maker) in
            [(script, dracut, "dracut"), (elf.as_str(), &[][..], "an unknown generator")]
        {
            let mut files = front.to_vec();
            files.push((path, body));
            let image = image(scratch.path(), &[&[("init", init.as_bytes())], &files[..]].concat());
            let report = inspect(&image);
            let verdict = report["identity"]["verdict"].as_str().unwrap();
            assert_eq!(verdict, format!("front-end ({maker}) with the system inside"), "{path}: {report:#}");
            let notes = report["notes"].to_string();
            assert!(
                notes.contains(&format!("/{path} is a file system image or an archive: {kind}, ")),
                "{path}: {notes}"
            );
            let pinned = report["ram"]["parts"]
                .as_array()
                .unwrap()
                .iter()
                .find(|part| part["name"] == "S: pinned")
                .unwrap();
            assert_eq!(pinned["figure"]["value"], (body.len() as u64).next_multiple_of(4096), "{path}");
            if kind != "ext4" {
                let largest = report["largest"].to_string();
                assert!(
                    largest.contains("usr/bin/noise") && largest.contains("1300000"),
                    "{path}: {report:#}"
                );
                assert_eq!(report["layers"][0]["path"], path);
                let motd = if path.contains(".tar") { "s/etc/motd" } else { "etc/motd" };
                let read = run(btrsquash().arg("cat").arg(&image).arg(motd));
                assert_eq!(read.stdout, b"hello\n", "{path}");
            }
            let output = btrsquash()
                .arg("convert")
                .arg(&image)
                .args(["--dry-run", "--front-end", "built-in"])
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(3), "{path}");
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(words.contains(&format!("/{path}")) && words.contains("nothing to convert"), "{words}");
        }
    }
    // In a monolith it is a file like others.
    let (verdict, _, notes) = judged(
        "#!/bin/sh\nexec /sbin/init\n",
        &[("sbin/init", ELF), ("var/lib/dpkg/status", b""), ("usr/share/other.squashfs", &files_inside[0].2)],
    );
    assert_eq!(verdict, "monolith");
    assert!(notes.contains("/usr/share/other.squashfs is a file system image"), "{notes}");
}

#[test]
fn the_report_of_a_conversion_says_what_is_skipped() {
    let scratch = tempfile::tempdir().unwrap();
    let old = bootable(scratch.path());
    sh(
        scratch.path(),
        r"cd tree; mkdir -p sbin new; printf '#!/bin/sh\nmount -t proc proc /proc\n' >sbin/init; chmod 755 sbin/init
        printf '#!/bin/sh\nexport INITRAMFS=1\nmodprobe special\nmount -t tmpfs t /new\ncp -a /* /new\nmount -t tmpfs t /new/var\nexec switch_root /new /sbin/init 5\n' >init
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 >../bootable.img",
        &[],
    );
    let output =
        run(btrsquash().arg("convert").arg(&old).args(["--dry-run", "--front-end", "built-in", "--json"]));
    let notes = json(&output)["notes"].to_string();
    for words in [
        "commands of /init are skipped too: modprobe special",
        "/var",
        "/sbin/init gets the arguments that /init gave it: /sbin/init 5",
        "/sbin/init gets what /init exported: INITRAMFS=1",
        "starts /sbin/init itself",
    ] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
}

/// A system of busybox-static and Debian's kernel modules whose /init is `init`; and its kernel. It says what its root is and
/// what it finds there, then READY.
fn copying_system(scratch: &Path, init: &str) -> Option<(PathBuf, PathBuf)> {
    let tools = ["busybox", "dpkg-deb", "cpio", "gzip"].into_iter().all(have);
    let ((_, kernel), package) = (installer("text")?, kernel_package()?);
    if !tools {
        return None;
    }
    std::fs::write(scratch.join("init"), format!("#!/bin/sh\n{init}\n")).unwrap();
    sh(
        scratch,
        r#"dpkg-deb -x "$1" package
        mkdir -p r/bin r/sbin r/etc r/proc r/sys r/dev; cd r
        cp "$(command -v busybox)" bin/busybox
        for tool in sh cp tar mount mkdir cat switch_root ls grep sleep; do ln -s busybox bin/$tool; done
        cp ../init init
        cat >sbin/init <<'END'
#!/bin/sh
mount -t proc proc /proc
grep ' / ' /proc/mounts >/dev/console
mount -t sysfs sysfs /sys
echo "FOUND: $(ls / | tr '\n' ' ') pid $$ environment $INITRAMFS arguments $*" >/dev/console
grep loop /proc/partitions >/dev/console
echo "READ-ONLY: $(cat /sys/block/loop0/ro /sys/block/loop1/ro | tr '\n' ' ')" >/dev/console
echo READY >/dev/console
while :; do sleep 100; done
END
        chmod 755 init sbin/init; ln -s busybox bin/tr
        modules=$(cd ../package; echo lib/modules/*)
        mkdir -p $modules/kernel/drivers; cp ../package/$modules/modules.* $modules
        for part in fs lib crypto arch drivers/block drivers/md drivers/net drivers/scsi; do
            cp -r ../package/$modules/kernel/$part $modules/kernel/$part
        done
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0 | gzip -6 >../old.gz"#,
        &[&package],
    );
    Some((scratch.join("old.gz"), kernel))
}

/// The figures of `boot --find-min` in steps of 16 MiB: the original 416 MiB, converted 160 MiB (Debian's kernel 6.1, one
/// CPU).
#[test]
fn a_system_that_copies_itself_boots_in_less_than_45_percent_of_the_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let openwrt = "export INITRAMFS=1\nDIRS=$(echo *)\nN=/new_root\nmkdir -p $N\nmount -t tmpfs tmpfs $N\ncp -pr $DIRS $N\nexec switch_root $N /sbin/init one";
    let Some((old, kernel)) = copying_system(scratch.path(), openwrt) else { return };
    let new = scratch.path().join("new.img");
    run(btrsquash().arg("convert").arg(&old).args(["--front-end", "built-in", "--quiet", "-o"]).arg(&new));
    if !have("qemu-system-x86_64") {
        return;
    }
    let (booted, text) = console(&old, &kernel, 392, "", "READY", &[]);
    assert!(!booted, "{text}");
    let text = reaches(&new, &kernel, 392 * 45 / 100, "", "READY", &[]);
    assert!(text.contains(" / btrfs ") && text.contains("pid 1") && !text.contains("new_root"), "{text}");
    assert!(text.contains("environment 1 arguments one"), "{text}");
    // What an installer could take for disks: two that are read-only, and one as large as the system with its free space.
    assert!(text.contains("READ-ONLY: 1 1"), "{text}");
    let size = text.lines().find(|line| line.trim_end().ends_with(" loop2")).unwrap();
    let kib = size.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap();
    assert!((20 << 10..2 << 20).contains(&kib), "{size}");
}

#[test]
fn a_system_that_copies_itself_through_a_pipe_boots_without_the_copy() {
    let scratch = tempfile::tempdir().unwrap();
    let minikube = "mkdir /sysroot\nmount -t tmpfs -o size=90% tmpfs /sysroot\n\
                    tar -C / -cf - $(ls / | grep -v sysroot) | tar -C /sysroot/ -xf -\n/bin/mount -t devtmpfs devtmpfs /sysroot/dev\n\
                    exec 0</sysroot/dev/console\nexec 1>/sysroot/dev/console\nexec 2>/sysroot/dev/console\n\
                    exec /bin/switch_root /sysroot /sbin/init \"$@\"";
    let Some((old, kernel)) = copying_system(scratch.path(), minikube) else { return };
    let new = scratch.path().join("new.img");
    let arguments = ["--front-end", "built-in", "--compression", "gzip", "--quiet", "-o"];
    run(btrsquash().arg("convert").arg(&old).args(arguments).arg(&new));
    if have("qemu-system-x86_64") {
        let text = reaches(&new, &kernel, 256, "", "READY", &[]);
        let found = text.lines().find(|line| line.contains("FOUND: ")).unwrap();
        assert!(text.contains(" / btrfs ") && !found.contains("sysroot"), "{text}");
    }
}

/// The words of the last line that starts with `mark`.
fn last<'t>(text: &'t str, mark: &str) -> &'t str {
    text.lines().filter_map(|line| line.split_once(mark)).next_back().unwrap_or_else(|| panic!("{text}")).1
}

#[test]
fn a_system_in_a_file_inside_stays_where_the_boot_loader_puts_it() {
    if !["mksquashfs", "cpio", "gzip"].into_iter().all(have) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    bootable(scratch.path());
    // All that a tree holds: hard links, an /init that is a symlink, an early segment.
    sh(
        scratch.path(),
        r"mkdir -p s/etc s/usr/bin; head -c 60000000 /dev/urandom >s/usr/bin/noise; echo hello >s/etc/motd
        mksquashfs s root.squashfs -quiet -no-progress >/dev/null
        cd tree; rm -r usr/share; cp ../root.squashfs root.squashfs; chmod 640 root.squashfs; mkdir -p lib/x sbin
        printf '#!/bin/sh\nexec switch_root /sysroot /sbin/init\n' >lib/x/start; chmod 755 lib/x/start; rm init; ln -s lib/x/start init
        : >usr/dracut-lib.sh; mkdir -p usr/lib; mv usr/dracut-lib.sh usr/lib
        mkdir -p ../early/kernel/x86/microcode; echo microcode >../early/kernel/x86/microcode/GenuineIntel.bin
        (cd ../early; find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0) >../old.img
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 7:8 | gzip -n >>../old.img",
        &[],
    );
    let (old, new) = (scratch.path().join("old.img"), scratch.path().join("new.img"));
    let refused = btrsquash().arg("convert").arg(&old).arg("--dry-run").output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(refused.status.code(), Some(3), "{words}");
    for said in ["/root.squashfs holds", "--runtime-from retained", "MiB instead of", "(computed)"] {
        assert!(words.contains(said), "{said}: {words}");
    }
    let report = json(&run(btrsquash()
        .arg("convert")
        .arg(&old)
        .args(["--runtime-from", "retained", "--json", "-o"])
        .arg(&new)));
    let (before, after) = (&report["ram_before"], &report["ram_after"]);
    assert!(after["minimum"]["value"].as_u64() < before["minimum"]["value"].as_u64(), "{report:#}");
    assert!(report["notes"].to_string().contains("/root.squashfs"), "{report:#}");
    assert!(report["front_end"]["notes"].to_string().contains("retain_initrd"), "{report:#}");
    let shown = inspect(&new);
    assert_eq!(shown["layers"][1]["kind"], "squashfs", "{shown:#}");
    assert!(shown["largest"].to_string().contains("usr/bin/noise"), "{shown:#}");
    let verified = json(&run(btrsquash().arg("verify").arg(&old).arg(&new).arg("--json")));
    assert_eq!(verified["holds"], true, "{verified:#}");
    // One byte of the file is noticed, and one of the initramfs.
    let bytes = std::fs::read(&new).unwrap();
    let squashfs = bytes.windows(4).position(|four| four == b"hsqs").unwrap();
    let damaged = scratch.path().join("damaged.img");
    let mut other = bytes;
    other[squashfs + 600_000] ^= 1;
    std::fs::write(&damaged, other).unwrap();
    let output = btrsquash().arg("verify").arg(&old).arg(&damaged).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    sh(
        scratch.path(),
        r"cd tree; echo four >>etc/text
        (cd ../early; find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 0:0) >../other.img
        find . -mindepth 1 | sort | cpio -o -H newc --quiet -R 7:8 | gzip -n >>../other.img",
        &[],
    );
    let output = btrsquash().arg("verify").arg(scratch.path().join("other.img")).arg(&new).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for option in [["--init", "/sbin/init"], ["--overlay", "dm"], ["--front-end", "dracut"]] {
        let mut command = btrsquash();
        command.arg("convert").arg(&old).args(["--runtime-from", "retained", "--dry-run"]).args(option);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(option[0]), "{output:?}");
    }
}

/// The figures of `boot --find-min` in steps of 8 MiB: see src/docs/ram-model.md.
#[test]
fn dracuts_live_module_finds_its_squashfs_in_the_retained_initrd() {
    let tools = ["dracut", "mksquashfs", "busybox", "dpkg-deb", "cpio", "gzip", "depmod"];
    if !tools.into_iter().all(have) {
        return;
    }
    let Some(package) = newer_kernel_package() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dracut-live-image");
    sh(scratch.path(), r#""$1" "$PWD" "$2" >made 2>&1 || { cat made; exit 1; }"#, &[&script, &package]);
    let [old, new, kernel] = ["initrd.img", "new.img", "vmlinuz"].map(|name| scratch.path().join(name));
    assert!(inspect(&old)["largest"].to_string().contains("usr/share/noise"));
    run(btrsquash().arg("convert").arg(&old).args(["--runtime-from", "retained", "--quiet", "-o"]).arg(&new));
    run(btrsquash().arg("verify").arg(&old).arg(&new));
    if !have("qemu-system-x86_64") {
        return;
    }
    let live = "root=live:/root.img rd.live.image rd.live.overlay.overlayfs=1";
    let text = reaches(&new, &kernel, 176, &format!("retain_initrd {live}"), "READY", &[]);
    assert!(last(&text, "ROOT: ").starts_with("LiveOS_rootfs / overlay"), "{text}");
    let (booted, text) = console(&old, &kernel, 176, live, "READY", &[]);
    assert!(!booted, "{text}");
}

/// A real unified kernel image, made as the systemd-stub manual page shows, to its system under UEFI firmware.
#[test]
fn a_unified_kernel_image_boots_under_uefi_firmware() {
    let firmware = ["/usr/share/OVMF/OVMF_CODE.fd", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"];
    if !firmware.iter().all(|file| Path::new(file).is_file()) {
        return crate::support::skip("ovmf or systemd-boot-efi is not installed");
    }
    if !["objcopy", "qemu-system-x86_64"].into_iter().all(have) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let Some((system, kernel)) = copying_system(scratch.path(), "exec /sbin/init") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot-uki");
    sh(scratch.path(), r#""$1" make old.efi "$2" "$3" 'console=ttyS0'"#, &[&script, &kernel, &system]);
    let (old, new) = (scratch.path().join("old.efi"), scratch.path().join("new.efi"));
    let arguments = ["--front-end", "built-in", "--compression", "lz4", "--quiet", "-o"];
    run(btrsquash().arg("convert").arg(&old).args(arguments).arg(&new));
    run(btrsquash().arg("verify").arg(&old).arg(&new));
    let text = sh(scratch.path(), r#""$1" boot "$2" 512 READY 400"#, &[&script, &new]);
    assert!(text.contains(" / btrfs ") && text.contains("pid 1"), "{text}");
}

#[test]
fn more_hard_links_than_btrfs_has_go_into_a_squashfs_runtime() {
    let scratch = tempfile::tempdir().unwrap();
    let builtin =
        ["loop", "btrfs", "squashfs", "overlay", "dm-snapshot"].map(|name| format!("kernel/{name}.ko\n"));
    let mut entries = vec![dir("sbin"), dir("lib"), dir("lib/modules"), dir("lib/modules/6.12.0"), dir("d")];
    entries.push(file("init", "#!/bin/sh\nexec /sbin/init\n").mode(0o755));
    entries.push(file("lib/modules/6.12.0/modules.builtin", builtin.concat()));
    let links = 65_536;
    entries.extend((0..links).map(|number| file(format!("d/{number}"), "").link(7, links)));
    entries.push(trailer());
    let old = scratch.path().join("old.cpio");
    std::fs::write(&old, archive(&entries)).unwrap();
    let convert = |format: &str| {
        let options =
            ["--assume-monolith", "--dry-run", "--front-end", "built-in", "--runtime-format", format];
        let output = btrsquash().arg("convert").arg(&old).args(options).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = convert("btrfs");
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("65536 hard links") && words.contains("--runtime-format squashfs"), "{words}");
    let (code, words) = convert("squashfs");
    assert_eq!(code, Some(0), "{words}");
}
