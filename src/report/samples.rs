//! One report of each kind with every field filled, and with names that try to break out.

use super::*;
use crate::compare::{Aspect, Reason};
use crate::ram::{self, Facts};

fn figure(mib: u64) -> Figure {
    Figure::computed(mib << 20)
}

/// A report's figures, those of the model for the graphical installer of Debian 12.
fn ram(facts: Facts, measured: Option<u64>) -> Ram {
    let kernel =
        ram::Kernel { known: true, configured: true, rootfs_options: Some(true), ..ram::Kernel::TYPICAL };
    let mut ram = Ram::from(&facts.estimate(&ram::Machine::new(kernel, 8)));
    ram.measured = measured.map(|mib| Figure::measured(mib << 20));
    for phase in &mut ram.phases {
        // What happens while the kernel unpacks is never measured.
        phase.measured = measured
            .filter(|_| phase.phase != ram::Phase::Unpacked)
            .map(|_| Figure::measured(phase.used.value + (5 << 20)));
    }
    ram
}

const BEFORE: Facts = Facts {
    file: 73_326_225,
    unpacked: 236_224_512,
    inodes: 4_409,
    dictionary: 32 << 10,
    pinned: 236_224_512,
    fetched: 0,
    apart: false,
    copied: 0,
    programs: 30 << 20,
    retained: false,
    packing: None,
};
const AFTER: Facts = Facts {
    file: 54_214_656,
    unpacked: 59_301_888,
    inodes: 29,
    dictionary: 1 << 20,
    pinned: 52_203_520,
    fetched: 0,
    apart: false,
    copied: 0,
    programs: 30 << 20,
    retained: false,
    packing: Some(ram::Packing { compression: crate::codec::Compression::Xz, block: 1 << 20 }),
};

fn directory(name: &str, bytes: u64, files: u64, directories: Vec<Directory>) -> Directory {
    Directory {
        name: name.into(),
        bytes,
        files,
        image_bytes: Some(bytes / 4),
        old_bytes: None,
        old_image_bytes: None,
        directories,
    }
}

/// Directories like those of Debian's graphical installer.
fn directories() -> Directory {
    let mb = 1_000_000;
    directory(
        "/",
        226 * mb,
        3_900,
        vec![
            directory(
                "usr",
                118 * mb,
                2_700,
                vec![
                    directory(
                        "lib",
                        62 * mb,
                        420,
                        vec![
                            directory("x86_64-linux-gnu", 51 * mb, 300, vec![]),
                            directory("debian-installer", 6 * mb, 80, vec![]),
                            directory("<b>&\"quoted\"", 2 * mb, 12, vec![]),
                        ],
                    ),
                    directory(
                        "share",
                        51 * mb,
                        2_100,
                        vec![
                            directory("fonts", 34 * mb, 60, vec![]),
                            directory("graphics", 9 * mb, 120, vec![]),
                            directory("X11", 4 * mb, 300, vec![]),
                        ],
                    ),
                    directory("bin", 4 * mb, 100, vec![]),
                ],
            ),
            directory(
                "lib",
                96 * mb,
                1_100,
                vec![
                    directory(
                        "modules",
                        79 * mb,
                        700,
                        vec![directory("6.1.0-50-amd64", 79 * mb, 700, vec![])],
                    ),
                    directory("firmware", 11 * mb, 120, vec![]),
                    directory("x86_64-linux-gnu", 5 * mb, 40, vec![]),
                ],
            ),
            directory("bin", 5 * mb, 20, vec![]),
            directory("var", 4 * mb, 60, vec![]),
            directory("sbin", mb, 15, vec![]),
        ],
    )
}

/// The same with what the old image had of it: by turns more, as much and less.
fn compared(mut directory: Directory, turn: u64) -> Directory {
    directory.old_bytes = Some(directory.bytes);
    directory.old_image_bytes =
        directory.image_bytes.map(|bytes| bytes / 100 * [130, 110, 100, 95, 60][turn as usize % 5]);
    directory.directories =
        (turn + 1..).zip(directory.directories).map(|(turn, child)| compared(child, turn)).collect();
    directory
}

