//! Kernel modules against real packages, with kmod, dpkg and rpm2cpio as judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use btrsquash::codec::Compression;
use btrsquash::codec::Encoding;
use btrsquash::contract::{Overlay, RuntimeFormat, RuntimeFrom};
use btrsquash::elf::Archs;
use btrsquash::error::{Error, Kind};
use btrsquash::initrd::Segment;
use btrsquash::kernel::{self, Btrfs, Kernel, Wanted};
use btrsquash::tree::{Content, Extent, Inode, Node, Tree};

use crate::support::{have, kernel_package, run, sh};

const RELEASE: &str = "6.1.0-50-amd64";

const WANTED: Wanted<'_> = Wanted {
    format: None,
    overlay: None,
    in_place: false,
    compression: Compression::Xz,
    bcj: true,
    runtime: &RuntimeFrom::Initramfs,
    drivers: &[],
    ready_made: None,
};

/// A tree with these files.
fn tree(files: &[(&str, &[u8])]) -> Tree {
    let data: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut tree = Tree::new(Arc::new(data));
    let mut at = 0;
    for (path, bytes) in files {
        let mut directory = tree.root;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|p| !p.is_empty()) {
            let known = tree.names(directory).unwrap().get(part.as_bytes()).copied();
            let next = known.unwrap_or_else(|| {
                tree.add(Inode {
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    mtime: 0,
                    nlink: 1,
                    node: Node::Directory(BTreeMap::new()),
                })
            });
            let Node::Directory(names) = &mut tree.inode_mut(directory).node else { unreachable!() };
            names.insert(part.as_bytes().into(), next);
            directory = next;
        }
        let size = bytes.len() as u64;
        let content = Content { size, extents: vec![Extent { file_offset: 0, data_offset: at, len: size }] };
        at += size;
        let id =
            tree.add(Inode { mode: 0o755, uid: 0, gid: 0, mtime: 0, nlink: 1, node: Node::Regular(content) });
        let Node::Directory(names) = &mut tree.inode_mut(directory).node else { unreachable!() };
        names.insert(name.as_bytes().into(), id);
    }
    tree
}

/// An image whose kernel is [`RELEASE`] and which has no modules of use.
fn image() -> Tree {
    tree(&[(&format!("lib/modules/{RELEASE}/modules.builtin"), b"")])
}

fn find(tree: &Tree, modules: &[&Path], wanted: &Wanted<'_>) -> Result<Vec<Kernel>, Error> {
    let modules: Vec<PathBuf> = modules.iter().map(PathBuf::from).collect();
    kernel::find(tree, &[], &modules, None, wanted)
}

fn names(kernel: &Kernel) -> Vec<&str> {
    kernel.modules.modules.iter().map(|m| m.name.as_str()).collect()
}

/// The package, unpacked once for all tests, with the modules.dep that it does not ship.
fn unpacked() -> Option<(PathBuf, PathBuf)> {
    static ONCE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let package = kernel_package()?;
    if !have("dpkg-deb") || !have("depmod") || !have("modprobe") || !have("modinfo") {
        return None;
    }
    let dir = ONCE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        sh(
            dir.path(),
            &format!("dpkg-deb --fsys-tarfile \"$1\" | tar x ./lib ./boot; depmod -b . {RELEASE}"),
            &[&package],
        );
        dir
    });
    Some((package, dir.path().to_path_buf()))
}

