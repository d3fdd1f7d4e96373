//! What Linux would not unpack is an error that says where and why; hostile archives cost bounded time and memory.

use std::path::Path;

use btrsquash::codec::Encoding;
use btrsquash::error::Kind;
use btrsquash::initrd::{self, Limits};

use crate::support::newc::*;
use crate::support::rootfs::read;
use crate::support::{have, sh};

#[test]
fn what_linux_refuses_is_refused_with_its_place() {
    let good = archive(&[dir("a"), file("a/b", "content"), trailer()]);
    let fails = |image: &[u8], words: &[&str]| {
        let error = read(image).unwrap_err();
        assert_eq!(error.kind, Kind::Input, "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)) && text.starts_with("image, "), "{text}");
    };
    let with = |more: &[u8]| [&good[..], more].concat();
    fails(b"", &["nothing"]);
    fails(&[0; 100], &["nothing"]);
    fails(&with(b"junk"), &["segment 2", &format!("byte {}", good.len()), "magic"]);
    fails(&with(b"\0\0\0junk"), &["segment 1", &format!("byte {}", good.len() + 3), "multiple of four"]);
    fails(&with(b"070707"), &["segment 2"]);
    fails(b"only text", &["segment 1, byte 0: text", "invalid magic at start of compressed archive"]);
    fails(&good[..good.len() - 130], &["segment 1", "more bytes of a/b"]);
    let gzip = packed(&good, Encoding::Gzip);
    fails(&[&gzip[..], b"\0", &good].concat(), &["segment 2", &format!("byte {}", gzip.len() + 1)]);
    fails(&packed(&with(b"junk"), Encoding::Gzip), &["segment 1", "unpacked byte", "junk within"]);
    fails(&packed(&gzip, Encoding::Xz), &["unpacked byte 0", "gzip-compressed data inside", "no cpio magic"]);
    fails(&packed(&[], Encoding::Zstd), &["segment 1", "empty"]);
    for encoding in Encoding::ALL.into_iter().skip(1) {
        let whole = packed(&good, encoding);
        for cut in [whole.len() / 2, whole.len() - 1] {
            // lz4 has no end: a frame cut between chunks is whole.
            fails(&whole[..cut], &["segment 1"]);
        }
    }
    let unterminated = Entry { name: b"x".to_vec(), ..file("", "y") };
    fails(&archive(&[unterminated]), &["does not end in NUL", "byte 110", "malformed archive"]);
    let summed = |sum, body: &str| Entry { magic: "070702", checksum: sum, ..file("x", body) };
    fails(&archive(&[summed(1, "y")]), &["is 00000079: expected 00000001"]);
    fails(&archive(&[summed(1, "")]), &["checksum of x is 00000000"]);
    fails(
        &archive(&[Entry { magic: "070707", ..file("x", "") }]),
        &["old portable", "newc", "incorrect cpio method used"],
    );
    let mut hexless = good.clone();
    hexless[20] = b'g';
    fails(&hexless, &["byte 14", "hexadecimal"]);
    if have("xz") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cpio"), &good).unwrap();
        for (check, name) in [("crc64", "CRC64"), ("sha256", "SHA-256")] {
            sh(dir.path(), &format!("xz --check={check} <cpio >xz"), &[]);
            fails(&std::fs::read(dir.path().join("xz")).unwrap(), &[name, "--check=crc32"]);
        }
        sh(dir.path(), "xz --check=none <cpio >xz", &[]);
        assert!(read(&std::fs::read(dir.path().join("xz")).unwrap()).is_ok());
    }
}

