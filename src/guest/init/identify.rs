//! What a disk holds, by its superblock.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a disk holds: the file system's type, label and UUID.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) kind: &'static str,
    pub(crate) label: String,
    pub(crate) uuid: String,
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

fn uuid(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let hex = hex.concat();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// Tells ext2/3/4, ISO 9660, FAT, XFS, btrfs and squashfs by their superblocks.
pub(crate) fn identify(device: &Path) -> Option<FileSystem> {
    let mut file = File::open(device).ok()?;
    let mut start = vec![0; 68 << 10];
    let mut filled = 0;
    while filled < start.len() {
        match file.read(&mut start[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    let found = |kind, label: &[u8], uuid: String| Some(FileSystem { kind, label: text(label), uuid });
    if start[..4] == *b"hsqs" {
        return found("squashfs", b"", String::new());
    }
    if start[0x8001..0x8006] == *b"CD001" {
        // Volume creation date, as blkid shows it: 2024-01-02-03-04-05-00.
        let date = text(&start[0x832d..0x833d]);
        let uuid = if date.len() == 16 && date.bytes().all(|b| b.is_ascii_digit()) {
            format!(
                "{}-{}-{}-{}-{}-{}-{}",
                &date[..4],
                &date[4..6],
                &date[6..8],
                &date[8..10],
                &date[10..12],
                &date[12..14],
                &date[14..16]
            )
        } else {
            String::new()
        };
        return found("iso9660", &start[0x8028..0x8048], uuid);
    }
    if start[0x438..0x43a] == [0x53, 0xef] {
        return found("ext4", &start[0x478..0x488], uuid(&start[0x468..0x478]));
    }
    if start[..4] == *b"XFSB" {
        return found("xfs", &start[108..120], uuid(&start[32..48]));
    }
    if start[0x10040..0x10048] == *b"_BHRfS_M" {
        return found("btrfs", &start[0x1012b..0x1022b], uuid(&start[0x10020..0x10030]));
    }
    if start[510..512] == [0x55, 0xaa] {
        for (kind_at, serial, label) in [(82, 67, 71), (54, 39, 43)] {
            if start[kind_at..kind_at + 3] == *b"FAT" {
                let s = &start[serial..serial + 4];
                return found(
                    "vfat",
                    &start[label..label + 11],
                    format!("{:02X}{:02X}-{:02X}{:02X}", s[3], s[2], s[1], s[0]),
                );
            }
        }
    }
    None
}
