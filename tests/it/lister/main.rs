//! A first program that lists the rootfs in which it finds itself on the console: what the kernel made of an initrd.
//!
//! One line for each path, in any order, as `manifest` of initrd.rs writes them, each between `@ ` and ` @`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// FNV-1a, 64 bits.
fn hash(path: &Path) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut buffer = vec![0; 64 << 10];
    let Ok(mut file) = fs::File::open(path) else { return 1 };
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        for byte in &buffer[..count] {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    sum
}

fn escaped(bytes: &[u8]) -> String {
    // Long ones by their hash: a serial console is slow.
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"/._-!".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn main() {
    let mut todo = vec![PathBuf::from("/")];
    let mut lines = Vec::new();
    while let Some(path) = todo.pop() {
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if stat.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        lines.push((path, stat));
    }
    lines.sort_by(|(a, _), (b, _)| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut first: HashMap<u64, String> = HashMap::new();
    let mut console = std::io::stdout().lock();
    for (path, stat) in &lines {
        let name = escaped(path.as_os_str().as_bytes());
        let kind = stat.mode() & 0o170_000;
        let (mut nlink, mut size, mut sum, mut target) = (0, 0, 0, String::new());
        let mut device = (0, 0);
        match kind {
            0o040_000 => {}
            0o100_000 => {
                (nlink, size, sum) = (stat.nlink(), stat.size(), hash(path));
            }
            0o120_000 => {
                nlink = stat.nlink();
                size = stat.size();
                target = fs::read_link(path).map_or_else(|e| e.to_string(), |t| escaped(t.as_os_str().as_bytes()));
            }
            _ => {
                nlink = stat.nlink();
                let number = stat.rdev();
                device = (
                    (number >> 8 & 0xfff) | (number >> 32 & !0xfff),
                    (number & 0xff) | (number >> 12 & 0xffff_ff00),
                );
            }
        }
        let same = first.entry(stat.ino()).or_insert_with(|| name.clone());
        let _ = writeln!(
            console,
            "@ {name} {:o} {} {} {nlink} {size} {sum:x} [{target}] {}:{} {} {same} @",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            device.0,
            device.1,
            stat.mtime(),
        );
    }
    let _ = writeln!(console, "LISTED {} PATHS", lines.len());
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}
