//! What people give: files of other kinds, which are named; containers, which are opened and written again; images in
//! which Linux stops, and lists of initrds.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrsquash::bytes::ReadAt;
use btrsquash::codec::Encoding;
use btrsquash::container;
use btrsquash::initrd::Limits;

use crate::support::newc::{Entry, archive, dir, file, packed, trailer};
use crate::support::{btrsquash, have, run, sh};

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn sample() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz")).unwrap()
}

fn inspect(file: &Path) -> Output {
    btrsquash().arg("inspect").arg(file).arg("--full").stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    // Reports wrap their lines.
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Bytes with `magic` at `offset`.
fn with(offset: usize, magic: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81; offset.max(600) + 400];
    bytes[offset..offset + magic.len()].copy_from_slice(magic);
    bytes
}

#[test]
fn every_other_kind_of_file_is_named_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let gzip = |bytes: &[u8]| packed(bytes, Encoding::Gzip);
    let good = archive(&[crate::support::newc::dir("a"), trailer()]);
    let kinds: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("bzImage", with(0x202, b"HdrS"), "a Linux kernel (x86 bzImage)", "--kernel"),
        ("Image", with(56, b"ARM\x64"), "a Linux kernel (arm64 Image)", "--kernel"),
        ("zImage", with(36, &[0x18, 0x28, 0x6f, 0x01]), "a Linux kernel (arm zImage)", "--kernel"),
        ("elf", with(0, b"\x7fELF"), "an ELF file", "give the initrd"),
        ("deb", with(0, b"!<arch>\ndebian-binary"), "a Debian package", "--modules"),
        ("rpm", with(0, &[0xed, 0xab, 0xee, 0xdb]), "an RPM package", "--modules"),
        ("tar", with(257, b"ustar"), "a tar archive", "cpio -o -H newc"),
        ("tar.gz", gzip(&with(257, b"ustar")), "a tar archive inside", "cpio -o -H newc"),
        ("boot.img", with(0, b"ANDROID!"), "an Android boot image", "unpack_bootimg"),
        ("efi", with(0, b"MZ"), "an EFI or Windows program", "unified kernel image"),
        ("ext4", with(1080, &[0x53, 0xef]), "an ext2, ext3 or ext4 file system", "Mount it"),
        ("ext2.gz", gzip(&with(1080, &[0x53, 0xef])), "an ext2, ext3 or ext4 file system inside", "Mount it"),
        ("xfs", with(0, b"XFSB"), "an XFS file system", "Mount it"),
        ("erofs", with(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), "an EROFS file system", "Mount it"),
        ("qcow2", with(0, b"QFI\xfb"), "a QEMU disk image", "qemu-nbd"),
        ("gpt", with(512, b"EFI PART"), "a disk image with a GPT", "losetup"),
        (
            "lz4",
            with(0, &[0x04, 0x22, 0x4d, 0x18]),
            "lz4 frame in the format that Linux does not know",
            "lz4 -l",
        ),
        ("gz.gz", gzip(&gzip(&good)), "gzip-compressed data inside", "unpack the outer compression"),
        ("bin.cpio", with(0, &[0xc7, 0x71]), "old binary format", "cpio -H newc"),
        (
            "odc.cpio",
            b"0707070000010000021006440000000000000000010000000".repeat(4),
            "old portable",
            "cpio -H newc",
        ),
        ("vmlinuz.efi", with(4, b"zimg"), "a Linux kernel (EFI zboot image)", "--kernel"),
        ("cd.iso", with(32769, b"CD001"), "is an ISO 9660 image", "initrds on it: none; kernels: none"),
        ("uImage", with(0, &[0x27, 5, 0x19, 0x56]), "a uImage, but the checksum", "mkimage -l"),
        ("image.itb", with(0, &[0xd0, 0x0d, 0xfe, 0xed]), "a damaged device tree (FIT)", "dumpimage -l"),
        ("vendor_boot.img", with(0, b"VNDRBOOT"), "an Android vendor boot image", "unpack_bootimg"),
        ("disk.vmdk", with(0, b"KDMV"), "a VMware disk image", "give the initrd inside"),
        ("fat", with(54, b"FAT1"), "a FAT file system", "Mount it"),
        (
            "f2fs",
            [vec![0; 1024], vec![0x10, 0x20, 0xf5, 0xf2], vec![0; 99]].concat(),
            "an F2FS file system",
            "Mount it",
        ),
        ("ubifs", with(0, &[0x31, 0x18, 0x10, 0x06]), "a UBIFS file system", "Mount it"),
        ("luks", with(0, b"LUKS\xba\xbe\0\x02"), "(LUKS)", "cryptsetup"),
        (
            "disk.raw",
            [vec![0; 446], b"\x80\x01".to_vec(), vec![0; 62], vec![0x55, 0xaa]].concat(),
            "a disk image with a partition table",
            "losetup",
        ),
        (
            "lvm",
            [vec![0; 536], b"LVM2 001".to_vec()].concat(),
            "an LVM physical volume",
            "give the initrd inside",
        ),
        ("swap", [vec![0; 4086], b"SWAPSPACE2".to_vec()].concat(), "swap space", "give the initrd"),
        ("disk.vdi", with(0, b"<<< Oracle VM VirtualBox"), "a VirtualBox disk image", "qemu-nbd"),
        ("sparse.img", with(0, &[0x3a, 0xff, 0x26, 0xed]), "an Android sparse image", "simg2img"),
        ("boot.wim", with(0, b"MSWIM\0\0\0"), "a Windows image", "give the initrd"),
        ("router.trx", with(0, b"HDR0"), "a firmware image of a router", "binwalk"),
        (
            "pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(),
            "Git LFS",
            "git lfs pull",
        ),
        ("image.7z", with(0, b"7z\xbc\xaf\x27\x1c"), "a 7z archive", "unpack it"),
        ("file.Z", with(0, &[0x1f, 0x9d]), "a file packed with compress", "cpio -H newc"),
        ("tar.xz", packed(&with(257, b"ustar"), Encoding::Xz), "a tar archive inside", "cpio -o -H newc"),
        ("picture.png", with(0, b"\x89PNG"), "a PNG picture", "give the initrd"),
        ("zip", with(0, b"PK\x03\x04"), "a zip archive", "unpack it"),
        ("page", b"<!DOCTYPE html><html>404</html>".to_vec(), "a web page", "fetch the image again"),
        ("text", b"only some text\n".to_vec(), "text", "give the initrd"),
        ("script", b"#!/bin/sh\nexit 0\n".to_vec(), "a script", "give the initrd"),
        ("empty", Vec::new(), "is empty", "expected an initrd"),
        ("zeros", vec![0; 5000], "nothing but zeros", "expected an initrd"),
        ("noise", with(0, &[7, 7, 7]), "data of an unknown kind", "give the initrd"),
    ];
    let mut table = String::new();
    for (name, bytes, what, next) in kinds {
        write(dir.path(), name, bytes);
        for said in what_is_said(dir.path(), name, &mut table) {
            assert!(said.contains(what) && said.contains(next), "{name}: {said}");
        }
    }
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    run(Command::new("mkfifo").arg(dir.path().join("pipe")));
    for (name, what) in [("directory", "is a directory"), ("pipe", "is a pipe: expected a regular file")] {
        for said in what_is_said(dir.path(), name, &mut table) {
            assert!(said.contains(what), "{name}: {said}");
        }
    }
    // What people read, in one table: tests/it/kinds-of-files.txt, made anew with UPDATE=1.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kinds-of-files.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(&file).unwrap());
}