fn image(path: &str, size: u64, parts: &[(&str, u64, &str)]) -> ImageFile {
    ImageFile {
        path: path.into(),
        size,
        parts: Part::list(size, parts.iter().copied()),
        sha256: Some("a1".repeat(32)),
        newest_time: Some(1_736_592_545),
    }
}

fn old_image() -> ImageFile {
    image("initrd.gz", 73_300_123, &[("gzip cpio", 73_300_123, "the whole system")])
}

fn new_image() -> ImageFile {
    image(
        "initrd.btrsquash.img",
        54_214_656,
        &[
            ("early cpio", 51_200, "microcode, kept first, byte for byte"),
            ("squashfs.img", 52_201_000, "the runtime"),
            ("boot initramfs", 1_962_456, "mounts the runtime and starts the system's own init"),
        ],
    )
}

fn identity() -> Identity {
    Identity {
        verdict: "monolith".into(),
        why: vec!["/init never mounts another root".into()],
        init: Some("/init".into()),
        init_kind: "shell script".into(),
        handover: "bare".into(),
        handover_why: "/init mounts /proc, /sys and /run itself".into(),
        architecture: Some("x86_64".into()),
        kernels: vec!["6.1.0-50-amd64".into()],
        distribution: Some("Debian GNU/Linux 12 \u{1b}[31m(bookworm)".into()),
    }
}

fn front_end() -> FrontEndPart {
    FrontEndPart {
        maker: "built-in".into(),
        encoding: "xz".into(),
        compressed: 1_962_456,
        unpacked: 7_100_000,
        kernels: vec![KernelPart {
            version: "6.1.0-50-amd64".into(),
            bytes: 5_100_000,
            modules: vec![
                ModuleSize { name: "loop".into(), bytes: 61_000 },
                ModuleSize { name: "btrfs".into(), bytes: 3_900_000 },
            ],
        }],
        notes: vec!["dracut is not installed: the built-in front-end".into()],
    }
}

fn text_difference() -> TextDifference {
    TextDifference {
        path: "etc/fstab".into(),
        diff:
            "--- old/etc/fstab\n+++ new/etc/fstab\n@@ -1 +1 @@\n-none\t/ tmpfs\n+<none>\t/ \u{1b}[2Jbtrfs\n"
                .into(),
        truncated: true,
    }
}

fn budgets() -> Vec<Budget> {
    vec![
        Budget { what: "size".into(), limit: 60_000_000, actual: 54_214_656, kept: true },
        Budget { what: "ram".into(), limit: 200 << 20, actual: 224 << 20, kept: false },
    ]
}

pub(crate) fn conversion() -> Conversion {
    Conversion {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        dry_run: false,
        old: old_image(),
        new: Some(new_image()),
        files: vec![WrittenFile {
            path: "initrd.btrsquash.img".into(),
            bytes: 54_214_656,
            sha256: "5d".repeat(32),
        }],
        identity: identity(),
        choices: vec![Choice {
            what: "front-end".into(),
            chosen: "built-in".into(),
            why: "dracut is not installed".into(),
        }],
        front_end: Some(front_end()),
        ram_before: ram(BEFORE, Some(592)),
        ram_after: Some(ram(AFTER, None)),
        boot: vec![Portion {
            what: "kernel modules".into(),
            why: "the closure of loop, squashfs, btrfs, overlay".into(),
            files: 11,
            bytes: 5_100_000,
        }],
        runtime: vec![Portion {
            what: "the system".into(),
            why: "what /init runs".into(),
            files: 4_407,
            bytes: 226_000_000,
        }],
        directories: directories(),
        packages: packages(),
        package_totals: Some(package_totals()),
        additions: vec![Added {
            path: "run".into(),
            why: "a mount point that the boot initramfs needs".into(),
        }],
        notes: vec!["free space in the runtime: 1 GiB".into()],
        budgets: budgets(),
        verified: None,
    }
}

