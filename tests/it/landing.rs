//! How appended files land: one table for Linux itself, for both boot initramfs as they boot, and for the model in verify,
//! diff and inspect.
//!
//! Each row has a directory of its own in one runtime, so that one boot shows all rows.

use std::collections::BTreeMap;
use std::path::Path;

use btrsquash::codec::Encoding;
use btrsquash::{image, initrd};

use crate::support::newc::{Entry, archive, device, dir, entry, file, packed, symlink, trailer};
use crate::support::rootfs::{by_the_kernel, lister, manifest, read};
use crate::support::{btrsquash, have, installer, kernel_package, run};

/// Entries of the runtime, appended archives, and the entries of an archive that unpacks to the right result.
struct Row {
    what: &'static str,
    runtime: Vec<Entry>,
    appended: Vec<Vec<Entry>>,
    right: Vec<Entry>,
    /// What Linux makes of it, if that is something else on purpose.
    linux: Option<Vec<Entry>>,
}

fn row(what: &'static str, runtime: Vec<Entry>, appended: Vec<Entry>, right: Vec<Entry>) -> Row {
    Row { what, runtime, appended: vec![appended], right, linux: None }
}

fn fifo(name: &str) -> Entry {
    entry(name, 0o010_644)
}

fn socket(name: &str) -> Entry {
    entry(name, 0o140_755)
}

/// Something of the runtime, and of an appended archive.
fn old(entry: Entry) -> Entry {
    entry.time(1_000)
}
fn new(entry: Entry) -> Entry {
    entry.time(2_000)
}

fn files() -> Vec<Row> {
    let deep: Vec<Entry> = (1..=10).map(|depth| new(dir(vec!["d"; depth].join("/")))).collect();
    let large = vec![b'x'; 100_000];
    vec![
        row("a new file", vec![], vec![new(file("a", "new"))], vec![new(file("a", "new"))]),
        row(
            "a file is written over",
            vec![old(file("a", "old and longer"))],
            vec![new(file("a", "new")).mode(0o600).owner(7, 8)],
            vec![new(file("a", "new")).mode(0o600).owner(7, 8)],
        ),
        row(
            "all names of a file see what is written over it",
            vec![old(file("a", "")).link(1, 2), old(file("b", "old")).link(1, 2)],
            vec![new(file("b", "new"))],
            vec![new(file("a", "")).link(1, 2), new(file("b", "new")).link(1, 2)],
        ),
        row(
            "new hard links",
            vec![],
            vec![new(file("a", "")).link(1, 2), new(file("b", "both")).link(1, 2)],
            vec![new(file("a", "")).link(1, 2), new(file("b", "both")).link(1, 2)],
        ),
        row(
            "hard links of which one name is taken",
            vec![old(file("a", "old"))],
            vec![new(file("a", "")).link(1, 2), new(file("b", "both")).link(1, 2)],
            vec![new(file("a", "")).link(1, 2), new(file("b", "both")).link(1, 2)],
        ),
        row(
            "hard links of which one name is a symlink",
            vec![old(symlink("b", "nowhere"))],
            vec![
                new(file("a", "")).link(1, 3),
                new(file("b", "")).link(1, 3),
                new(file("c", "all")).link(1, 3),
            ],
            vec![
                new(file("a", "")).link(1, 3),
                new(file("b", "")).link(1, 3),
                new(file("c", "all")).link(1, 3),
            ],
        ),
        row("an empty file", vec![], vec![new(file("a", ""))], vec![new(file("a", ""))]),
        row(
            "a file is emptied",
            vec![old(file("a", "old"))],
            vec![new(file("a", ""))],
            vec![new(file("a", ""))],
        ),
        row(
            "a large file",
            vec![old(file("a", "x"))],
            vec![new(file("a", &large))],
            vec![new(file("a", &large))],
        ),
        row(
            "setuid, and owners beyond 16 bits",
            vec![],
            vec![new(file("a", "x")).mode(0o4755).owner(70_000, 80_000)],
            vec![new(file("a", "x")).mode(0o4755).owner(70_000, 80_000)],
        ),
        row(
            "the time 0",
            vec![old(file("a", "x"))],
            vec![file("a", "y").time(0)],
            vec![file("a", "y").time(0)],
        ),
        row(
            "a name that is not UTF-8",
            vec![],
            vec![new(file(b"\xff\xfe", "x"))],
            vec![new(file(b"\xff\xfe", "x"))],
        ),
        row("a name with ./", vec![], vec![new(file("./a", "x"))], vec![new(file("a", "x"))]),
        row("directories ten levels deep", vec![], deep.clone(), deep),
        row("a file without its directory is skipped", vec![], vec![new(file("no/where", "x"))], vec![]),
        Row {
            appended: vec![vec![new(file("a", "first"))], vec![file("a", "second").time(3_000)]],
            ..row("the last of two archives counts", vec![], vec![], vec![file("a", "second").time(3_000)])
        },
        Row {
            appended: vec![
                vec![new(file("a", "one")).link(1, 2), trailer()],
                vec![new(file("b", "two")).link(1, 2), trailer()],
            ],
            ..row(
                "hard links end with their archive",
                vec![],
                vec![],
                vec![new(file("a", "one")), new(file("b", "two"))],
            )
        },
    ]
}

