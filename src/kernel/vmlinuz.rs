//! What a kernel file says of itself: its release, its configuration, the encodings of initramfs that it can unpack.

use std::collections::BTreeSet;

use super::facts::ImageSize;
use crate::codec;
use crate::codec::Encoding;

/// The largest unpacked kernel that is looked into.
const MAX_KERNEL: u64 = 256 << 20;
/// Starts of compressed data that are tried when no header says where the kernel is.
const MAX_TRIES: usize = 24;

/// The release of the kernel in `file`: from the header of an x86 bzImage (kernel_version of
/// Documentation/arch/x86/boot.rst), else from its `Linux version` banner.
pub(super) fn release(file: &[u8], unpacked: &mut Unpacked) -> Option<String> {
    bzimage_release(file).or_else(|| banner(file)).or_else(|| banner(unpacked.get(file)?))
}

fn bzimage_release(file: &[u8]) -> Option<String> {
    if file.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let at = 0x200 + usize::from(u16::from_le_bytes(file.get(0x20e..0x210)?.try_into().ok()?));
    first_word(file.get(at..)?)
}

fn banner(kernel: &[u8]) -> Option<String> {
    find_all(kernel, b"Linux version ")
        .filter_map(|at| first_word(&kernel[at + b"Linux version ".len()..]))
        // The format string of /proc/version has `%s` here.
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

fn first_word(bytes: &[u8]) -> Option<String> {
    let word = bytes.iter().take(128).take_while(|b| b.is_ascii_graphic()).count();
    let word = std::str::from_utf8(&bytes[..word]).ok()?;
    (word.contains('.')).then(|| word.to_owned())
}

pub(super) fn find_all<'h>(haystack: &'h [u8], needle: &'h [u8]) -> impl Iterator<Item = usize> + 'h {
    let mut from = 0;
    std::iter::from_fn(move || {
        let first = needle.first()?;
        loop {
            let at = from + haystack.get(from..)?.iter().position(|b| b == first)?;
            from = at + 1;
            if haystack[at..].starts_with(needle) {
                return Some(at);
            }
        }
    })
}

/// The unpacked kernel of one file, made when it is first asked for: that takes a second and some 60 MB.
#[derive(Debug, Default)]
pub(super) struct Unpacked(Option<Option<Vec<u8>>>);

impl Unpacked {
    /// The kernel in `file`, without its compression; `None` if none is recognized.
    pub(super) fn get(&mut self, file: &[u8]) -> Option<&[u8]> {
        self.0.get_or_insert_with(|| unpack(file)).as_deref()
    }
}

fn is_kernel(bytes: &[u8]) -> bool {
    banner(bytes).is_some()
}

/// The kernel in `file`, without its compression; `None` if none is recognized.
pub(crate) fn unpack(file: &[u8]) -> Option<Vec<u8>> {
    let payload = bzimage_payload(file).or_else(|| zboot_payload(file));
    if let Some(unpacked) = payload.map(decode).filter(|k| is_kernel(k)) {
        return Some(unpacked);
    }
    if is_kernel(file) {
        return Some(file.to_vec());
    }
    // As scripts/extract-vmlinux of the kernel does: whatever unpacks to something with a banner.
    // The signature of lzma is too short to search for.
    let magics = Encoding::SIGNATURES.into_iter().filter(|(_, encoding)| *encoding != Encoding::Lzma);
    magics
        .map(|(magic, _)| magic)
        .flat_map(|magic| find_all(file, magic).take(MAX_TRIES))
        .map(|at| decode(&file[at..]))
        .find(|kernel| is_kernel(kernel))
}

fn decode(packed: &[u8]) -> Vec<u8> {
    codec::unpack_prefix(packed, MAX_KERNEL)
}

/// payload_offset and payload_length of the x86 boot protocol 2.08.
fn bzimage_payload(file: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    let version = u16::from_le_bytes(file.get(0x206..0x208)?.try_into().ok()?);
    if file.get(0x202..0x206)? != b"HdrS" || version < 0x208 {
        return None;
    }
    // 0 stands for 4, for very old boot loaders.
    let setup_sects = match file[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((setup_sects + 1) * 512).checked_add(word(0x248)?)?;
    file.get(start..start.checked_add(word(0x24c)?)?)
}

/// The EFI zboot header of arm64, riscv and loongarch (drivers/firmware/efi/libstub/zboot-header.S).
fn zboot_payload(file: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    if !file.starts_with(b"MZ") || file.get(4..8)? != b"zimg" {
        return None;
    }
    let start = word(8)?;
    file.get(start..start.checked_add(word(12)?)?)
}

/// The header of arm64's and RISC-V's `Image` (Documentation/arch/arm64/booting.rst, .../riscv/boot-image-header.rst).
fn image_header(file: &[u8]) -> Option<(&'static str, u64, u64)> {
    let machine = match file.get(56..60)? {
        b"ARM\x64" => "aarch64",
        b"RSC\x05" => "riscv64",
        _ => return None,
    };
    let word = |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?));
    Some((machine, word(16)?, word(24)?))
}