pub(crate) fn inspection() -> Inspection {
    Inspection {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: new_image(),
        identity: identity(),
        segments: vec![SegmentRow {
            number: 1,
            offset: 0,
            size: 51_200,
            padding: 12,
            encoding: "plain".into(),
            unpacked: 51_200,
            entries: 5,
            early: true,
            appended: false,
        }],
        layers: vec![
            Layer { kind: "squashfs".into(), path: "squashfs.img".into(), bytes: 52_201_000, entries: 3 },
            Layer { kind: "btrfs".into(), path: "LiveOS/rootfs.img".into(), bytes: 1 << 30, entries: 4_407 },
        ],
        front_end: Some(front_end()),
        entries: 4_407,
        content: 226_000_000,
        directories: directories(),
        largest: vec![FileSize { path: "usr/lib/x86_64-linux-gnu/libLLVM.so".into(), bytes: 21_000_000 }],
        duplicates: vec![Duplicate {
            bytes: 500_000,
            wasted: 1_000_000,
            paths: vec!["a/one".into(), "b/two".into(), "c/three".into()],
        }],
        duplicate_bytes: 1_000_000,
        weight: vec![Weight {
            what: "static libraries".into(),
            why: "only a compiler's linker reads them".into(),
            files: 2,
            bytes: 3_000_000,
            examples: vec![FileSize { path: "usr/lib/libc.a".into(), bytes: 2_900_000 }],
        }],
        ram: Some(ram(AFTER, Some(224))),
        notes: vec!["segment 2: a bootconfig follows".into()],
        budgets: budgets(),
        packages: packages(),
        package_totals: Some(package_totals()),
        growth: Some(grown()),
    }
}

fn packages() -> Vec<PackageSize> {
    let size = |name: &str, version: &str, image_bytes| PackageSize {
        name: name.into(),
        version: version.into(),
        bytes: image_bytes * 3,
        image_bytes,
    };
    vec![size("libicu76", "76.1-4", 10_400_000), size("<b>bash", "5.2.37-2", 720_000), size("empty", "1", 0)]
}

pub(crate) fn package_report() -> PackageReport {
    let totals = package_totals();
    let row = |package: PackageSize| PackageRow {
        name: package.name,
        version: package.version,
        architecture: Some("amd64".into()),
        usage: UsageRow { files: 7, bytes: package.bytes, image_bytes: package.image_bytes },
    };
    PackageReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: "initrd.btrsquash.img".into(),
        basis: totals.basis,
        total_bytes: totals.total_bytes,
        databases: vec![DatabaseRow {
            manager: crate::packages::Manager::Dpkg,
            path: "var/lib/dpkg/status".into(),
            packages: Some(3),
        }],
        packages: packages().into_iter().map(row).collect(),
        no_package: totals.no_package,
        structure_bytes: totals.structure_bytes,
        modules: vec![ModuleRow {
            kind: "drivers/net/<u>".into(),
            usage: UsageRow { files: 2, bytes: 90_000, image_bytes: 30_000 },
        }],
        notes: totals.notes,
    }
}

fn package_totals() -> PackageTotals {
    PackageTotals {
        basis: crate::packages::Basis::Blocks,
        total_bytes: 52_201_000,
        no_package: UsageRow { files: 400, bytes: 90_000_000, image_bytes: 36_000_000 },
        structure_bytes: 5_081_000,
        notes: vec!["of 3 packages, only 2 have a list of files".into()],
    }
}

