//! A runtime in the retained initrd: /sys/firmware/initrd, since Linux 6.8 with `retain_initrd`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use btrsquash::contract::paths;

use super::runtime::Squashfs;
use crate::console::{Result, failed, failure};

/// Finds the squashfs where the boot loader put it.
pub(super) fn find() -> Result<Squashfs> {
    let file = PathBuf::from("/sys/firmware/initrd");
    if !file.exists() {
        return Err(failure(
            "the runtime stays in the initrd where the boot loader put it, but the kernel did not keep it there",
            "add retain_initrd to the kernel's command line (Linux 6.8 and later)",
        ));
    }
    let text = fs::read_to_string(Path::new("/").join(paths::RETAINED)).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
    let (mut offset, size) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let initrd = File::open(&file)
        .map_err(failed("opening /sys/firmware/initrd", "report this: it should not happen"))?;
    if !squashfs_at(&initrd, offset, size) {
        // A boot loader put something before the image: an initrd is padded to a multiple of four there.
        offset = search(&initrd, size).ok_or_else(|| {
            failure(
                "/sys/firmware/initrd holds no squashfs of the size that this image was made with",
                "the image may be truncated: compare its checksum with the original's",
            )
        })?;
        if offset % 512 != 0 {
            return Err(failure(
                format!("the squashfs lies at byte {offset} of the initrd, which is not a multiple of 512"),
                "have the boot loader load the other initrds after this image, or pad them to a multiple of 512 bytes",
            ));
        }
    }
    Ok(Squashfs { file, offset, size, own: true })
}

/// Whether a squashfs of `size` bytes lies at `offset`: magic, version 4.0, and its bytes_used.
fn squashfs_at(file: &File, offset: u64, size: u64) -> bool {
    let mut start = [0; 96];
    file.read_exact_at(&mut start, offset).is_ok() && is_squashfs(&start, size)
}

fn is_squashfs(start: &[u8], size: u64) -> bool {
    let used = start[40..48].iter().rev().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    start[..4] == *b"hsqs" && start[28..32] == [4, 0, 0, 0] && used <= size && used + 4096 > size
}

fn search(file: &File, size: u64) -> Option<u64> {
    const CHUNK: usize = 1 << 20;
    let mut buffer = vec![0; CHUNK + 96];
    let mut at = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        if filled < 96 {
            return None;
        }
        let found = (0..=filled - 96).step_by(4).find(|&i| is_squashfs(&buffer[i..i + 96], size));
        if let Some(i) = found {
            return Some(at + i as u64);
        }
        at += CHUNK as u64;
    }
}