/// What inspect and convert --dry-run say of the file `name` in `dir`, in their words and as rows of `table`.
fn what_is_said(dir: &Path, name: &str, table: &mut String) -> [String; 2] {
    let commands = [&["inspect"][..], &["convert", "--dry-run", "--front-end", "built-in"]];
    let [inspected, converted] = commands.map(|command| {
        let output = btrsquash().current_dir(dir).args(command).arg(name).output().unwrap();
        let said = text(&output.stderr);
        assert!([Some(2), Some(3)].contains(&output.status.code()), "{name}: {said}");
        assert!(said.contains(name), "{name}: the file is not named: {said}");
        assert!(!said.contains("0x") && !said.contains("\\x"), "{name}: {said}");
        said.strip_prefix("error: ").unwrap().to_owned()
    });
    if inspected == converted {
        table.push_str(&format!("{name}\n    {inspected}\n"));
    } else {
        table.push_str(&format!("{name}\n    inspect: {inspected}\n    convert: {converted}\n"));
    }
    [inspected, converted]
}

#[test]
fn what_linux_unpacks_before_it_stops_is_shown_and_converted_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = sample();
    first.resize(first.len().next_multiple_of(4) - 1, 0);
    while first.len() % 4 != 3 {
        first.push(0);
    }
    let second = archive(&[file("late", "x"), trailer()]);
    let half = archive(&[file("whole", "x"), file("cut", [7; 4000])]);
    let lz4 = packed(&archive(&[file("one", "1"), trailer()]), Encoding::Lz4);
    let gzip = packed(&second, Encoding::Gzip);
    let two = |encoding| {
        let (a, b) = half.split_at(200);
        [packed(a, encoding), packed(b, encoding)].concat()
    };
    let good = packed(&archive(&[file("one", "1"), trailer()]), Encoding::Gzip);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "misaligned",
            [&first[..], &second].concat(),
            &["invalid magic at start of compressed archive", "1 more zero byte", "multiple of 4"],
        ),
        (
            "garbage",
            [&sample()[..], b"garbage garbage"].concat(),
            &["invalid magic at start of compressed archive", "text"],
        ),
        ("junk", packed(&[&second[..], b"junk"].concat(), Encoding::Xz), &["junk within compressed archive"]),
        ("lz4", [&lz4[..], &gzip].concat(), &["Decoding failed", "four zero bytes"]),
        ("gzip twice", two(Encoding::Gzip), &["junk at the end of compressed archive", "one stream"]),
        ("pbzip2", two(Encoding::Bzip2), &["junk at the end of compressed archive", "not pbzip2"]),
        ("cut", [&good[..], &gzip[..gzip.len() - 12]].concat(), &["read error"]),
        (
            "checksum",
            [&good[..], &archive(&[Entry { magic: "070702", checksum: 1, ..file("x", "y") }])].concat(),
            &["bad data checksum"],
        ),
    ];
    for (name, bytes, words) in cases {
        let path = write(dir.path(), name, bytes);
        let refused = btrsquash().args(["convert", "--dry-run"]).arg(&path).output().unwrap();
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        let shown = inspect(&path);
        let report = text(&shown.stdout);
        if name == "cut" && shown.status.code() == Some(3) {
            continue;
        }
        assert_eq!(shown.status.code(), Some(0), "{name}: {}", text(&shown.stderr));
        assert!(said.contains("--accept-partial"), "{name}: {said}");
        assert!(report.contains("Linux stops in segment") && report.contains(words[0]), "{name}: {report}");
        assert!(report.contains("of the file"), "{name}: {report}");
    }
    // The same place and words on every run, and the sample's system is the one that is converted.
    let path = dir.path().join("garbage");
    let mut command = btrsquash();
    command
        .args(["convert", "--dry-run", "--accept-partial", "--front-end", "built-in", "--full"])
        .arg(&path);
    let done = text(&run(&mut command).stdout);
    assert!(done.contains("the last 15 bytes of the file are not unpacked"), "{done}");
}

