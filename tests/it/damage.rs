//! Damaged images through the built binary: refused, or converted right; never a panic, never a file left behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use btrsquash::codec::Encoding;

use crate::support::newc::{archive, device, dir, file, symlink, trailer};
use crate::support::rootfs::read;
use crate::support::{btrsquash, have, kernel_package, sh};

/// Truncated at so many places, all images together.
const CUTS: usize = 150;
/// So many random changes of a byte.
const CHANGES: usize = 500;
/// None may take longer.
const LONGEST: Duration = Duration::from_secs(30);

/// A small system whose kernel has a real module, and the rest built in.
fn entries(release: &str, module: &[u8]) -> Vec<crate::support::newc::Entry> {
    let modules = format!("lib/modules/{release}");
    let builtin = "kernel/drivers/md/dm-mod.ko\nkernel/drivers/md/dm-snapshot.ko\nkernel/fs/btrfs/btrfs.ko\n\
                   kernel/fs/squashfs/squashfs.ko\nkernel/crypto/crc32c_generic.ko\n";
    // gzip alone, which is fast, for the front-end.
    let config = "CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\nCONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_ZLIB=y\n\
                  CONFIG_SQUASHFS_LZ4=y\nCONFIG_BTRFS_FS=y\nCONFIG_BLK_DEV_DM=y\nCONFIG_DM_SNAPSHOT=y\n";
    let text: String = (0..300).map(|n| format!("line {n}\n")).collect();
    let mut init = file("init", "#!/bin/sh\nmount -t proc proc /proc\nexec /bin/sh\n");
    init.mode = 0o100_755;
    let mut hard = [file("bin/one", ""), file("bin/two", "linked")];
    for link in &mut hard {
        (link.ino, link.nlink) = (7, 2);
    }
    let [one, two] = hard;
    vec![
        dir("."),
        init,
        dir("bin"),
        one,
        two,
        symlink("bin/sh", "one"),
        dir("dev"),
        device("dev/null", 0o020_666, 1, 3),
        dir("etc"),
        file("etc/os-release", "PRETTY_NAME=\"Damaged 1\"\n"),
        file("etc/text", text),
        file("etc/zeros", [0; 5000]),
        dir("lib"),
        dir("lib/modules"),
        dir(&modules),
        dir(format!("{modules}/kernel")),
        file(format!("{modules}/kernel/loop.ko"), module),
        file(format!("{modules}/modules.builtin"), builtin),
        file(format!("{modules}/config"), config),
        trailer(),
    ]
}

/// What the binary did with an image.
struct Outcome {
    code: i32,
    errors: String,
}

