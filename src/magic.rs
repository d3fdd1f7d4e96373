//! What a file is by its magic bytes, for people who gave the wrong one.

use crate::bytes::ReadAt;
use crate::codec::Encoding;

/// A kind of file.
struct Format {
    /// Where its magic bytes are, and what they are.
    magic: (usize, &'static [u8]),
    /// Its name, with an article.
    name: &'static str,
    /// What to do with it.
    next: &'static str,
}

const fn format(offset: usize, magic: &'static [u8], name: &'static str, next: &'static str) -> Format {
    Format { magic: (offset, magic), name, next }
}

const KERNEL: &str = "give the initrd that this kernel boots with; the kernel itself goes to --kernel";
const PACKAGE: &str =
    "unpack the package and give the initrd inside; for kernel modules, use --modules with it";
const ARCHIVE: &str = "unpack it: if it holds an initrd, give that; if it holds a root file system, pack that with \
                       find . | cpio -o -H newc | gzip >initrd.gz";
const FILE_SYSTEM: &str = "Linux mounts such an image instead of unpacking it. Mount it; if it is a whole system, pack its \
                           root with find . | cpio -o -H newc | gzip >initrd.gz";
const REPACK: &str = "unpack it and pack the files with cpio -H newc";
const DISK: &str = "mount its partitions (losetup --partscan, qemu-nbd) and give the initrd inside";
const LOCKED: &str = "open it with cryptsetup, mount what is inside, and give the initrd there";
const OTHER: &str = "give the initrd: the file that the boot loader entry names in its initrd line";

/// The kinds, those with a specific magic first.
const FORMATS: [Format; 66] = [
    format(0x202, b"HdrS", "a Linux kernel (x86 bzImage)", KERNEL),
    format(56, b"ARM\x64", "a Linux kernel (arm64 Image)", KERNEL),
    format(56, b"RSC\x05", "a Linux kernel (riscv Image)", KERNEL),
    format(36, &[0x18, 0x28, 0x6f, 0x01], "a Linux kernel (arm zImage)", KERNEL),
    format(4, b"zimg", "a Linux kernel (EFI zboot image)", KERNEL),
    format(
        32769,
        b"CD001",
        "an ISO 9660 image",
        "give the initrd inside; btrsquash inspect lists the initrds and kernels of an ISO",
    ),
    format(0, b"!<arch>\ndebian", "a Debian package (.deb)", PACKAGE),
    format(0, b"!<arch>\n", "an ar archive", ARCHIVE),
    format(0, &[0xed, 0xab, 0xee, 0xdb], "an RPM package (.rpm)", PACKAGE),
    format(257, b"ustar", "a tar archive", ARCHIVE),
    format(
        0,
        &[0x27, 0x05, 0x19, 0x56],
        "a U-Boot image (uImage)",
        "give one whose type is a ramdisk; mkimage -l shows the type",
    ),
    format(
        0,
        &[0xd0, 0x0d, 0xfe, 0xed],
        "a flattened device tree (FIT image or .dtb)",
        "give a FIT image that has a ramdisk; dumpimage -l lists its parts",
    ),
    format(
        0,
        b"ANDROID!",
        "an Android boot image (boot.img)",
        "unpack it with unpack_bootimg and give its ramdisk",
    ),
    format(
        0,
        b"VNDRBOOT",
        "an Android vendor boot image",
        "unpack it with unpack_bootimg and give its ramdisk",
    ),
    format(1080, &[0x53, 0xef], "an ext2, ext3 or ext4 file system", FILE_SYSTEM),
    format(0, b"XFSB", "an XFS file system", FILE_SYSTEM),
    format(1024, &[0xe2, 0xe1, 0xf5, 0xe0], "an EROFS file system", FILE_SYSTEM),
    format(65600, b"_BHRfS_M", "a btrfs file system", FILE_SYSTEM),
    format(0, b"hsqs", "a squashfs file system", FILE_SYSTEM),
    format(0, b"sqsh", "a squashfs file system in big-endian byte order", FILE_SYSTEM),
    format(0, &[0x45, 0x3d, 0xcd, 0x28], "a cramfs file system", FILE_SYSTEM),
    format(0, b"-rom1fs-", "a romfs file system", FILE_SYSTEM),
    format(0x10018, b"JFS1", "a JFS file system", FILE_SYSTEM),
    format(0, b"UBI#", "a UBI image", FILE_SYSTEM),
    format(0, &[0x85, 0x19], "a JFFS2 file system", FILE_SYSTEM),
    format(82, b"FAT32   ", "a FAT file system", FILE_SYSTEM),
    format(54, b"FAT1", "a FAT file system", FILE_SYSTEM),
    format(3, b"NTFS    ", "an NTFS file system", FILE_SYSTEM),
    format(512, b"EFI PART", "a disk image with a GPT", DISK),
    format(0, b"QFI\xfb", "a QEMU disk image (qcow2)", DISK),
    format(0, b"KDMV", "a VMware disk image", DISK),
    format(0, b"conectix", "a VHD disk image", DISK),
    format(0, b"vhdxfile", "a VHDX disk image", DISK),
    format(
        0,
        &[0x04, 0x22, 0x4d, 0x18],
        "an lz4 frame in the format that Linux does not know",
        "pack it with lz4 -l: Linux unpacks only the legacy format",
    ),
    format(0, b"070701", "a newc cpio archive", "put it on a multiple of four bytes"),
    format(0, b"070702", "a newc cpio archive", "put it on a multiple of four bytes"),
    format(0, b"070707", "a cpio archive in the old portable format", REPACK),
    format(0, &[0xc7, 0x71], "a cpio archive in the old binary format", REPACK),
    format(0, &[0x71, 0xc7], "a cpio archive in the old binary format", REPACK),
    format(0, b"PK\x03\x04", "a zip archive", ARCHIVE),
    format(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", ARCHIVE),
    format(0, b"Rar!", "a RAR archive", ARCHIVE),
    format(0, &[0x1f, 0x9d], "a file packed with compress (.Z)", REPACK),
    format(0, b"LZIP", "a file packed with lzip", REPACK),
    format(0, b"\x7fELF", "an ELF file (a program, a library or a vmlinux kernel)", OTHER),
    format(0, b"MZ", "an EFI or Windows program", "give a unified kernel image, or the initrd"),
    format(0, b"#!", "a script", OTHER),
    format(0, b"%PDF", "a PDF document", OTHER),
    format(0, b"\x89PNG", "a PNG picture", OTHER),
    format(0, b"<!DOCTYPE", "a web page", "the download was probably an error page: fetch the image again"),
    format(0, b"<html", "a web page", "the download was probably an error page: fetch the image again"),
    format(0, b"<?xml", "an XML document", OTHER),
    format(1024, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS file system", FILE_SYSTEM),
    format(0, &[0x31, 0x18, 0x10, 0x06], "a UBIFS file system", FILE_SYSTEM),
    format(0, b"LUKS\xba\xbe", "an encrypted disk or partition (LUKS)", LOCKED),
    format(536, b"LVM2 001", "an LVM physical volume", DISK),
    format(4086, b"SWAPSPACE2", "swap space", OTHER),
    format(0, b"<<< ", "a VirtualBox disk image (VDI)", DISK),
    format(0, &[0x3a, 0xff, 0x26, 0xed], "an Android sparse image", "unpack it with simg2img and mount it"),
    format(0, b"MSWIM\0", "a Windows image (WIM)", OTHER),
    format(
        0,
        b"HDR0",
        "a firmware image of a router (TRX)",
        "unpack it with binwalk and give the initrd inside",
    ),
    format(0, b"xar!", "a xar archive", ARCHIVE),
    format(0, &[0xff, 0xd8, 0xff], "a JPEG picture", OTHER),
    format(
        0,
        b"version https://git-lfs.github.com/",
        "a pointer to a file in Git LFS",
        "fetch the file itself with git lfs pull",
    ),
    format(0, b"-----BEGIN ", "a certificate, a key or a signature", OTHER),
    format(510, &[0x55, 0xaa], "a disk image with a partition table", DISK),
];

/// So many bytes at the start decide.
const WINDOW: usize = 68 << 10;

fn find(start: &[u8]) -> Option<&'static Format> {
    let has = |(offset, magic): (usize, &[u8])| start.get(offset..).is_some_and(|at| at.starts_with(magic));
    FORMATS.iter().find(|format| has(format.magic))
}

/// Whether the magic bytes of a format are at `start`.
pub(crate) fn is_known(start: &[u8]) -> bool {
    find(start).is_some()
}

/// What the file with these first bytes is: a name with an article, and what to do.
fn of(start: &[u8]) -> (String, &'static str) {
    if start.is_empty() {
        return ("an empty file".into(), OTHER);
    }
    if let Some(found) = find(start) {
        return (found.name.into(), found.next);
    }
    if let Some(encoding) = Encoding::by_signature(start) {
        return (format!("{encoding}-compressed data"), "unpack the outer compression");
    }
    let head = &start[..start.len().min(512)];
    let text = std::str::from_utf8(head).map_or_else(|e| e.valid_up_to() + 4 > head.len(), |_| true);
    if text && head.iter().all(|&b| b >= b' ' || matches!(b, b'\n' | b'\r' | b'\t')) {
        return ("text".into(), OTHER);
    }
    if head.iter().all(|&b| b == 0) {
        return ("zeros".into(), OTHER);
    }
    ("data of an unknown kind".into(), OTHER)
}

/// The name, with an article, of the data that begins with `start`.
#[must_use]
pub fn name(start: &[u8]) -> String {
    of(start).0
}

/// What to do with the data that begins with `start`.
pub(crate) fn next_step(start: &[u8]) -> &'static str {
    of(start).1
}

/// The first bytes at `at` of `source`, as many as [`name`] looks at; fewer at its end or if they cannot be read.
pub(crate) fn window(source: &dyn ReadAt, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; source.len().saturating_sub(at).min(WINDOW as u64) as usize];
    if source.read_exact_at(&mut bytes, at).is_err() {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magics_are_found_and_lie_in_the_window() {
        for format in &FORMATS {
            let (offset, magic) = format.magic;
            assert!(offset + magic.len() <= WINDOW, "{}", format.name);
            let mut bytes = vec![0xfe; offset];
            bytes.extend(magic);
            let (found, next) = of(&bytes);
            // A longer magic may contain a shorter one.
            assert!(FORMATS.iter().any(|f| f.name == found) && !next.is_empty(), "{}", format.name);
        }
        assert_eq!(name(b""), "an empty file");
        assert_eq!(name("Wörter\n".as_bytes()), "text");
        assert_eq!(name(&[0x1f, 0x8b, 8, 0]), "gzip-compressed data");
        assert_eq!(name(&[7, 1, 2]), "data of an unknown kind");
    }
}