#[test]
fn zstd_windows_that_linux_refuses_are_named() {
    if !have("zstd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "cpio", archive(&[file("one", "1"), trailer()]));
    // Known sizes make a small window: from a pipe it is what was asked for.
    sh(
        dir.path(),
        "cat cpio | zstd -q --ultra --long=28 -c >wide; cat cpio | zstd -q --long=27 -c >good",
        &[],
    );
    let output = inspect(&dir.path().join("wide"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for words in ["a window of 256 MiB; the limit is 128 MiB", "too large a window size", "--long=27"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(inspect(&dir.path().join("good")).status.success());
}

#[test]
fn a_dictionary_that_takes_too_much_memory_is_named() {
    if !have("xz") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let plain = write(tmp.path(), "plain", archive(&[file("init", "#!/bin/sh\n").mode(0o755), trailer()]));
    for (name, options) in
        [("xz", "--check=crc32 --lzma2=dict=512MiB"), ("lzma", "--format=lzma --lzma1=dict=512MiB")]
    {
        let packed = tmp.path().join(name);
        crate::support::sh(tmp.path(), &format!(r#"xz -c {options} <"$1" >"$2""#), &[&plain, &packed]);
        let output = inspect(&packed);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        for words in ["needs a dictionary of 512 MiB: the limit is 256 MiB", "xz -9 --check=crc32"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("damaged") && !said.contains("corrupt"), "{said}");
    }
}

#[test]
fn an_init_that_no_kernel_can_start_is_said() {
    let tmp = tempfile::tempdir().unwrap();
    let warned = |init: &str, more: &[crate::support::newc::Entry]| {
        let mut entries = vec![dir("bin"), file("bin/getty", "x"), file("init", init).mode(0o755)];
        entries.extend(more.iter().cloned());
        entries.push(trailer());
        let path = write(tmp.path(), "image.cpio", archive(&entries));
        text(&inspect(&path).stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let shell = [file("bin/sh", "\x7fELF").mode(0o755)];
    for (init, why) in [
        (
            "#!/bin/bash\nexec /bin/getty\n",
            "no kernel can start /init: it needs /bin/bash, which is not in the image",
        ),
        ("#!/bin/sh\r\nexec /bin/getty\r\n", r"it needs /bin/sh\r, which is not in the image"),
        ("exec /bin/getty\n", "neither an ELF program nor a script"),
        ("", "neither an ELF program nor a script"),
    ] {
        let said = warned(init, &shell);
        assert!(said.contains(why) && said.contains("--init PATH"), "{init:?}: {said}");
    }
    assert!(!warned("#!/bin/sh\nexec /bin/getty\n", &shell).contains("no kernel can"));
}

#[test]
fn an_interpreter_that_comes_before_its_directory_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let image = archive(&[
        file("init", "#!/bin/sh\nexec /bin/sh\n").mode(0o755),
        file("bin/sh", "\x7fELF").mode(0o755),
        file("bin/getty", "x"),
        dir("bin"),
        dir("lib"),
        dir("lib/modules"),
        trailer(),
    ]);
    let path = write(tmp.path(), "depth.cpio", image);
    let output = btrsquash().args(["convert", "--dry-run", "--assume-monolith"]).arg(&path).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for words in
        ["/init needs /bin/sh, which Linux drops", "segment 1", "before the entry of its directory", "-depth"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(
        text(&inspect(&path).stdout).contains("2 entries in directories that do not exist at that point")
    );
}

/// Converts `inputs` with the built-in front-end and returns the report, in words.
fn convert(inputs: &[&Path], new: &Path, more: &[&str]) -> String {
    let mut command = btrsquash();
    command
        .arg("convert")
        .args(inputs)
        .args(["--front-end", "built-in", "--full", "--force", "-o"])
        .arg(new)
        .args(more);
    text(&run(&mut command).stdout)
}

fn opened(path: &Path) -> container::Input {
    container::open(&[path.to_owned()], &Limits::default()).unwrap()
}

fn bytes(source: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; source.len() as usize];
    source.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn several_initrds_and_standard_input() {
    let tmp = tempfile::tempdir().unwrap();
    let whole = sample();
    let more = packed(&archive(&[file("added", "here"), trailer()]), Encoding::Gzip);
    let (a, b) = (write(tmp.path(), "a.gz", &whole), write(tmp.path(), "b.gz", &more));
    let mut joined = whole.clone();
    joined.resize(joined.len().next_multiple_of(4), 0);
    joined.extend(&more);
    let one = write(tmp.path(), "one.gz", &joined);
    let (from_two, from_one) = (tmp.path().join("two.img"), tmp.path().join("one.img"));
    let report = convert(&[&a, &b], &from_two, &[]);
    assert!(report.contains("joined in boot order"), "{report}");
    convert(&[&one], &from_one, &[]);
    assert_eq!(std::fs::read(&from_two).unwrap(), std::fs::read(&from_one).unwrap());
    // verify, inspect and diff take the list with + between.
    let list = format!("{}+{}", a.display(), b.display());
    run(btrsquash().arg("verify").arg(&list).arg(&from_two));

    let from_stdin = tmp.path().join("stdin.img");
    let mut child = btrsquash()
        .args(["convert", "-", "--front-end", "built-in", "-q", "-o"])
        .arg(&from_stdin)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&joined).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read(&from_stdin).unwrap(), std::fs::read(&from_one).unwrap());
}

/// A PE file as ukify lays it out: a stub with .text, then the sections.
fn uki(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut header = vec![0; 0x400];
    header[..2].copy_from_slice(b"MZ");
    header[0x3c..0x40].copy_from_slice(&0x80_u32.to_le_bytes());
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664_u16.to_le_bytes());
    put(0x86, &(sections.len() as u16 + 1).to_le_bytes());
    put(0x94, &240_u16.to_le_bytes());
    let optional = 0x98;
    put(optional, &0x20b_u16.to_le_bytes());
    put(optional + 32, &4096_u32.to_le_bytes());
    put(optional + 36, &512_u32.to_le_bytes());
    put(optional + 60, &0x400_u32.to_le_bytes());
    put(optional + 68, &10_u16.to_le_bytes());
    put(optional + 108, &16_u32.to_le_bytes());
    // A signature.
    put(optional + 112 + 32, &1000_u32.to_le_bytes());
    put(optional + 112 + 36, &8_u32.to_le_bytes());
    let all: Vec<(&str, &[u8])> =
        std::iter::once((".text", &[0xc3; 100][..])).chain(sections.iter().copied()).collect();
    let (mut raw, mut address) = (0x400_usize, 0x1000_usize);
    let mut body = Vec::new();
    for (index, (name, bytes)) in all.iter().enumerate() {
        let at = optional + 240 + index * 40;
        put(at, name.as_bytes());
        let size = bytes.len().next_multiple_of(512);
        for (offset, value) in [(8, bytes.len()), (12, address), (16, size), (20, raw)] {
            put(at + offset, &(value as u32).to_le_bytes());
        }
        put(at + 36, &0x4000_0040_u32.to_le_bytes());
        body.extend_from_slice(bytes);
        body.resize(body.len().next_multiple_of(512), 0);
        raw += size;
        address = (address + bytes.len()).next_multiple_of(4096);
    }
    [header, body].concat()
}

/// A file with the banner that the kernel has.
const KERNEL: &[u8] = b"Linux version 6.1.0-tiny (x@y) #1\0padding of a kernel";

#[test]
fn a_unified_kernel_image_is_converted_to_another_one() {
    let tmp = tempfile::tempdir().unwrap();
    let cmdline = b"console=ttyS0 quiet";
    let sections: [(&str, &[u8]); 6] = [
        (".osrel", b"ID=tiny\nPRETTY_NAME=\"Tiny 1\"\n"),
        (".cmdline", cmdline),
        (".uname", b"6.1.0-tiny"),
        (".initrd", &sample()),
        (".linux", KERNEL),
        (".pcrsig", b"{}"),
    ];
    let old = write(tmp.path(), "old.efi", uki(&sections));
    let said = text(&inspect(&old).stdout);
    for words in
        ["unified kernel image (signed)", "its kernel is 6.1.0-tiny", "Tiny 1", "console=ttyS0 quiet"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let new = tmp.path().join("new.efi");
    let report = convert(&[&old], &new, &[]);
    for words in
        ["unsigned unified kernel image", "sbsign --key", "PCR 11", "ukify build", ".pcrsig was left out"]
    {
        assert!(report.contains(words), "{words}: {report}");
    }
    let input = opened(&new);
    assert_eq!(bytes(input.kernel.as_ref().unwrap().as_ref()), KERNEL);
    run(btrsquash().arg("verify").arg(&old).arg(&new));
    // The initrd in it is what the initrd alone becomes.
    let (alone, kernel) = (write(tmp.path(), "alone.gz", sample()), write(tmp.path(), "vmlinuz", KERNEL));
    let image = tmp.path().join("alone.img");
    convert(&[&alone], &image, &["--kernel", kernel.to_str().unwrap()]);
    assert_eq!(bytes(input.initrd.as_ref()), std::fs::read(&image).unwrap());
    // Nothing but the sections is in the file: no signature, and binutils reads it.
    assert!(!text(&inspect(&new).stdout).contains("(signed)"));
    if have("objdump") {
        let listed =
            String::from_utf8_lossy(&run(Command::new("objdump").arg("-h").arg(&new)).stdout).into_owned();
        for name in [".text", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"] {
            assert!(listed.contains(name), "{name}: {listed}");
        }
        assert!(!listed.contains(".pcrsig"), "{listed}");
    }
}

/// A FIT image source for mkimage, as the U-Boot documentation has it.
const FIT: &str = r#"/dts-v1/;
/ { description = "tiny"; #address-cells = <1>;
  images {
    kernel { description = "k"; data = /incbin/("vmlinuz"); type = "kernel"; arch = "x86_64"; os = "linux";
      compression = "none"; load = <0x1000000>; entry = <0x1000000>; hash-1 { algo = "sha256"; }; };
    ramdisk-1 { description = "r"; data = /incbin/("initrd"); type = "ramdisk"; arch = "x86_64"; os = "linux";
      compression = "none"; hash-1 { algo = "sha256"; }; hash-2 { algo = "crc32"; }; hash-3 { algo = "sha1"; }; };
  };
  configurations { default = "c"; c { kernel = "kernel"; ramdisk = "ramdisk-1"; }; };
};"#;

#[test]
fn u_boot_images_are_written_again_with_right_checksums() {
    if !have("mkimage") || !have("dumpimage") || !have("dtc") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    write(tmp.path(), "initrd", sample());
    write(tmp.path(), "vmlinuz", KERNEL);
    write(tmp.path(), "fit.its", FIT);
    sh(
        tmp.path(),
        "mkimage -A x86_64 -O linux -T ramdisk -C none -n tiny -d initrd single.uimg
         mkimage -A x86_64 -O linux -T multi -C none -n both -d vmlinuz:initrd multi.uimg
         mkimage -f fit.its inside.itb; mkimage -E -f fit.its outside.itb",
        &[],
    );
    for name in ["single.uimg", "multi.uimg", "inside.itb", "outside.itb"] {
        let old = tmp.path().join(name);
        assert_eq!(bytes(opened(&old).initrd.as_ref()), sample(), "{name}");
        let new = tmp.path().join(format!("new-{name}"));
        let report = convert(&[&old], &new, &[]);
        assert!(report.contains("with new checksums"), "{name}: {report}");
        run(btrsquash().arg("verify").arg(&old).arg(&new));
        let input = opened(&new);
        assert_eq!(input.kernel.is_some(), name != "single.uimg", "{name}");
        if let Some(kernel) = &input.kernel {
            assert_eq!(bytes(kernel.as_ref()), KERNEL, "{name}");
        }
        // U-Boot's own tools agree with the sizes and sums.
        sh(tmp.path(), r#"dumpimage -l "$1" >listed"#, &[&new]);
        if name.ends_with("itb") {
            sh(tmp.path(), r#"dumpimage -T flat_dt -p 1 -o part "$1" >/dev/null"#, &[&new]);
            assert_eq!(
                std::fs::read(tmp.path().join("part")).unwrap(),
                bytes(input.initrd.as_ref()),
                "{name}"
            );
            let listed = std::fs::read_to_string(tmp.path().join("listed")).unwrap();
            let sum = sh(tmp.path(), "sha256sum part | cut -d' ' -f1", &[]);
            assert!(listed.contains(sum.trim()), "{name}: {sum} {listed}");
        }
        // A wrong bit is found.
        let mut damaged = std::fs::read(&new).unwrap();
        let last = damaged.len() - 200;
        damaged[last] ^= 1;
        if name.ends_with("uimg") {
            let path = write(tmp.path(), "damaged", damaged);
            assert!(text(&inspect(&path).stderr).contains("the checksum of its data is wrong"), "{name}");
        }
    }
}

#[test]
fn an_initramfs_in_a_kernel_is_found() {
    let tmp = tempfile::tempdir().unwrap();
    let default = archive(&[dir("dev"), dir("root"), trailer()]);
    let unpacked = |initramfs: &[u8]| {
        let mut kernel = [KERNEL, b"070701 in code", &[9; 3000][..]].concat();
        kernel.resize(kernel.len().next_multiple_of(512), 0);
        kernel.extend(initramfs);
        kernel.extend([0xcc; 5000]);
        kernel
    };
    let plain = plain_sample();
    let kernels = [
        ("vmlinux", unpacked(&sample())),
        ("Image.gz", packed(&unpacked(&sample()), Encoding::Gzip)),
        ("plain", unpacked(&plain)),
        ("xz", unpacked(&packed(&plain, Encoding::Xz))),
    ];
    for (name, bytes) in kernels {
        let kernel = if name == "Image.gz" { bytes } else { [&b"\x7fELF"[..], &bytes[4..]].concat() };
        let path = write(tmp.path(), name, kernel);
        if name == "Image.gz" {
            // Not told from an initrd by its first bytes: the error says what is inside.
            assert_eq!(inspect(&path).status.code(), Some(3));
            continue;
        }
        let mut fixed = std::fs::read(&path).unwrap();
        fixed.extend(KERNEL);
        std::fs::write(&path, fixed).unwrap();
        let said = text(&inspect(&path).stdout);
        assert!(said.contains("initramfs built into the kernel"), "{name}: {said}");
        assert!(said.contains("CONFIG_INITRAMFS_SOURCE"), "{name}: {said}");
    }
    let none = write(tmp.path(), "none", [b"\x7fELF", &unpacked(&default)[..], KERNEL].concat());
    assert!(text(&inspect(&none).stderr).contains("an ELF file"));
}

fn plain_sample() -> Vec<u8> {
    let mut child =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&sample()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn an_iso_says_which_initrds_and_kernels_it_holds() {
    if !have("xorriso") {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let boot = tmp.path().join("tree/Boot Files");
    std::fs::create_dir_all(&boot).unwrap();
    write(&boot, "initrd-amd64.gz", sample());
    write(&boot, "vmlinuz-6.1", with(0x202, b"HdrS"));
    write(&boot, "readme.txt", "text");
    write(&tmp.path().join("tree"), "filesystem.squashfs", with(0, b"hsqs"));
    for (name, options) in [("rr.iso", "-R"), ("plain.iso", "-iso-level 3")] {
        sh(tmp.path(), &format!("xorriso -as mkisofs {options} -quiet -o {name} tree 2>/dev/null"), &[]);
        let output = inspect(&tmp.path().join(name));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        for words in ["is an ISO 9660 image", "xorriso -osirrox on", "bytes)"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        if name == "rr.iso" {
            for words in
                ["/Boot Files/initrd-amd64.gz (", "/Boot Files/vmlinuz-6.1 (", "/filesystem.squashfs ("]
            {
                assert!(said.contains(words), "{words}: {said}");
            }
        }
    }
}

/// A pipe would block, a device never end: what is named next to the image is a regular file, and read to a limit.
#[test]
fn files_next_to_the_image_are_regular_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    sh(
        dir.path(),
        "mkfifo pipe; truncate -s 600M large; mkdir -p lib/modules/6.1.0; mkfifo lib/modules/6.1.0/loop.ko",
        &[],
    );
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz").display().to_string();
    let (new, pipe, large, modules) =
        (path("new.img"), path("pipe"), path("large"), path("lib/modules/6.1.0"));
    let measured = |file: &str| format!("old={file}");
    let (measured_pipe, measured_zero) = (measured(&pipe), measured("/dev/zero"));
    let convert = ["convert", &image, "--front-end", "built-in", "-o", &new];
    let inspect = ["inspect", &image, "--max-growth", "1%"];
    let cases: &[(&[&str], &[&str])] = &[
        (&convert, &["--kernel", &pipe]),
        (&convert, &["--kernel", "/dev/zero"]),
        (&convert, &["--kernel", &large]),
        (&convert, &["--modules", &pipe]),
        (&convert, &["--modules", "/dev/zero"]),
        (&convert, &["--modules", &modules]),
        (&convert[..2], &["-o", &new, "--front-end", &pipe]),
        (&convert[..2], &["-o", &new, "--front-end", &large]),
        (&convert, &["--measured", &measured_pipe]),
        (&convert, &["--measured", &measured_zero]),
        (&inspect, &["--baseline", &pipe]),
        (&inspect, &["--baseline", "/dev/zero"]),
        (&["packages", &image], &["--package-map", &pipe]),
        (&["packages", &image], &["--package-map", "/dev/zero"]),
        (&["report"], &["/dev/zero"]),
        (&["report"], &[&pipe]),
    ];
    // What is not there is wrong usage, whatever it was to be.
    let (missing, measured_missing) = (path("missing"), measured(&path("missing")));
    for (command, more) in [
        (&convert[..], ["--kernel", &missing]),
        (&convert[..], ["--modules", &missing]),
        (&convert[..], ["--measured", &measured_missing]),
        (&inspect[..], ["--baseline", &missing]),
        (&["packages", &image][..], ["--package-map", &missing]),
    ] {
        let output = btrsquash().args(command).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (command, more) in cases {
        // A limit on memory shows what is read without end.
        let output = Command::new("timeout")
            .args(["20", "prlimit", "--as=2000000000"])
            .arg(env!("CARGO_BIN_EXE_btrsquash"))
            .args(*command)
            .args(*more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(2..=4)), "{more:?}: {:?} {said}", output.status);
        assert!(!said.contains("out of memory"), "{more:?}: {said}");
        assert!(!dir.path().join("new.img").exists(), "{more:?}");
    }
}