#[test]
fn padding_is_wanted_where_linux_wants_it() {
    let cut = |entries: &[Entry], bytes: usize| {
        let mut out = archive(entries);
        assert!(out.drain(out.len() - bytes..).all(|byte| byte == 0));
        out
    };
    let second = archive(&[file("second", "2"), trailer()]);
    let body = cut(&[dir("a"), file("one", "x")], 3);
    let end = cut(&[dir("a"), file("one", "x"), trailer()], 3);
    let name = cut(&[file("one", "x"), dir("last")], 1);
    for whole in [&body, &end] {
        // Plain archives may end as they like, compressed ones only where nothing follows.
        let initrd = read(whole).unwrap();
        assert!(initrd.tree.get("one").is_some() && initrd.notes.is_empty());
        let packed = packed(whole, Encoding::Gzip);
        for zeros in [0, 7] {
            let initrd = read(&[&packed[..], &vec![0; zeros]].concat()).unwrap();
            assert!(initrd.tree.get("one").is_some());
            assert!(initrd.notes.iter().any(|note| note.contains("junk at the end")), "{:?}", initrd.notes);
            let mut more = packed.clone();
            more.resize(more.len().next_multiple_of(4) + zeros / 4 * 4, 0);
            more.extend(&second);
            let error = read(&more).unwrap_err().to_string();
            let place = format!("image, segment 1, unpacked byte {}: ", whole.len());
            assert!(error.starts_with(&place) && error.contains("junk at the end"), "{error}");
        }
    }
    for image in [name.clone(), packed(&name, Encoding::Zstd)] {
        let error = read(&image).unwrap_err().to_string();
        assert!(error.contains(&format!("byte {}: ", name.len())), "{error}");
        assert!(error.contains("the padding of the name last"), "{error}");
    }
    // A first archive starts with a header at once; later ones need not.
    let zeros = packed(&[&[0; 512], &second[..]].concat(), Encoding::Xz);
    let error = read(&zeros).unwrap_err().to_string();
    assert!(error.starts_with("image, segment 1, unpacked byte 0: zeros"), "{error}");
    assert!(error.contains("no cpio magic"), "{error}");
    assert!(read(&packed(&[0; 512], Encoding::Gzip)).is_err());
    for before in [archive(&[dir("a")]), packed(&archive(&[dir("a")]), Encoding::Gzip)] {
        assert!(read(&[before, zeros.clone()].concat()).unwrap().tree.get("second").is_some());
    }
}

#[test]
fn paths_are_no_longer_than_a_program_can_name() {
    let name = "d".repeat(250);
    let mut entries = Vec::new();
    let mut prefix = String::new();
    for link in ["first", "second"] {
        for _ in 0..9 {
            prefix.push_str(&name);
            entries.push(dir(&prefix));
            prefix.push('/');
        }
        entries.push(symlink(link, &prefix));
        prefix = format!("{link}/");
    }
    let error = read(&archive(&entries)).unwrap_err().to_string();
    assert!(error.starts_with("image: ") && error.contains("4095"), "{error}");
    entries.truncate(10);
    assert!(read(&archive(&entries)).is_ok());
}

#[test]
fn links_through_links_take_bounded_time() {
    let deep = "d/".repeat(680);
    let mut entries: Vec<Entry> = (1..=680).map(|depth| dir(&deep[..2 * depth])).collect();
    // Down and up again, 39 times: a short path whose lookup takes 53,000 names.
    let way = format!("{deep}{}", "../".repeat(680));
    entries.push(symlink("0", &way));
    entries.extend((1..39).map(|link| symlink(format!("{link}"), format!("{}/{way}", link - 1))));
    entries.extend((0..20_000).map(|n| file(format!("38/f{n}"), "")));
    let error = read(&archive(&entries)).unwrap_err().to_string();
    assert!(error.starts_with("image, segment 1: ") && error.contains("takes too long"), "{error}");
}

#[test]
fn bombs_are_stopped_wherever_they_hide() {
    let limits = Limits { max_unpacked: 1 << 20, accept_partial: false };
    let big = vec![0; 2 << 20];
    let many: Vec<Entry> = (0..5000).map(|n| file(format!("{n}"), "")).collect();
    let bombs = [
        ("content", archive(&[file("x", &big)])),
        ("a body that is skipped", archive(&[Entry { body: big.clone(), ..device("x", 0o020_600, 1, 3) }])),
        ("padding", [archive(&[file("x", "")]), big.clone()].concat()),
        ("headers", archive(&many)),
        ("names", archive(&vec![file("n".repeat(4000), ""); 300])),
        ("targets", archive(&vec![symlink("x", "t".repeat(4000)); 300])),
    ];
    for (what, bomb) in bombs {
        for encoding in [Encoding::Gzip, Encoding::Xz, Encoding::Zstd] {
            let image = packed(&bomb, encoding);
            let error = initrd::read(&image, Path::new("image"), &limits, &|_| ()).unwrap_err();
            assert!(error.to_string().contains("--max-unpacked"), "{what}: {error}");
        }
    }
}