#[test]
fn the_closure_from_the_package_is_that_of_modinfo_and_modprobe() {
    let Some((package, root)) = unpacked() else { return };
    let started = std::time::Instant::now();
    let kernels = find(&image(), &[&package], &WANTED).unwrap();
    eprintln!("closure from the package: {:.1} s", started.elapsed().as_secs_f64());
    let [kernel] = kernels.as_slice() else { panic!("{kernels:?}") };
    assert_eq!(kernel.modules.version, RELEASE);
    assert_eq!(kernel.overlay, Overlay::DeviceMapper);
    assert!(
        kernel.has_own_branch_filter(),
        "CONFIG_XZ_DEC_X86=y is in the package's config: {:?}",
        kernel.notes
    );
    assert_eq!(kernel::common_encoding(&kernels), Encoding::Xz);
    assert!(kernel.retained.as_ref().unwrap_err().contains("6.8"));
    assert_eq!(kernel.facts.architecture.as_deref(), Some("x86_64"));

    // `depends` alone, by modinfo, and the crc32c that libcrc32c asks the crypto API for.
    let script = format!(
        "seen=' '; todo='loop squashfs btrfs dm-snapshot crc32c_generic'
         while [ -n \"$todo\" ]; do
           set -- $todo; m=${{1//-/_}}; shift; todo=\"$*\"
           case $seen in *\" $m \"*) continue;; esac
           seen=\"$seen$m \"
           todo=\"$todo $(modinfo -b . -k {RELEASE} -F depends $m | tr , ' ')\"
         done; echo $seen"
    );
    let by_modinfo = sh(&root, &script, &[]);
    let expected: BTreeSet<&str> = by_modinfo.split_whitespace().collect();
    assert_eq!(names(kernel).into_iter().collect::<BTreeSet<_>>(), expected);
    // As many as the front-end made by hand had, with overlayfs in place of the three of device-mapper.
    assert_eq!(expected.len(), 11);

    // modprobe's order: what it would load before a module comes before it here too.
    let all = names(kernel);
    for module in &all {
        let shown = sh(&root, &format!("modprobe -d . -S {RELEASE} --show-depends {module}"), &[]);
        let before: Vec<String> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("insmod ")?.trim().rsplit('/').next()?.strip_suffix(".ko"))
            .map(|name| name.replace('-', "_"))
            .collect();
        assert_eq!(before.last().map(String::as_str), Some(*module));
        let own = all.iter().position(|m| m == module).unwrap();
        for name in &before {
            match all.iter().position(|m| m == name) {
                Some(at) => assert!(at <= own, "{name} has to come before {module}"),
                // Soft dependencies of btrfs for checksums that it does not use here, and a faster crc32c.
                None => assert!(
                    ["blake2b_generic", "xxhash_generic", "crc32c_intel"].contains(&name.as_str()),
                    "{module} needs {name}"
                ),
            }
        }
    }
    for module in &kernel.modules.modules {
        let file = root.join("lib/modules").join(RELEASE).join(&module.path);
        assert!(
            std::fs::read(&file).unwrap() == *module.elf,
            "{} is not the file of the package",
            module.path
        );
    }
    assert!(
        kernel.modules.modules_builtin.as_ref().is_some_and(|list| list.is_empty()),
        "the image's own goes first"
    );
    assert!(kernel.modules.modules_builtin_modinfo.is_some());
    assert_eq!(kernel.origin.iter().map(|o| o.modules).sum::<usize>(), 11);
}

#[test]
fn every_form_of_directory_and_of_compression_gives_the_same_closure() {
    let Some((package, root)) = unpacked() else { return };
    let expected = find(&image(), &[&package], &WANTED).unwrap();
    let version = root.join("lib/modules").join(RELEASE);
    let usr = tempfile::tempdir().unwrap();
    std::fs::create_dir(usr.path().join("usr")).unwrap();
    std::os::unix::fs::symlink(root.join("lib"), usr.path().join("usr/lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", usr.path().join("lib")).unwrap();
    for directory in [root.clone(), root.join("lib/modules"), version.clone(), usr.path().to_path_buf()] {
        let found = find(&image(), &[&directory], &WANTED).unwrap();
        assert_eq!(found[0].modules.modules, expected[0].modules.modules, "{}", directory.display());
    }

    let packed = tempfile::tempdir().unwrap();
    let top = packed.path().join("lib/modules").join(RELEASE);
    for (index, module) in expected[0].modules.modules.iter().enumerate() {
        let file = top.join(&module.path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &module.elf).unwrap();
        let tool = [
            &["gzip"][..],
            &["xz", "--check=crc32", "--lzma2=dict=1MiB"],
            &["zstd", "-q", "--rm"],
            &["true"],
        ][index % 4];
        if have(tool[0]) {
            run(Command::new(tool[0]).args(&tool[1..]).arg(&file));
        }
    }
    let suffixes = sh(packed.path(), "find . -name '*.ko*' | sed 's/.*\\.//' | sort -u | xargs", &[]);
    assert_eq!(suffixes.trim(), "gz ko xz zst");
    let found = find(&image(), &[packed.path()], &WANTED).unwrap();
    assert_eq!(found[0].modules.modules, expected[0].modules.modules);
    // Without a config nothing proves the branch filter, and only plain is proven for the front-end.
    assert!(found[0].filters == Archs::NONE && found[0].notes.iter().any(|n| n.contains("branch filter")));
    assert_eq!(kernel::common_encoding(&found), Encoding::Plain);

    // The same files inside the image, below usr/lib.
    let files: Vec<(String, Vec<u8>)> = expected[0]
        .modules
        .modules
        .iter()
        .map(|m| (format!("usr/lib/modules/{RELEASE}/{}", m.path), m.elf.to_vec()))
        .collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect();
    let old = Segment {
        number: 1,
        offset: 0,
        size: 0,
        padding: 0,
        encoding: Encoding::Gzip,
        unpacked: 0,
        entries: 0,
        early: false,
        dictionary: 0,
    };
    let found = kernel::find(&tree(&files), &[old], &[], None, &WANTED).unwrap();
    assert_eq!(found[0].modules.modules, expected[0].modules.modules);
    assert_eq!(found[0].origin[0].source, "the image");
    assert_eq!(kernel::common_encoding(&found), Encoding::Gzip, "the image uses it, so the kernel can");
}

/// An rpm as rpmbuild lays it out: a lead, a signature header padded to 8, a header, a packed newc payload.
pub fn rpm(payload: &[u8], compressor: &str) -> Vec<u8> {
    // Entries of type string: tag, type 6, offset, count 1.
    let header = |strings: &[(u32, &str)]| {
        let data: Vec<u8> = strings.iter().flat_map(|(_, text)| [text.as_bytes(), b"\0"].concat()).collect();
        let mut out = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        out.extend((strings.len() as u32).to_be_bytes());
        out.extend((data.len() as u32).to_be_bytes());
        let mut at = 0;
        for (tag, text) in strings {
            for word in [*tag, 6, at, 1] {
                out.extend(word.to_be_bytes());
            }
            at += text.len() as u32 + 1;
        }
        out.extend(data);
        out
    };
    let mut out = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
    out.resize(96, 0);
    // RPMSIGTYPE_HEADERSIG
    out[79] = 5;
    // RPMSIGTAG_SHA1, of no meaning to those who only unpack.
    out.extend(header(&[(269, "da39a3ee5e6b4b0d3255bfef95601890afd80709")]));
    out.resize(out.len().next_multiple_of(8), 0);
    // NAME, VERSION, RELEASE, OS, ARCH, PAYLOADFORMAT, PAYLOADCOMPRESSOR
    out.extend(header(&[
        (1000, "kernel-core"),
        (1001, "6.1.0"),
        (1002, "50"),
        (1021, "linux"),
        (1022, "x86_64"),
        (1124, "cpio"),
        (1125, compressor),
    ]));
    out.extend(payload);
    out
}

#[test]
fn an_rpm_of_every_payload_compression_is_read_as_rpm2cpio_reads_it() {
    let Some((package, root)) = unpacked() else { return };
    if !["cpio", "xz", "zstd", "gzip", "bzip2"].into_iter().all(have) {
        return;
    }
    let expected = find(&image(), &[&package], &WANTED).unwrap();
    let list = expected[0].modules.modules.iter().fold(String::new(), |mut list, m| {
        let _ = writeln!(list, "./lib/modules/{RELEASE}/{}", m.path);
        list
    });
    let dir = tempfile::tempdir().unwrap();
    let listed = dir.path().join("list");
    std::fs::write(&listed, list).unwrap();
    let packs = ["gzip", "xz", "zstd -q", "bzip2", "xz --format=lzma", "cat"];
    for (pack, compressor) in packs.into_iter().zip(["gzip", "xz", "zstd", "bzip2", "lzma", "none"]) {
        let payload = dir.path().join("payload");
        sh(&root, &format!("cpio -o -H newc --quiet < \"$1\" | {pack} > \"$2\""), &[&listed, &payload]);
        let file = dir.path().join("kernel.rpm");
        std::fs::write(&file, rpm(&std::fs::read(&payload).unwrap(), compressor)).unwrap();
        if pack != "cat" && have("rpm2cpio") {
            let listed =
                sh(dir.path(), "(rpm2cpio kernel.rpm 2>/dev/null || true) | cpio -t --quiet | wc -l", &[]);
            assert_eq!(listed.trim(), "11", "rpm2cpio takes the file for an rpm ({pack})");
        }
        let found = find(&image(), &[&file], &WANTED).unwrap();
        assert_eq!(found[0].modules.modules, expected[0].modules.modules, "{pack}");
    }
}

#[test]
fn modules_of_another_kernel_are_refused_with_both_named() {
    let Some(package) = kernel_package() else { return };
    let other = tree(&[("lib/modules/6.1.0-49-amd64/modules.builtin", b"")]);
    let error = find(&other, &[&package], &WANTED).unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    let text = error.to_string();
    for part in
        ["6.1.0-49-amd64", RELEASE, "loop, squashfs, btrfs", "apt-get download linux-image-6.1.0-49-amd64"]
    {
        assert!(text.contains(part) || part.contains("loop"), "{part} is not in: {text}");
    }
    for module in ["loop", "squashfs", "btrfs", "dm-snapshot"] {
        assert!(text.contains(module), "{module} is not in: {text}");
    }
    // The right directory's name, the wrong modules in it.
    let Some((_, root)) = unpacked() else { return };
    let dir = tempfile::tempdir().unwrap();
    let modules = dir.path().join("lib/modules");
    std::fs::create_dir_all(&modules).unwrap();
    std::os::unix::fs::symlink(root.join("lib/modules").join(RELEASE), modules.join("6.1.0-49-amd64"))
        .unwrap();
    let text = find(&other, &[dir.path()], &WANTED).unwrap_err().to_string();
    assert!(text.contains("is for kernel 6.1.0-50-amd64, not for 6.1.0-49-amd64"), "{text}");
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    let error = find(&image(), &[], &WANTED).unwrap_err();
    assert_eq!((error.kind, error.kind.exit_code()), (Kind::Missing, 4));
    let text = error.to_string();
    for part in ["loop", "squashfs", "btrfs", "dm-snapshot", "overlay", RELEASE, "apt-get download"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let error = find(&tree(&[("init", b"x")]), &[], &WANTED).unwrap_err();
    assert!(error.to_string().contains("--kernel VMLINUZ"), "{error}");
}

#[test]
fn kernels_that_differ_in_their_overlay_get_one_that_each_can_have() {
    let Some((_, root)) = unpacked() else { return };
    // A second kernel, built with all that is needed but dm-snapshot.
    let built_in = ["drivers/block/loop", "fs/squashfs/squashfs", "fs/btrfs/btrfs", "crypto/crc32c_generic"];
    let list = |more: &[&str]| -> Vec<u8> {
        built_in.iter().chain(more).map(|path| format!("kernel/{path}.ko\n")).collect::<String>().into()
    };
    let both = |second: &[u8]| {
        tree(&[
            (&format!("lib/modules/{RELEASE}/modules.builtin"), b""),
            ("lib/modules/6.2.0/modules.builtin", second),
        ])
    };
    let found = find(&both(&list(&["fs/overlayfs/overlay"])), &[&root], &WANTED).unwrap();
    assert_eq!(found.len(), 2);
    for kernel in &found {
        assert_eq!(kernel.overlay, Overlay::Overlayfs);
    }
    assert!(names(&found[0]).contains(&"overlay") && !names(&found[0]).contains(&"dm_snapshot"));
    // One has only the snapshot, the other only overlayfs.
    let neither = tree(&[
        ("lib/modules/6.1.0/modules.builtin", &list(&["drivers/md/dm-mod", "drivers/md/dm-snapshot"])),
        ("lib/modules/6.2.0/modules.builtin", &list(&["fs/overlayfs/overlay"])),
    ]);
    let error = find(&neither, &[], &WANTED).unwrap_err();
    assert!(
        error.kind == Kind::Missing && error.what.contains("every kernel needs the same overlay"),
        "{error}"
    );
}

#[test]
fn overlay_and_drivers_are_as_asked_for() {
    let Some((_, root)) = unpacked() else { return };
    let overlayfs = Wanted { overlay: Some(Overlay::Overlayfs), ..WANTED };
    let found = find(&image(), &[&root], &overlayfs).unwrap();
    assert!(names(&found[0]).contains(&"overlay") && !names(&found[0]).contains(&"dm_snapshot"));

    let disk = RuntimeFrom::Label("LIVE".into());
    let drivers = ["storage".to_owned(), "virtio-net".to_owned()];
    let storage = Wanted { runtime: &disk, drivers: &drivers, ..WANTED };
    let found = find(&image(), &[&root], &storage).unwrap();
    let all = names(&found[0]);
    for name in [
        "virtio_blk",
        "ahci",
        "libata",
        "scsi_mod",
        "sd_mod",
        "isofs",
        "vfat",
        "fat",
        "ext4",
        "jbd2",
        "virtio_net",
    ] {
        assert!(all.contains(&name), "{name} is not in {all:?}");
    }
    assert!(found[0].notes.iter().any(|n| n.contains("`storage`")), "what 6.1 does not have is noted");
    let nosuch = ["no-such-driver".to_owned()];
    let text = find(&image(), &[&root], &Wanted { drivers: &nosuch, ..WANTED }).unwrap_err().to_string();
    assert!(text.contains("no_such_driver"), "{text}");
}

#[test]
fn a_kernel_built_without_btrfs_gets_a_squashfs_runtime() {
    let built_in =
        b"kernel/drivers/block/loop.ko\nkernel/fs/squashfs/squashfs.ko\nkernel/fs/overlayfs/overlay.ko\n";
    let release = "5.14.0-427.el9.x86_64";
    let config = b"CONFIG_BLK_DEV_LOOP=y\nCONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_XZ=y\nCONFIG_OVERLAY_FS=y\n\
        # CONFIG_BTRFS_FS is not set\nCONFIG_SQUASHFS_DECOMP_MULTI_PERCPU=y\n";
    let image = tree(&[
        (&format!("lib/modules/{release}/modules.builtin"), built_in),
        (&format!("boot/config-{release}"), config),
    ]);
    let kernels = find(&image, &[], &WANTED).unwrap();
    let [kernel] = kernels.as_slice() else { panic!("{kernels:?}") };
    assert_eq!((kernel.format, kernel.overlay), (RuntimeFormat::Squashfs, Overlay::Overlayfs));
    let Btrfs::NotBuilt { option, config } = &kernel.btrfs else { panic!("{:?}", kernel.btrfs) };
    assert_eq!((option.as_str(), config.as_str()), ("CONFIG_BTRFS_FS", "the configuration in the image"));
    assert_eq!(kernel.facts.decompressors, Some(kernel::Decompressors::PerPossibleCpu));

    // Asked for btrfs, it says why there is none, and sends nobody after a package that does not have it.
    let btrfs = Wanted { format: Some(RuntimeFormat::Btrfs), ..WANTED };
    let error = find(&image, &[], &btrfs).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind, Kind::Missing);
    assert!(text.contains("built without btrfs") && text.contains("CONFIG_BTRFS_FS is not set"), "{text}");
    assert!(!text.contains("dnf"), "{text}");
    let snapshot =
        Wanted { format: Some(RuntimeFormat::Squashfs), overlay: Some(Overlay::DeviceMapper), ..WANTED };
    assert_eq!(find(&image, &[], &snapshot).unwrap_err().kind, Kind::Usage);
}
