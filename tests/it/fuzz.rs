//! The fuzz targets on a fixed row of mutations, each parser in a process of its own with a bound on its memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::kernel::rpm;
use crate::support::{have, kernel_package, sh};

#[path = "../fuzz/targets.rs"]
mod targets;

/// Mutations of each target in a usual run; BTRSQUASH_FUZZ_ROUNDS asks for more.
const ROUNDS: u64 = 1500;
/// Address space of a process, KiB: 400 MiB, and what the program and its threads take.
const MEMORY: u64 = 600 << 10;

/// Numbers that look random and never change.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One of `seeds`, changed in a few places.
fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let len = bytes.len();
        // Headers stand in front and tables at the end: half of the changes go there.
        let at = match random.below(4) {
            0 => random.below(len.min(256)),
            1 => len - 1 - random.below(len.min(512)),
            _ => random.below(len),
        };
        match random.below(11) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'f', b'/', b'7', b'\n'][random.below(10)],
            3 | 4 => {
                let width = [2, 4, 8][random.below(3)];
                let value = match random.below(5) {
                    0 => 0,
                    1 => u64::MAX >> random.below(64),
                    2 => 1 << random.below(64),
                    3 => len as u64,
                    _ => random.next() % 300,
                };
                let value =
                    if random.below(2) == 0 { value.to_le_bytes() } else { value.swap_bytes().to_le_bytes() };
                let value = if value[0] == 0 && width < 8 && value[7] != 0 {
                    &value[8 - width..]
                } else {
                    &value[..width]
                };
                for (slot, byte) in bytes[at..].iter_mut().zip(value) {
                    *slot = *byte;
                }
            }
            5 => {
                // Eight digits of a newc header, or of an ar or tar one.
                let digits = match random.below(3) {
                    0 => format!("{:08x}", random.next() as u32),
                    1 => format!("{:08x}", random.below(5000)),
                    _ => format!("{:08o}", random.below(70_000)),
                };
                for (slot, byte) in bytes[at..].iter_mut().zip(digits.bytes()) {
                    *slot = byte;
                }
            }
            6 => bytes.truncate(at),
            7 => {
                let end = (at + random.below(64)).min(len);
                bytes.drain(at..end);
            }
            8 => {
                let end = (at + random.below(300)).min(len);
                let copy = bytes[at..end].to_vec();
                let to = random.below(len);
                bytes.splice(to..to, copy);
            }
            9 => {
                let end = (at + random.below(300)).min(len);
                let copy = bytes[at..end].to_vec();
                let to = random.below(len);
                for (slot, byte) in bytes[to..].iter_mut().zip(copy) {
                    *slot = byte;
                }
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// The child's part: the target that the environment names. Without one there is nothing to do.
#[test]
fn child() {
    let Ok(name) = std::env::var("BTRSQUASH_FUZZ_TARGET") else { return };
    let directory = PathBuf::from(std::env::var_os("BTRSQUASH_FUZZ_FOLDER").unwrap());
    let rounds: u64 = std::env::var("BTRSQUASH_FUZZ_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let target = targets::TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut seeds = (target.seeds)();
    let more = directory.join("seeds").join(&name);
    let mut files: Vec<_> =
        std::fs::read_dir(more).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    seeds.extend(files.into_iter().map(|file| std::fs::read(file).unwrap()));
    assert!(seeds.iter().all(|seed| !seed.is_empty()));
    // What libFuzzer may start from.
    if let Some(corpus) = std::env::var_os("BTRSQUASH_FUZZ_CORPUS") {
        let corpus = PathBuf::from(corpus).join(&name);
        std::fs::create_dir_all(&corpus).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(corpus.join(number.to_string()), seed).unwrap();
        }
    }
    static ROUND: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        let mut last = 0;
        loop {
            std::thread::sleep(Duration::from_secs(30));
            let now = ROUND.load(Ordering::Relaxed);
            if now == last {
                eprintln!("an input takes more than 30 s");
                std::process::abort();
            }
            last = now;
        }
    });
    let input = directory.join(format!("{name}.input"));
    let mut understood = 0;
    for seed in &seeds {
        ROUND.fetch_add(1, Ordering::Relaxed);
        std::fs::write(&input, seed).unwrap();
        understood += u64::from((target.run)(seed));
    }
    // Seeds that no one understands, or mutations of which none gets through the first check, would prove nothing.
    assert!(understood > 0, "no seed of {name} is well-formed");
    understood = 0;
    let start = std::env::var("BTRSQUASH_FUZZ_SEED").map_or(1, |n| n.parse().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ start);
    for _ in 0..rounds {
        let bytes = mutated(&seeds, &mut random);
        // What is being read when the process dies is left for whoever looks.
        std::fs::write(&input, &bytes).unwrap();
        ROUND.fetch_add(1, Ordering::Relaxed);
        understood += u64::from((target.run)(&bytes));
    }
    println!("{name}: {} rounds, {understood} understood", ROUND.load(Ordering::Relaxed));
}