/// Runs `command` to its end; panics where it takes too long or ends by a signal.
fn finish(command: &mut Command, what: &str) -> Outcome {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    // Errors are short: they fit into the pipe.
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LONGEST {
            child.kill().unwrap();
            panic!("{what} takes more than {LONGEST:?}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("{what}: {}\n{errors}", output.status));
    assert!(!errors.contains("panicked"), "{what}: {errors}");
    Outcome { code, errors }
}

/// How often which exit code was seen.
type Codes = std::collections::BTreeMap<i32, usize>;

/// Converts a damaged image in `dir`, and judges.
fn check(dir: &Path, image: &[u8], what: &str) -> i32 {
    let (old, out, temporary) = (dir.join("old"), dir.join("out"), dir.join("tmp"));
    std::fs::write(&old, image).unwrap();
    let new = out.join("new.img");
    let mut command = btrsquash();
    command.arg("convert").arg(&old).arg("-o").arg(&new);
    command.args([
        "--quiet",
        "--front-end",
        "built-in",
        "--compression",
        "lz4",
        "-j",
        "1",
        "--free-space",
        "8MiB",
    ]);
    let outcome = finish(command.env("TMPDIR", &temporary), what);
    match outcome.code {
        0 => {
            let mut command = btrsquash();
            command.arg("verify").arg(&old).arg(&new);
            let verified = finish(command.env("TMPDIR", &temporary), what);
            assert_eq!(verified.code, 0, "{what}, converted but not right: {}", verified.errors);
            std::fs::remove_file(&new).unwrap();
        }
        3 => {}
        // A valid image of a kernel that is not there: the byte was one of its name or of the list of its modules,
        // or made a file of another name. The right result is to say what is missing.
        4 => assert!(read(image).is_ok() && outcome.errors.contains("kernel"), "{what}: {}", outcome.errors),
        code => panic!("{what}: exit code {code}: {}", outcome.errors),
    }
    for directory in [&out, &temporary] {
        let left: Vec<_> = std::fs::read_dir(directory).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.is_empty(), "{what} (exit code {}) leaves {left:?} behind", outcome.code);
    }
    outcome.code
}

#[test]
fn cut_and_changed_images_are_refused_or_converted_right() {
    if !have("dpkg-deb") {
        return;
    }
    let Some(package) = kernel_package() else { return };
    let work = tempfile::tempdir().unwrap();
    let path = sh(
        work.path(),
        r#"dpkg-deb --fsys-tarfile "$1" | tar -x --wildcards '*/drivers/block/loop.ko'; find . -name loop.ko"#,
        &[&package],
    );
    let release = path.trim().split('/').nth(3).unwrap();
    let module = std::fs::read(work.path().join(path.trim())).unwrap();

    let all = entries(release, &module);
    let (head, tail) = all.split_at(9);
    let pack = |entries: &[crate::support::newc::Entry], encoding| {
        btrsquash::codec::compress(&archive(entries), encoding).unwrap()
    };
    let mut mix = archive(&[
        dir("kernel"),
        dir("kernel/x86"),
        dir("kernel/x86/microcode"),
        file("kernel/x86/microcode/GenuineIntel.bin", [7; 900]),
        trailer(),
    ]);
    mix.extend(pack(head, Encoding::Xz));
    mix.resize(mix.len().next_multiple_of(4) + 4, 0);
    // The module apart: it would take most of the changes.
    let (module_at, rest) = (tail.len() - 4, tail);
    mix.extend(archive(&rest[..module_at]));
    mix.extend(pack(&rest[module_at..module_at + 1], Encoding::Zstd));
    mix.resize(mix.len().next_multiple_of(4), 0);
    mix.extend(archive(&rest[module_at + 1..]));
    mix.extend(pack(&[file("x", "by lzma"), trailer()], Encoding::Lzma));
    mix.extend(pack(&[file("y", "by bzip2"), trailer()], Encoding::Bzip2));
    mix.extend(pack(&[file("z", "by lzo"), trailer()], Encoding::Lzo));
    mix.extend(pack(&[file("lz4", "by lz4"), trailer()], Encoding::Lz4));
    let images: Vec<(&str, Vec<u8>)> = [
        ("plain", archive(&all)),
        ("gzip", pack(&all, Encoding::Gzip)),
        ("lz4", pack(&all, Encoding::Lz4)),
        ("mix", mix),
    ]
    .into();

    // What is done to which image; the numbers look random and never change.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % below
    };
    let mut todo: Vec<(usize, usize, Option<u8>)> =
        (0..images.len()).map(|image| (image, images[image].1.len(), None)).collect();
    for number in 0..CUTS {
        let image = number % images.len();
        todo.push((image, next(images[image].1.len()), None));
    }
    for number in 0..CHANGES {
        let image = number % images.len();
        let at = next(images[image].1.len());
        let byte = loop {
            let byte = next(256) as u8;
            if byte != images[image].1[at] {
                break byte;
            }
        };
        todo.push((image, at, Some(byte)));
    }

    let (turn, codes) = (AtomicUsize::new(0), Mutex::new(Codes::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let directory = work.path().join(number.to_string());
            for name in ["out", "tmp"] {
                std::fs::create_dir_all(directory.join(name)).unwrap();
            }
            let (turn, codes, todo, images) = (&turn, &codes, &todo, &images);
            scope.spawn(move || {
                while let Some(&(image, at, byte)) = todo.get(turn.fetch_add(1, Ordering::Relaxed)) {
                    let (name, whole) = &images[image];
                    let mut bytes = whole.clone();
                    let what = match byte {
                        Some(byte) => {
                            bytes[at] = byte;
                            format!("{name} with byte {at} set to {byte:#04x}")
                        }
                        None => {
                            bytes.truncate(at);
                            format!("{name} cut at {at} of {}", whole.len())
                        }
                    };
                    let code = check(&directory, &bytes, &what);
                    assert!(at < whole.len() || code == 0, "{what}: exit code {code}");
                    *codes.lock().unwrap().entry(code).or_default() += 1;
                }
            });
        }
    });
    let codes = codes.into_inner().unwrap();
    eprintln!("exit codes: {codes:?}");
    assert_eq!(codes.values().sum::<usize>(), images.len() + CUTS + CHANGES);
}