/// The machine of a kernel file as `uname -m` names it, if its header says so.
pub(super) fn machine(file: &[u8]) -> Option<&'static str> {
    const XLF_KERNEL_64: u16 = 1;
    if file.get(0x202..0x206) == Some(b"HdrS") {
        // xloadflags of boot protocol 2.12; before, both machines had the same header.
        let word = |at: usize| Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?));
        let wide = word(0x206)? >= 0x20c && word(0x236)? & XLF_KERNEL_64 != 0;
        return if wide { Some("x86_64") } else { (word(0x206)? >= 0x20c).then_some("i686") };
    }
    if let Some((machine, ..)) = image_header(file) {
        return Some(machine);
    }
    // arch/arm/boot/compressed/head.S: the magic number of a zImage.
    if file.get(0x24..0x28) == Some(&0x016f_2818_u32.to_le_bytes()) {
        return Some("arm");
    }
    // arch/s390/boot/head.S.
    if file.get(S390_MARK..S390_MARK + 6) == Some(b"S390EP") {
        return Some("s390x");
    }
    efi_machine(file).or_else(|| crate::elf::machine_of(file))
}

/// Where an s390x kernel is marked as one.
const S390_MARK: usize = 0x10008;
/// So many bytes of a kernel file are enough for [`machine`].
pub(super) const HEAD: u64 = 128 << 10;

/// The machine of an EFI program (PE's IMAGE_FILE_MACHINE), which is what a compressed kernel for arm64, RISC-V or
/// LoongArch is.
fn efi_machine(file: &[u8]) -> Option<&'static str> {
    let at = u32::from_le_bytes(file.get(0x3c..0x40)?.try_into().ok()?) as usize;
    let header = file.get(at..at.checked_add(6)?)?;
    if !file.starts_with(b"MZ") || !header.starts_with(b"PE\0\0") {
        return None;
    }
    match u16::from_le_bytes([header[4], header[5]]) {
        0x8664 => Some("x86_64"),
        0x014c => Some("i686"),
        0xaa64 => Some("aarch64"),
        0x5064 => Some("riscv64"),
        0x6264 => Some("loongarch64"),
        _ => None,
    }
}

/// The page size that the header of an arm64 `Image` names.
pub(super) fn page_size(file: &[u8]) -> Option<u32> {
    match image_header(file)? {
        ("aarch64", _, flags) => match flags >> 1 & 3 {
            1 => Some(4 << 10),
            2 => Some(16 << 10),
            3 => Some(64 << 10),
            _ => None,
        },
        _ => None,
    }
}

/// The memory that a kernel file's header says the kernel takes.
pub(super) fn image_size(file: &[u8]) -> Option<ImageSize> {
    if let Some((_, size, _)) = image_header(file) {
        return (size > 0).then_some(ImageSize::Whole(size));
    }
    // init_size of boot protocol 2.10.
    let version = u16::from_le_bytes(file.get(0x206..0x208)?.try_into().ok()?);
    if file.get(0x202..0x206)? != b"HdrS" || version < 0x20a {
        return None;
    }
    Some(ImageSize::AtMost(u64::from(u32::from_le_bytes(file.get(0x260..0x264)?.try_into().ok()?))))
}

/// The text of an unpacked kernel's own configuration (CONFIG_IKCONFIG): gzip between IKCFG_ST and IKCFG_ED.
pub(super) fn embedded_config(kernel: &[u8]) -> Option<Vec<u8>> {
    find_all(kernel, b"IKCFG_ST\x1f\x8b").find_map(|at| {
        let text = codec::unpack_prefix(&kernel[at + b"IKCFG_ST".len()..], 4 << 20);
        text.windows(7).any(|w| w == b"CONFIG_").then_some(text)
    })
}

/// The encodings that an unpacked kernel has decompressors for: `compressed_formats` of lib/decompress.c has, for
/// every format that the kernel's source knows, its magic, a pointer to its name, and a pointer to its function: NULL
/// where that is not configured. `None` where the table is not found, or holds only zeros because a boot loader or
/// the kernel itself fills it in later.
pub(super) fn decompressors(kernel: &[u8]) -> Option<BTreeSet<Encoding>> {
    // 64-bit and 32-bit layouts: size of an entry, of a pointer.
    [(24, 8), (12, 4)].into_iter().find_map(|(entry, pointer)| table(kernel, entry, pointer))
}