/// Real modules and packages, for the targets that read them.
fn more_seeds(directory: &Path) {
    let Some(package) = kernel_package() else { return };
    if !["dpkg-deb", "xz", "zstd", "gzip", "cpio"].into_iter().all(have) {
        return;
    }
    let script = r#"
        mkdir -p seeds/module seeds/package tree/DEBIAN
        dpkg-deb --fsys-tarfile "$1" | tar -x -C tree --wildcards '*/drivers/block/loop.ko' '*/crypto/crc32c_generic.ko'
        cd tree
        version=$(basename lib/modules/*)
        mv lib/modules/$version lib/modules/6.1.0-fuzz
        # As long as it was, so that everything stays where it is.
        sed -i "s/vermagic=$version /vermagic=$(printf "%-*s" ${#version} 6.1.0-fuzz) /" $(find lib -name '*.ko')
        name=../seeds/module/loop.ko
        cp $(find lib -name loop.ko) $name; gzip -k $name; xz -k --check=crc32 $name; zstd -q $name
        find lib | cpio -o -H newc --quiet | gzip >../payload
        printf 'Package: x\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@x>\nDescription: x\n' >DEBIAN/control
        for kind in xz gzip none; do dpkg-deb -Z$kind --build . ../seeds/package/$kind.deb >/dev/null; done
    "#;
    sh(directory, script, &[&package]);
    let payload = std::fs::read(directory.join("payload")).unwrap();
    std::fs::write(directory.join("seeds/package/x.rpm"), rpm(&payload, "gzip")).unwrap();
}

#[test]
fn no_parser_panics_hangs_or_takes_much_memory() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    more_seeds(&directory);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let only = std::env::var("BTRSQUASH_FUZZ_ONLY").ok();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(target) = targets::TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if only.as_ref().is_some_and(|only| only != target.name) {
                        continue;
                    }
                    // One arena: each of glibc's reserves 64 MiB of address space for every thread.
                    let output = Command::new("bash")
                        .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$@\""), "bash"])
                        .arg(std::env::current_exe().unwrap())
                        .args(["--exact", "fuzz::child", "--nocapture", "--test-threads=1"])
                        .env("BTRSQUASH_FUZZ_TARGET", target.name)
                        .env("BTRSQUASH_FUZZ_FOLDER", &directory)
                        .env("MALLOC_ARENA_MAX", "1")
                        .output()
                        .unwrap();
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    let done = String::from_utf8_lossy(&output.stdout).into_owned();
                    eprintln!("{}", done.lines().find(|line| line.contains(" rounds, ")).unwrap_or_default());
                    if !output.status.success()
                        || !done.contains(&format!("{}: ", target.name))
                        || text.contains("panicked")
                    {
                        failed.lock().unwrap().push(format!(
                            "{}: {}; the input is {}\n{text}\n{done}",
                            target.name,
                            output.status,
                            directory.join(format!("{}.input", target.name)).display(),
                        ));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
