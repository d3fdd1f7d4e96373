//! Every compression and every mixture of segments, against the tools that pack and unpack them.

use btrsquash::codec::Encoding;

use super::rules::tricky;
use crate::squashfs::{assert_same, make_tree};
use crate::support::newc::*;
use crate::support::rootfs::{manifest, read, without_built_in};
use crate::support::{have, root, sh};

/// The tools that pack as the kernel can unpack, with what they write.
const PACKERS: [(Encoding, &str, &str); 8] = [
    (Encoding::Plain, "cat", "cat"),
    (Encoding::Gzip, "gzip", "gzip -9"),
    (Encoding::Bzip2, "bzip2", "bzip2"),
    (Encoding::Lzma, "xz", "xz --format=lzma"),
    (Encoding::Xz, "xz", "xz --check=crc32 --block-size=100KiB"),
    (Encoding::Lzo, "lzop", "lzop -9"),
    (Encoding::Lz4, "lz4", "lz4 -l -9"),
    (Encoding::Zstd, "zstd", "zstd -19"),
];

#[test]
fn each_encoding_is_read_as_cpio_reads_it() {
    if !["cpio", "bsdcpio"].into_iter().chain(PACKERS.map(|p| p.1)).all(have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path(), root());
    // GNU cpio and bsdcpio write, bsdcpio reads: it gives links and directories their times, but takes sockets for files.
    let script = r"
        (cd t; find . -not -type s -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet) >gnu.cpio
        (cd t; find . -not -type s -print0 | LC_ALL=C sort -z | bsdcpio -0 -o -H newc --quiet) >bsd.cpio
        (cd t; find . -not -type s -print0 | LC_ALL=C sort -z | cpio -0 -o -H crc --quiet) >crc.cpio
        for archive in gnu bsd crc; do mkdir $archive; (cd $archive; bsdcpio -idm --quiet <../$archive.cpio); touch -r t $archive; done
    ";
    sh(dir.path(), script, &[]);
    let mut one: Option<Vec<String>> = None;
    for name in ["gnu", "bsd", "crc"] {
        for (encoding, _, command) in PACKERS {
            let what = format!("{name}, {command}");
            sh(dir.path(), &format!("{command} <{name}.cpio >packed"), &[]);
            let image = std::fs::read(dir.path().join("packed")).unwrap();
            let mut initrd = read(&image).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(
                initrd.segments.iter().map(|s| (s.encoding, s.early)).collect::<Vec<_>>(),
                [(encoding, false)],
                "{what}"
            );
            // cpio pads a plain archive to a multiple of 512.
            let segment = &initrd.segments[0];
            assert_eq!((segment.offset, segment.size + segment.padding), (0, image.len() as u64), "{what}");
            assert!(initrd.notes.is_empty(), "{what}: {:?}", initrd.notes);
            without_built_in(&mut initrd.tree);
            assert_same(&initrd.tree, &dir.path().join(name), &what);
            let lines = manifest(&initrd.tree);
            assert!(*one.get_or_insert_with(|| lines.clone()) == lines, "{what}");
        }
    }
}

#[test]
fn mixes_of_encodings_with_early_archives_anywhere_give_one_rootfs() {
    // Each part ends with a trailer: links do not cross them, however they are packed.
    let parts: Vec<Vec<u8>> = tricky()
        .into_iter()
        .map(|mut entries| {
            entries.push(trailer());
            archive(&entries)
        })
        .collect();
    let first = archive(&[
        dir("kernel"),
        dir("kernel/x86"),
        dir("kernel/x86/microcode"),
        file("kernel/x86/microcode/AuthenticAMD.bin", patterned(5000, 1)),
        trailer(),
    ]);
    let expected = {
        let mut image = first.clone();
        parts.iter().for_each(|part| image.extend(part));
        manifest(&read(&image).unwrap().tree)
    };
    let mut random = 1_u32;
    for turn in 0..24 {
        let mut image = first.clone();
        for (number, part) in parts.iter().enumerate() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let encoding = match turn {
                0..8 => Encoding::ALL[turn],
                _ => Encoding::ALL[(random >> 24) as usize % 8],
            };
            let padding = if encoding == Encoding::Lz4 { 4..40 } else { 0..40 };
            if encoding == Encoding::Plain {
                image.resize(image.len().next_multiple_of(4), 0);
            }
            image.extend(packed(part, encoding));
            let zeros = padding.start + (random >> 10) as usize % (padding.end - padding.start);
            image.resize(image.len() + zeros, 0);
            if encoding == Encoding::Plain {
                // Behind a plain archive everything has to be aligned, behind a compressed one nothing has.
                image.resize(image.len().next_multiple_of(4), 0);
            }
            // Before, between and after.
            if number != 1 {
                image.resize(image.len().next_multiple_of(512), 0);
                image.extend(&first);
            }
        }
        let initrd = read(&image).unwrap_or_else(|e| panic!("{turn}: {e}"));
        assert!(initrd.segments[0].early);
        assert_eq!(&image[..first.len()], &first[..]);
        assert!(manifest(&initrd.tree) == expected, "{turn}: {:?}", initrd.segments);
        // The kernel looks for early files only before anything compressed.
        let compressed = initrd.segments.iter().position(|s| s.encoding != Encoding::Plain);
        if let Some(compressed) = compressed {
            assert!(initrd.segments[compressed..].iter().all(|s| !s.early), "{turn}");
        }
        let sum: u64 = initrd.segments.iter().map(|s| s.size + s.padding).sum();
        assert_eq!(sum, image.len() as u64, "{turn}");
    }
}

#[test]
fn gzip_is_unpacked_as_linux_unpacks_it() {
    let good = packed(&archive(&[dir("a"), trailer()]), Encoding::Gzip);
    let with = |flags: u8, fields: &[u8]| {
        let mut image = good[..10].to_vec();
        image[3] = flags;
        image.extend(fields);
        image.extend(&good[10..]);
        read(&image)
    };
    assert_eq!(good[3], 0);
    assert!(with(1, b"").unwrap().tree.get("a").is_some());
    assert!(with(8, b"initrd.img\0").unwrap().tree.get("a").is_some());
    for (flags, fields, word) in [
        (16, &b"a comment\0"[..], "comment"),
        (4, b"\x02\0xx", "extra field"),
        (8 | 16, b"name\0comment\0", "comment"),
    ] {
        let error = with(flags, fields).unwrap_err().to_string();
        assert!(error.starts_with("image, segment 1") && error.contains(word), "{error}");
    }
}

#[test]
fn what_we_pack_the_tools_unpack() {
    if !PACKERS.map(|p| p.1).into_iter().all(have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 1, 1000, 262_144, 262_145, 9_000_000] {
        let bytes = patterned(len, 5);
        for (encoding, tool, command) in PACKERS {
            if len == 0 && encoding == Encoding::Lz4 {
                continue; // a magic and nothing else: nothing for the tool
            }
            std::fs::write(dir.path().join("packed"), packed(&bytes, encoding)).unwrap();
            let command = match tool {
                "cat" => "cat".to_owned(),
                "lz4" => "lz4 -dc".to_owned(),
                "xz" => command.split(" --check").next().unwrap().to_owned() + " -dc",
                tool => format!("{tool} -dc"),
            };
            sh(dir.path(), &format!("{command} <packed >unpacked"), &[]);
            assert!(std::fs::read(dir.path().join("unpacked")).unwrap() == bytes, "{len} bytes, {encoding}");
        }
    }
}
