//! The rootfs of a booted kernel is the oracle of the reader.

use btrsquash::codec::Encoding;

use super::rules::{early, tricky};
use crate::support::newc::*;
use crate::support::rootfs::{assert_same_lines, by_the_kernel, lister, manifest, read};
use crate::support::{have, installer};

#[test]
fn linux_has_the_rootfs_that_we_read() {
    let Some((_, kernel)) = installer("text") else { return };
    if !have("qemu-system-x86_64") || !have("rustc") {
        return;
    }
    let parts = tricky();
    let mut image = early();
    let pad = |image: &mut Vec<u8>, count: usize| image.resize(image.len() + count, 0);
    // Plain behind plain, without a trailer.
    image.extend(archive(&parts[0]));
    pad(&mut image, 512);
    image.extend(packed(&archive(&parts[1]), Encoding::Gzip));
    // Compressed archives start anywhere.
    pad(&mut image, 1);
    image.extend(packed(&archive(&parts[2]), Encoding::Xz));
    image.extend(packed(&archive(&parts[3]), Encoding::Zstd));
    // An archive in the middle that looks like an early one is not one: a compressed one came before.
    let aligned = image.len().next_multiple_of(4);
    image.resize(aligned, 0);
    image.extend(archive(&[
        dir("kernel/firmware"),
        dir("kernel/firmware/acpi"),
        file("kernel/firmware/acpi/x.aml", "x"),
        trailer(),
    ]));
    for (number, encoding) in Encoding::ALL.into_iter().enumerate() {
        let dirname = format!("by-{encoding}");
        // Larger than any decompressor's buffer.
        let bytes = archive(&[
            dir(&dirname),
            file(format!("{dirname}/a"), patterned(100_003 * (number + 1), number as u8)),
            Entry { body: vec![1; 70_000], ..device(format!("{dirname}/skipped"), 0o020_600, 1, 3) },
            file(format!("{dirname}/b"), "b").link(7, 2),
            file(format!("{dirname}/c"), "").link(7, 2),
            trailer(),
        ]);
        if encoding == Encoding::Plain {
            let aligned = image.len().next_multiple_of(4);
            image.resize(aligned, 0);
        }
        image.extend(packed(&bytes, encoding));
        // The kernel takes what follows lz4 for the next chunk, unless it is zero.
        pad(&mut image, if encoding == Encoding::Lz4 { 5 } else { 0 });
    }
    // Frames of lz4 in a row are one archive, members of gzip are several.
    let bytes = archive(&[dir("frames"), file("frames/a", patterned(300_000, 3)), trailer()]);
    for half in bytes.chunks(100_000) {
        image.extend(packed(half, Encoding::Lz4));
    }
    pad(&mut image, 8);
    image.extend(packed(&archive(&[file("frames/b", "b"), trailer()]), Encoding::Gzip));
    image.extend(packed(&[], Encoding::Gzip));
    image.extend(packed(&[0; 100], Encoding::Gzip));
    image.extend(packed(&archive(&[file("frames/c", "c"), trailer()]), Encoding::Gzip));
    image.extend(packed(&archive(&[file("init", lister()).mode(0o755), trailer()]), Encoding::Zstd));
    pad(&mut image, 3);

    let ours = read(&image).unwrap();
    assert!(ours.segments[0].early && ours.segments.iter().filter(|s| s.early).count() == 1);
    assert_same_lines(&by_the_kernel(&image, &kernel), &manifest(&ours.tree));
}