fn table(kernel: &[u8], entry: usize, pointer: usize) -> Option<BTreeSet<Encoding>> {
    let mut first = vec![0; pointer];
    first[..2].copy_from_slice(&Encoding::LINUX_MAGICS[0].0);
    find_all(kernel, &first).find_map(|at| {
        let mut found = BTreeSet::new();
        let mut known = 0;
        for (index, (magic, encoding)) in Encoding::LINUX_MAGICS.iter().enumerate() {
            let Some(row) = kernel.get(at + index * entry..at + (index + 1) * entry) else { break };
            // Older kernels know fewer formats: the table is then shorter, at its end.
            if row[..2] != *magic || row[2..pointer].iter().any(|&b| b != 0) {
                break;
            }
            known += 1;
            if row[2 * pointer..].iter().any(|&b| b != 0) {
                found.insert(*encoding);
            }
        }
        // Fewer than gzip, bzip2 and lzma never were in the table.
        (known >= 4 && !found.is_empty()).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bzimage(version: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[0x1f1] = 1;
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        file[0x300..0x300 + version.len()].copy_from_slice(version);
        file[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend([0; 16]);
        file.extend(payload);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bzimage_names_its_release_and_unpacks() {
        let kernel = [
            b"Linux version %s\0Linux version 6.1.0-50-amd64 (x@y)\0IKCFG_ST".as_slice(),
            &gzip(b"CONFIG_RD_XZ=y\n"),
            b"IKCFG_ED",
        ]
        .concat();
        let file = bzimage(b"6.1.0-50-amd64 (x@y) #1\0", &gzip(&kernel));
        let mut unpacked = Unpacked::default();
        assert_eq!(release(&file, &mut unpacked).as_deref(), Some("6.1.0-50-amd64"));
        assert!(unpacked.0.is_none(), "the header is enough");
        assert_eq!(unpacked.get(&file), Some(kernel.as_slice()));
        assert_eq!(embedded_config(&kernel).as_deref(), Some(b"CONFIG_RD_XZ=y\n".as_slice()));
    }

    #[test]
    fn a_kernel_of_another_machine_is_found_by_its_banner() {
        let kernel = b"code Linux version %s (%s) Linux version 5.10.0-8-arm64 (gcc)\0".to_vec();
        let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
        let block = lz4_flex::block::compress(&kernel);
        lz4.extend((block.len() as u32).to_le_bytes());
        lz4.extend(block);
        for file in [kernel.clone(), gzip(&kernel), [vec![9; 5000], gzip(&kernel), vec![7; 99]].concat(), lz4]
        {
            assert_eq!(release(&file, &mut Unpacked::default()).as_deref(), Some("5.10.0-8-arm64"));
        }
        assert_eq!(release(b"no kernel", &mut Unpacked::default()), None);
    }

    #[test]
    fn the_table_of_decompressors_tells_which_are_configured() {
        let magics = [[0x1f, 0x8b], [0x1f, 0x9e], [0x42, 0x5a], [0x5d, 0], [0xfd, 0x37], [0x89, 0x4c]];
        let mut kernel = vec![1; 100];
        for (index, magic) in magics.iter().enumerate() {
            kernel.extend(magic);
            kernel.extend([0; 6]);
            kernel.extend(0xffff_ffff_8100_0000_u64.to_le_bytes());
            kernel.extend(if index == 3 { 0 } else { 0xffff_ffff_8200_0000_u64 }.to_le_bytes());
        }
        kernel.extend([0; 64]);
        let found = decompressors(&kernel).unwrap();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [Encoding::Gzip, Encoding::Bzip2, Encoding::Xz, Encoding::Lzo]
        );
        assert_eq!(decompressors(&[0; 500]), None);
    }

    #[test]
    fn the_header_tells_the_machine_the_pages_and_the_size() {
        let image = |magic: &[u8], flags: u64| {
            let mut file = vec![0; 64];
            file[16..24].copy_from_slice(&(40_u64 << 20).to_le_bytes());
            file[24..32].copy_from_slice(&flags.to_le_bytes());
            file[56..60].copy_from_slice(magic);
            file
        };
        let arm64 = image(b"ARM\x64", 0b110);
        assert_eq!((machine(&arm64), page_size(&arm64)), (Some("aarch64"), Some(64 << 10)));
        assert_eq!(image_size(&arm64), Some(ImageSize::Whole(40 << 20)));
        let riscv = image(b"RSC\x05", 0);
        assert_eq!((machine(&riscv), page_size(&riscv)), (Some("riscv64"), None));
        let mut x86 = bzimage(b"6.1.0\0", b"");
        assert_eq!(machine(&x86), Some("i686"));
        x86[0x236] = 1;
        assert_eq!(machine(&x86), Some("x86_64"));
        let mut zimage = vec![0; 64];
        zimage[0x24..0x28].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
        assert_eq!(machine(&zimage), Some("arm"));
        let mut s390 = vec![0; S390_MARK];
        s390.extend(b"S390EP");
        assert_eq!(machine(&s390), Some("s390x"));
        assert_eq!(machine(b"no kernel"), None);
    }

    proptest! {
        #[test]
        fn never_panics(at in 0_usize..1100, with in proptest::collection::vec(any::<u8>(), 0..12), cut in 0_usize..1200) {
            let mut file = bzimage(b"6.1.0\0", &gzip(b"Linux version 6.1.0 "));
            for (slot, byte) in file.iter_mut().skip(at).zip(with) {
                *slot = byte;
            }
            file.truncate(cut);
            let mut unpacked = Unpacked::default();
            let _ = release(&file, &mut unpacked);
            let _ = (machine(&file), page_size(&file), image_size(&file));
            if let Some(kernel) = unpacked.get(&file) {
                let _ = (embedded_config(kernel), decompressors(kernel));
            }
        }
    }
}