fn directories() -> Vec<Row> {
    let full = || vec![old(dir("a")), old(file("a/kept", "kept"))];
    vec![
        row(
            "a new directory has the time of its entry",
            vec![],
            vec![new(dir("d")).mode(0o750).owner(3, 4), file("d/a", "x").time(2_500)],
            vec![new(dir("d")).mode(0o750).owner(3, 4), file("d/a", "x").time(2_500)],
        ),
        row(
            "a directory that is there keeps its time and gets mode and owner",
            vec![old(dir("d"))],
            vec![new(dir("d")).mode(0o1777).owner(5, 6)],
            vec![old(dir("d")).mode(0o1777).owner(5, 6)],
        ),
        row(
            "a file in a directory that is there leaves its time",
            vec![old(dir("d")).mode(0o711)],
            vec![new(file("d/a", "x"))],
            vec![old(dir("d")).mode(0o711), new(file("d/a", "x"))],
        ),
        row(
            "a replaced file in a directory that is there leaves its time",
            vec![old(dir("d")), old(symlink("d/a", "x"))],
            vec![new(dir("d")), new(file("d/a", "x"))],
            vec![old(dir("d")), new(file("d/a", "x"))],
        ),
        // dir_utime of init/initramfs.c sets the times of directories in the end, by path.
        row(
            "a file replaces an empty directory",
            vec![old(dir("a"))],
            vec![new(file("a", "x"))],
            vec![old(file("a", "x"))],
        ),
        row(
            "a symlink replaces an empty directory",
            vec![old(dir("a"))],
            vec![new(symlink("a", "x"))],
            vec![old(symlink("a", "x"))],
        ),
        row(
            "a file does not replace a directory that is not empty",
            full(),
            vec![new(file("a", "x"))],
            full(),
        ),
        row(
            "a symlink does not, but changes its owner",
            full(),
            vec![new(symlink("a", "x")).owner(5, 6)],
            vec![old(dir("a")).owner(5, 6), old(file("a/kept", "kept"))],
        ),
        row(
            "a FIFO does not, but changes owner and mode",
            full(),
            vec![new(fifo("a")).owner(5, 6).mode(0o640)],
            vec![old(dir("a")).owner(5, 6).mode(0o640), old(file("a/kept", "kept"))],
        ),
        row(
            "a directory replaces a file",
            vec![old(file("a", "x"))],
            vec![new(dir("a")), new(file("a/b", "y"))],
            vec![new(dir("a")), new(file("a/b", "y"))],
        ),
        row("a directory replaces a FIFO", vec![old(fifo("a"))], vec![new(dir("a"))], vec![new(dir("a"))]),
        row(
            "a directory replaces a symlink that leads nowhere",
            vec![old(symlink("a", "nowhere"))],
            vec![new(dir("a")), new(file("a/b", "y"))],
            vec![new(dir("a")), new(file("a/b", "y"))],
        ),
        Row {
            linux: Some(vec![old(dir("real")), new(dir("a")), new(file("a/b", "y"))]),
            ..row(
                "a symlink to a directory stays",
                vec![old(dir("real")), old(symlink("a", "real"))],
                vec![new(dir("a")), new(file("a/b", "y"))],
                vec![old(dir("real")), old(symlink("a", "real")), new(file("real/b", "y"))],
            )
        },
        row(
            "a file through a symlink to a directory",
            vec![old(dir("real")), old(symlink("a", "real"))],
            vec![new(file("a/b", "y"))],
            vec![old(dir("real")), old(symlink("a", "real")), new(file("real/b", "y"))],
        ),
        row(
            "a file through a symlink with ..",
            vec![old(dir("one")), old(dir("two")), old(symlink("one/up", "../two"))],
            vec![new(file("one/up/b", "y"))],
            vec![old(dir("one")), old(dir("two")), old(symlink("one/up", "../two")), new(file("two/b", "y"))],
        ),
        row(
            "a new directory through a symlink to a directory",
            vec![old(dir("real")), old(symlink("a", "real"))],
            vec![new(dir("a/d")), new(file("a/d/b", "y"))],
            vec![old(dir("real")), old(symlink("a", "real")), new(dir("real/d")), new(file("real/d/b", "y"))],
        ),
    ]
}

