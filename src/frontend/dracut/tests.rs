use super::*;
use crate::kernel::Module;

fn files(list: &[(&str, Item)]) -> Files {
    let mut files = Files::new();
    for (path, item) in list {
        put(&mut files, path, item.clone());
    }
    files
}

fn file() -> Item {
    Item::File(true, b"x".to_vec())
}

fn empty() -> crate::tree::Tree {
    crate::tree::Tree::new(std::sync::Arc::new(Vec::new()))
}

fn plan<'a>(kernels: &'a [KernelModules], tree: &'a crate::tree::Tree, runtime: RuntimeFrom) -> Plan<'a> {
    Plan {
        machine: crate::elf::host_machine(),
        tree,
        format: RuntimeFormat::Btrfs,
        late_modules: false,
        kernels,
        overlay: Overlay::Overlayfs,
        runtime,
        init: "/init",
        arguments: Vec::new(),
        environment: Vec::new(),
        handover: Handover::Bare,
        not_carried: &[],
        time: 0,
        max_directories: 2048,
    }
}

fn kernel(version: &str, path: &str) -> KernelModules {
    let module = Module { name: "loop".into(), path: path.into(), elf: [].into() };
    KernelModules {
        version: version.into(),
        modules: vec![module],
        early: 1,
        modules_builtin: None,
        modules_builtin_modinfo: None,
    }
}

#[test]
fn links_are_followed_inside_the_image() {
    let files = files(&[
        ("usr/bin/sh", file()),
        ("bin", Item::Symlink("usr/bin".into())),
        ("sbin", Item::Symlink("/../usr/./bin".into())),
        ("round", Item::Symlink("round".into())),
    ]);
    assert_eq!(lean::real_path(&files, "bin/sh").as_deref(), Some("usr/bin/sh"));
    assert_eq!(lean::real_path(&files, "sbin/sh").as_deref(), Some("usr/bin/sh"));
    assert_eq!(lean::real_path(&files, "round"), None);
    assert_eq!(lean::real_path(&files, "bin/nothing"), None);
}

#[test]
fn directories_stay_directories_when_a_driver_disk_brings_its_own() {
    let mut files = files(&[("usr/lib/x.so", file()), ("lib", Item::Symlink("usr/lib".into()))]);
    lean::unmerge(&mut files);
    assert_eq!(files.get("lib"), Some(&Item::Directory(0o755)));
    assert_eq!(files.get("lib/x.so"), Some(&Item::Symlink("/usr/lib/x.so".into())));
}

#[test]
fn udev_is_silenced_and_what_is_never_called_goes() {
    let mut files = files(&[
        ("usr/bin/udevadm", file()),
        ("usr/lib/systemd/systemd-udevd", Item::Symlink("../../bin/udevadm".into())),
        ("usr/lib/udev/rules.d/1.rules", file()),
        ("usr/bin/tar", file()),
        ("usr/lib/libunused.so.1", file()),
        ("usr/bin/sh", file()),
    ]);
    lean::without_udev_and_modprobe(&mut files);
    lean::drop_unused(&mut files);
    let Some(Item::File(true, stub)) = files.get("usr/bin/udevadm") else { panic!() };
    assert!(stub.ends_with(b"exit 0\n"));
    assert!(lean::real_path(&files, "usr/lib/systemd/systemd-udevd").is_some());
    for gone in ["usr/lib/udev/rules.d/1.rules", "usr/bin/tar", "usr/lib/libunused.so.1"] {
        assert!(!files.contains_key(gone), "{gone}");
    }
    assert!(files.contains_key("usr/bin/sh"));
}

#[test]
fn names_that_mean_something_to_a_shell_are_refused() {
    let good = [kernel("6.1.0-50-amd64", "kernel/drivers/block/loop.ko")];
    assert!(check(&plan(&good, &empty(), RuntimeFrom::Initramfs)).is_ok());
    for bad in [kernel("../x", "a.ko"), kernel("6.1", "../a.ko"), kernel("6.1", "a b.ko")] {
        assert!(check(&plan(&[bad], &empty(), RuntimeFrom::Initramfs)).is_err());
    }
    assert!(check(&plan(&good, &empty(), RuntimeFrom::Network("http://x/$(y)".into()))).is_err());
    assert!(check(&plan(&good, &empty(), RuntimeFrom::Label("a b".into()))).is_err());
    assert!(check(&plan(&good, &empty(), RuntimeFrom::Retained)).is_err());
    assert!(check(&plan(&[], &empty(), RuntimeFrom::Initramfs)).is_err());
}

#[test]
fn the_command_line_has_old_and_new_names() {
    let kernels = [kernel("6.1", "a.ko")];
    let line = cmdline(&plan(&kernels, &empty(), RuntimeFrom::Initramfs), Some("quiet  splash"));
    assert_eq!(
        line,
        "root=live:/squashfs.img rd.live.image rd.live.overlay.overlayfs=1 rd.overlay=1 rd.retry=5 quiet splash\n"
    );
}