fn grown() -> Growth {
    let size =
        |subject, name: &str, old, new, exceeded| Grown { subject, name: name.into(), old, new, exceeded };
    Growth {
        baseline: "base.json".into(),
        max_percent: Some(1.0),
        max_bytes: Some(1_000_000),
        max_ram_percent: None,
        max_ram_bytes: Some(8 << 20),
        changes: vec![
            size(Subject::Image, "", 50_000_000, 54_214_656, true),
            size(Subject::Ram, "", 220 << 20, 224 << 20, false),
            size(Subject::Part, "squashfs.img", 48_000_000, 52_201_000, true),
            size(Subject::Package, "libicu76", 0, 4_000_000, true),
            size(Subject::Package, "bash", 700_000, 720_000, false),
        ],
    }
}

pub(crate) fn history() -> History {
    let sizes = |image: u64, ram: u64, packages: &[(&str, u64)]| growth::Sizes {
        image,
        ram: Some(ram << 20),
        newest_time: Some(1_736_592_545),
        packages: Some(packages.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()),
        ..growth::Sizes::default()
    };
    History::new(&[
        ("2025-01 <b>\u{1b}[2J".into(), sizes(50_000_000, 210, &[("bash", 700_000)])),
        ("2025-02".into(), sizes(54_000_000, 226, &[("bash", 710_000), ("<i>libicu76", 3_990_000)])),
        ("2025-03".into(), sizes(53_000_000, 222, &[("bash", 710_000), ("<i>libicu76", 2_990_000)])),
    ])
}

pub(crate) fn matrix() -> Matrix {
    let mut inspected = MatrixRow::from(&inspection());
    inspected.warnings.push("no kernel can run this image: there is no init".into());
    Matrix::new(vec![
        MatrixRow::from(&conversion()),
        inspected,
        MatrixRow::failed("broken\u{1b}[2J.img".into(), 3, "broken.img: unexpected end of <archive>".into()),
    ])
}

pub(crate) fn difference() -> Difference {
    let side = |image: ImageFile, verdict: &str, facts| Side {
        image,
        verdict: verdict.into(),
        entries: 4_407,
        content: 226_000_000,
        ram: Some(ram(facts, None)),
    };
    let change = |aspect, old: &str, new: &str| AspectChange { aspect, old: old.into(), new: new.into() };
    let all = [
        change(Aspect::Type, "file", "symlink"),
        change(Aspect::Content, "12 bytes", "13 bytes"),
        change(Aspect::Target, "a", "b"),
        change(Aspect::Device, "5:1", "5:2"),
        change(Aspect::Mode, "0644", "4755"),
        change(Aspect::Owner, "0:0", "1:1"),
        change(Aspect::Links, "1 name", "2 names"),
        change(Aspect::Time, "1970-01-01 00:00:00 UTC", "2025-01-01 00:00:00 UTC"),
    ];
    let changed = |path: &str, aspects: &[AspectChange]| Changed {
        path: path.into(),
        old_bytes: 12,
        new_bytes: 13,
        aspects: aspects.to_vec(),
    };
    Difference {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        old: side(old_image(), "monolith", BEFORE),
        new: side(new_image(), "converted (btrsquash)", AFTER),
        counts: Counts {
            added: 1,
            removed: 1,
            changed: 1,
            only_times: 1,
            same: 4_404,
            moved: 1,
            renamed: 1,
            replaced: 1,
            r#type: 1,
            content: 1,
            target: 1,
            device: 1,
            mode: 1,
            owner: 1,
            links: 1,
            time: 2,
        },
        packages: Some(package_differences()),
        parts: vec![SizeChange { name: "squashfs".into(), old: 0, new: 52_201_000 }],
        directories: vec![SizeChange { name: "/usr/share".into(), old: 51_000_000, new: 48_000_000 }],
        added: vec![Item {
            path: "usr/new\\n<script>alert(1)</script>".into(),
            kind: "file".into(),
            bytes: 12,
        }],
        removed: vec![Item { path: "usr/old".into(), kind: "file".into(), bytes: 12 }],
        changed: vec![changed("etc/fstab", &all), changed("etc/motd", &all[7..])],
        moved: vec![Moved { from: "usr/old".into(), to: "usr/new|name".into(), bytes: 12 }],
        folded: folded(),
        texts: vec![text_difference()],
        tree: compared(directories(), 3),
        notes: vec!["text diffs: files up to 256 KiB".into()],
        budgets: budgets(),
        growth: Some(grown()),
    }
}