fn links_and_special_files() -> Vec<Row> {
    let null = |name: &str| device(name, 0o020_666, 1, 3);
    vec![
        row(
            "a new symlink",
            vec![],
            vec![new(symlink("a", "x")).owner(5, 6)],
            vec![new(symlink("a", "x")).owner(5, 6)],
        ),
        row(
            "a symlink replaces a file",
            vec![old(file("a", "x"))],
            vec![new(symlink("a", "y"))],
            vec![new(symlink("a", "y"))],
        ),
        row(
            "a file replaces a symlink",
            vec![old(symlink("a", "y"))],
            vec![new(file("a", "x"))],
            vec![new(file("a", "x"))],
        ),
        row(
            "a file does not go through a symlink to a file",
            vec![old(file("b", "old")), old(symlink("a", "b"))],
            vec![new(file("a", "new"))],
            vec![old(file("b", "old")), new(file("a", "new"))],
        ),
        row(
            "a symlink with another target",
            vec![old(symlink("a", "x"))],
            vec![new(symlink("a", "y"))],
            vec![new(symlink("a", "y"))],
        ),
        row(
            "the same symlink with another owner",
            vec![old(symlink("a", "x"))],
            vec![old(symlink("a", "x")).owner(5, 6)],
            vec![old(symlink("a", "x")).owner(5, 6)],
        ),
        row(
            "the same symlink with another time",
            vec![old(symlink("a", "x"))],
            vec![new(symlink("a", "x"))],
            vec![new(symlink("a", "x"))],
        ),
        row("a new FIFO", vec![], vec![new(fifo("a"))], vec![new(fifo("a"))]),
        row("a FIFO replaces a file", vec![old(file("a", "x"))], vec![new(fifo("a"))], vec![new(fifo("a"))]),
        row(
            "a file replaces a FIFO",
            vec![old(fifo("a"))],
            vec![new(file("a", "x"))],
            vec![new(file("a", "x"))],
        ),
        row(
            "a FIFO that is there gets attributes and time",
            vec![old(fifo("a"))],
            vec![new(fifo("a")).mode(0o600).owner(5, 6)],
            vec![new(fifo("a")).mode(0o600).owner(5, 6)],
        ),
        row("a socket", vec![old(file("a", "x"))], vec![new(socket("a"))], vec![new(socket("a"))]),
        row("a new character device", vec![], vec![new(null("a"))], vec![new(null("a"))]),
        row(
            "a new block device",
            vec![],
            vec![new(device("a", 0o060_660, 259, 70_000))],
            vec![new(device("a", 0o060_660, 259, 70_000))],
        ),
        row(
            "a block device replaces a character device",
            vec![old(null("a"))],
            vec![new(device("a", 0o060_660, 8, 1))],
            vec![new(device("a", 0o060_660, 8, 1))],
        ),
        row(
            "a device of the same type keeps its number",
            vec![old(null("a"))],
            vec![new(device("a", 0o020_600, 5, 1)).owner(5, 6)],
            vec![new(null("a")).mode(0o600).owner(5, 6)],
        ),
    ]
}

fn rows() -> Vec<Row> {
    let mut rows = files();
    rows.extend(directories());
    rows.extend(links_and_special_files());
    assert!(rows.len() >= 40, "{} rows", rows.len());
    rows
}

/// The directory of a row.
fn home(number: usize) -> String {
    format!("row{number:02}")
}

