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

fn plan(kernels: &[KernelModules], runtime: RuntimeFrom) -> Plan<'_> {
    Plan {
        kernels,
        overlay: Overlay::Overlayfs,
        runtime,
        init: "/init",
        handover: Handover::Bare,
        not_carried: &[],
        time: 0,
    }
}

fn kernel(version: &str, path: &str) -> KernelModules {
    let module = Module { name: "loop".into(), path: path.into(), elf: [].into() };
    KernelModules {
        version: version.into(),
        modules: vec![module],
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
fn folders_stay_folders_when_a_driver_disk_brings_its_own() {
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
    lean::without_udev(&mut files);
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
    assert!(check(&plan(&good, RuntimeFrom::Initramfs)).is_ok());
    for bad in [kernel("../x", "a.ko"), kernel("6.1", "../a.ko"), kernel("6.1", "a b.ko")] {
        assert!(check(&plan(&[bad], RuntimeFrom::Initramfs)).is_err());
    }
    assert!(check(&plan(&good, RuntimeFrom::Network("http://x/$(y)".into()))).is_err());
    assert!(check(&plan(&good, RuntimeFrom::Label("a b".into()))).is_err());
    assert!(check(&plan(&good, RuntimeFrom::Retained)).is_err());
    assert!(check(&plan(&[], RuntimeFrom::Initramfs)).is_err());
}

#[test]
fn the_command_line_has_old_and_new_names() {
    let kernels = [kernel("6.1", "a.ko")];
    let line = cmdline(&plan(&kernels, RuntimeFrom::Initramfs), Some("quiet  splash"));
    assert_eq!(
        line,
        "root=live:/squashfs.img rd.live.image rd.live.overlay.overlayfs=1 rd.overlay=1 rd.retry=5 quiet splash\n"
    );
}

/// The script as it runs in dracut's initramfs, with a folder in place of its root.
#[test]
fn appended_files_go_where_the_runtime_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    let path = |name: &str| top.join(name).to_str().unwrap().to_owned();
    let here = |text: &str| {
        text.replace("/sysroot", &path("to"))
            .replace("/usr/lib/btrsquash", &path("ours"))
            .replace("> /dev/console", &format!(">> {}", path("console")))
    };
    std::fs::create_dir(top.join("ours")).unwrap();
    std::fs::write(top.join("ours/lib.sh"), here(include_str!("scripts/lib.sh"))).unwrap();
    std::fs::write(top.join("carry"), here(include_str!("scripts/carry"))).unwrap();
    // Every link of the runtime leads outside where the initramfs's root is in force.
    let script = r#"
        mkdir -p from/var/run from/sbin from/up/deep from/lost from/file to/only-here/bin to/var to/full to/filled/folder
        ln -s /only-here to/var/run; ln -s /only-here/bin to/sbin; ln -s ../../../../../../../only-here to/up
        ln -s /not-there to/lost; ln -s /only-here/text to/file; echo text >to/only-here/text
        ln -s round to/round; ln -s /sbin/init to/init; ln -s /sbin/init to/first; echo x >to/only-here/bin/init
        for folder in var/run sbin up/deep lost file; do echo mine >from/$folder/mine; done
        echo mine >from/init; echo kept >to/full/kept; echo file >from/full; ln -s init from/filled
        (cd from; find . ! -name . -print0 | xargs -0 sh ../carry)
        NEWROOT=$PWD/to; . ./ours/lib.sh
        for path in /first sbin/../bin/init up/text /../.. lost nothing init/.. round/x; do
            btrsquash_resolve $path && echo "$path=$at" || echo "$path: nothing"
        done
        cat console"#;
    let output = std::process::Command::new("sh").current_dir(top).args(["-euc", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = |path: &str| std::fs::read_to_string(top.join("to").join(path)).unwrap_or_default();
    for path in
        ["only-here/mine", "only-here/bin/mine", "only-here/deep/mine", "lost/mine", "file/mine", "init"]
    {
        assert_eq!(text(path), "mine\n", "{path}: {said}");
    }
    assert_eq!((text("only-here/text").as_str(), text("only-here/bin/init").as_str()), ("text\n", "x\n"));
    assert_eq!(text("full/kept"), "kept\n");
    assert!(top.join("to/filled/folder").is_dir());
    let stays = |path: &str| {
        format!(
            "btrsquash: {path} was appended to the image, but is a folder of the runtime that is not empty: the folder stays"
        )
    };
    for line in [
        "/first=/only-here/bin/init",
        "sbin/../bin/init=/only-here/bin/init",
        "up/text=/only-here/text",
        "/../..=",
        "lost=/lost",
        "nothing: nothing",
        "init/..: nothing",
        "round/x: nothing",
        &stays("/full"),
        &stays("/filled"),
    ] {
        assert!(said.lines().any(|l| l == line), "{line}: {said}");
    }
}