fn folded() -> Vec<FoldedPath> {
    vec![
        FoldedPath {
            from: "bin/sh".into(),
            to: "usr/bin/sh".into(),
            reason: Reason::Place,
            old_bytes: 120_000,
            new_bytes: 120_000,
            same: true,
        },
        FoldedPath {
            from: "lib/libz.so.1.2.13".into(),
            to: "usr/lib/libz.so.1.3.1".into(),
            reason: Reason::Version,
            old_bytes: 120_000,
            new_bytes: 130_000,
            same: false,
        },
    ]
}

fn package_differences() -> PackageDifferences {
    let side = |version: &str, bytes| {
        Some(PackageVersion { version: version.into(), bytes: bytes * 3, image_bytes: bytes })
    };
    PackageDifferences {
        changed: 1,
        added: 1,
        removed: 1,
        same: 109,
        sizes: true,
        list: vec![
            PackageDifference { name: "libicu76".into(), old: None, new: side("76.1-4", 10_400_000) },
            PackageDifference {
                name: "bash".into(),
                old: side("5.2.15-2", 700_000),
                new: side("5.2.37-2", 720_000),
            },
            PackageDifference { name: "anna".into(), old: side("1.91", 9_000), new: None },
        ],
    }
}

pub(crate) fn verification(holds: bool) -> Verification {
    let item = |path: &str| Item { path: path.into(), kind: "file".into(), bytes: 7 };
    Verification {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        old: "initrd.gz".into(),
        new: "initrd.btrsquash.img".into(),
        holds,
        compared: 4_407,
        bytes: 226_000_000,
        additions: vec![Added { path: "run".into(), why: "a mount point".into() }],
        appended: 0,
        missing: if holds { vec![] } else { vec![item("bin/gone")] },
        allowed: vec![],
        unexpected: if holds { vec![] } else { vec![item("bin/more")] },
        changed: if holds { vec![] } else { difference().changed },
        notes: vec!["two <bodies> are hidden".into()],
    }
}

pub(crate) fn boot(booted: bool) -> BootReport {
    BootReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: "initrd.gz".into(),
        kernel: "linux".into(),
        accelerator: "tcg: no kernel starts under /dev/kvm".into(),
        ram_mib: 512,
        booted,
        outcome: if booted { "reached: Select a language" } else { "kernel panic: not syncing" }.into(),
        milliseconds: 24_000,
        console: vec!["[ 2.0] Initramfs unpacking failed: write error".into(), "\u{1b}[2Jpanic".into()],
        moments: vec![Moment {
            phase: Some(ram::Phase::ImageFreed),
            milliseconds: None,
            used: Figure::measured(170 << 20),
            available: Figure::measured(300 << 20),
        }],
        notes: vec!["one <processor>".into()],
    }
}

pub(crate) fn min() -> MinReport {
    MinReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: "initrd.gz".into(),
        kernel: "linux".into(),
        accelerator: "tcg".into(),
        from_mib: 256,
        to_mib: 1024,
        step_mib: 16,
        minimum: Some(Figure::measured(592 << 20)),
        why_less_fails: "576 MiB: unpacking: rootfs, a tmpfs of half the memory, is full".into(),
        computed: Some(figure(584)),
        tries: vec![
            Try {
                ram_mib: 576,
                booted: false,
                why: "unpacking: rootfs, a tmpfs of half the memory, is full".into(),
                milliseconds: 9_000,
            },
            Try { ram_mib: 592, booted: true, why: String::new(), milliseconds: 24_000 },
        ],
        notes: vec!["one <processor>".into()],
    }
}