/// Entries of row `number` where they belong: below its directory, with inode numbers of their own.
fn placed(number: usize, entries: &[Entry]) -> Vec<Entry> {
    let place = |entry: &Entry| {
        let mut entry = entry.clone();
        if entry.name != b"TRAILER!!!\0" {
            entry.name = [home(number).as_bytes(), b"/", &entry.name].concat();
            entry.ino += u32::try_from(number).unwrap() * 100;
        }
        entry
    };
    entries.iter().map(place).collect()
}

/// Lines of the rows, without those of the system around them.
fn of_rows(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().filter(|line| line.starts_with("/row")).collect()
}

/// An image whose init lists what it finds, with `entries` in it.
fn monolith(entries: &[Entry]) -> Vec<u8> {
    packed(&monolith_archive(entries), Encoding::Zstd)
}

fn monolith_archive(entries: &[Entry]) -> Vec<u8> {
    let mut all = vec![file("init", lister()).mode(0o755)];
    all.extend(entries.iter().cloned());
    all.push(trailer());
    archive(&all)
}

/// The right lines, and which of them belong to what: by the entries that `pick` takes of a row.
fn right(rows: &[Row], pick: fn(&Row) -> &[Entry]) -> Vec<String> {
    let mut entries = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        entries.push(dir(home(number)).time(900));
        entries.extend(placed(number, pick(row)));
    }
    entries.push(trailer());
    of_rows(manifest(&read(&archive(&entries)).unwrap().tree))
}

/// Fails with the names of the rows that differ.
fn assert_rows(rows: &[Row], who: &str, found: &[String], right: &[String]) {
    let mut wrong: BTreeMap<usize, String> = BTreeMap::new();
    let mut note = |line: &String, mark: char| {
        let number: usize = line[4..6].parse().unwrap();
        wrong.entry(number).or_default().push_str(&format!("  {mark} {line}\n"));
    };
    right.iter().filter(|line| !found.contains(line)).for_each(|line| note(line, '-'));
    found.iter().filter(|line| !right.contains(line)).for_each(|line| note(line, '+'));
    let text: String =
        wrong.iter().map(|(number, lines)| format!("{number}: {}\n{lines}", rows[*number].what)).collect();
    assert!(wrong.is_empty(), "{who}: wrong rows (- right, + found)\n{text}");
    assert_eq!(found.len(), right.len(), "{who}");
}

/// Appends archives to an image, each padded as Linux needs it.
fn appended(image: &[u8], rows: &[Row]) -> Vec<u8> {
    let mut all = image.to_vec();
    for round in 0..2 {
        let entries: Vec<Entry> = rows
            .iter()
            .enumerate()
            .flat_map(|(number, row)| {
                let list = row.appended.get(round).map_or(&[][..], Vec::as_slice);
                placed(number, list).into_iter().filter(|entry| entry.name != b"TRAILER!!!\0")
            })
            .chain([trailer()])
            .collect();
        all.resize(all.len().next_multiple_of(4), 0);
        all.extend(archive(&entries));
    }
    all
}

#[test]
fn appended_files_land_alike_everywhere() {
    let (Some((_, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !have("qemu-system-x86_64") || !have("rustc") {
        return;
    }
    let rows = rows();
    let mut entries = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        entries.push(dir(home(number)).time(900));
        entries.extend(placed(number, &row.runtime));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let original = monolith(&entries);
    std::fs::write(path("old.img"), &original).unwrap();

    let for_linux = right(&rows, |row| row.linux.as_ref().unwrap_or(&row.right));
    assert_rows(&rows, "Linux", &of_rows(by_the_kernel(&appended(&original, &rows), &kernel)), &for_linux);

    let expected = right(&rows, |row| &row.right);
    let mut makers = vec!["built-in"];
    if have("dracut") {
        makers.push("dracut");
    }
    for maker in makers {
        let made = path(&format!("{maker}.img"));
        let mut command = btrsquash();
        command.arg("convert").arg(path("old.img")).args([
            "--assume-monolith",
            "--quiet",
            "--compression",
            "lz4",
        ]);
        run(command.args(["--front-end", maker, "--modules"]).arg(&package).arg("-o").arg(&made));
        let both = appended(&std::fs::read(&made).unwrap(), &rows);
        let file = path(&format!("{maker}-appended.img"));
        std::fs::write(&file, &both).unwrap();
        assert_rows(&rows, &format!("the model of {maker}"), &of_rows(model(&file)), &expected);
        assert_rows(&rows, maker, &of_rows(by_the_kernel(&both, &kernel)), &expected);
    }
}

/// A kernel without `CONFIG_INITRAMFS_PRESERVE_MTIME`: what it unpacks has the time of the boot. Linux itself gives that time
/// to all; in a converted image what was not appended keeps its own.
#[test]
#[ignore = "needs a kernel that tests/kernel-without-mtime builds"]
fn a_kernel_that_keeps_no_times_gives_its_own_to_what_is_appended() {
    let made = std::env::var_os("BTRSQUASH_KERNEL_WITHOUT_MTIME")
        .expect("names what tests/kernel-without-mtime made");
    let made = Path::new(&made);
    let kernel = made.join("vmlinuz");
    let rows = rows();
    let mut entries = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        entries.push(dir(home(number)).time(900));
        entries.extend(placed(number, &row.runtime));
    }
    let temporary = tempfile::tempdir().unwrap();
    let original = packed(&monolith_archive(&entries), Encoding::Gzip);
    let old = temporary.path().join("old.img");
    std::fs::write(&old, &original).unwrap();

    let linux = of_rows(by_the_kernel(&appended(&original, &rows), &kernel));
    let all = right(&rows, |row| row.linux.as_ref().unwrap_or(&row.right));
    assert_rows(&rows, "Linux", &at_boot(&linux, |time| time > 1 << 20), &at_boot(&all, |_| true));

    let new = temporary.path().join("new.img");
    let mut command = btrsquash();
    command.arg("convert").arg(&old).args([
        "--assume-monolith",
        "--quiet",
        "--front-end",
        "built-in",
        "--kernel",
    ]);
    run(command.arg(&kernel).arg("--modules").arg(made).arg("-o").arg(&new));
    let both = appended(&std::fs::read(&new).unwrap(), &rows);
    let found = at_boot(&of_rows(by_the_kernel(&both, &kernel)), |time| time > 1 << 20);
    let mut expected = at_boot(&right(&rows, |row| &row.right), |time| time == 0 || time >= 2_000);
    // A symlink like that of the runtime stays, since its time says nothing here; one that differs is made anew.
    for (what, is, becomes) in [
        ("the same symlink with another owner", " 1000 ", " boot "),
        ("the same symlink with another time", " boot ", " 1000 "),
    ] {
        let start = format!("/{}/", home(rows.iter().position(|row| row.what == what).unwrap()));
        let lines = expected.iter_mut().filter(|line| line.starts_with(&start));
        lines.for_each(|line| *line = line.replace(is, becomes));
    }
    assert_rows(&rows, "built-in", &on_overlayfs(&rows, &found), &on_overlayfs(&rows, &expected));
}

/// The lines without what overlayfs shows otherwise: inode numbers of its two layers overlap, so that the first path of an
/// inode says nothing; a directory of the runtime in which something appeared has the time of the boot; and of several names
/// of one file, only the one that is written to sees what is written (overlayfs without `index=on`).
fn on_overlayfs(rows: &[Row], lines: &[String]) -> Vec<String> {
    let linked =
        |line: &str| rows[line[4..6].parse::<usize>().unwrap()].runtime.iter().any(|entry| entry.nlink > 1);
    let line = |line: &String| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.pop();
        if words[1].starts_with('4') && words[1].len() == 5 {
            words.pop();
        }
        words.join(" ")
    };
    lines.iter().filter(|line| !linked(line)).map(line).collect()
}

/// The lines with "boot" for the times that are those of the boot.
fn at_boot(lines: &[String], is_boot: fn(i64) -> bool) -> Vec<String> {
    let line = |line: &String| {
        let mut words: Vec<&str> = line.split(' ').collect();
        let time = words.len() - 2;
        if is_boot(words[time].parse().unwrap()) {
            words[time] = "boot";
        }
        words.join(" ")
    };
    lines.iter().map(line).collect()
}

/// What verify, diff and inspect find in an image.
fn model(file: &Path) -> Vec<String> {
    let opened = image::open(file, &initrd::Limits::default(), &|_| ()).unwrap();
    manifest(&opened.system)
}
