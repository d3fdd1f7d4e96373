//! One report of each kind with every field filled, and with names that try to break out.

use super::*;

fn figure(mib: u64) -> Figure {
    Figure::computed(mib << 20)
}

fn ram(least: u64, measured: Option<u64>, phases: &[(&str, u64)]) -> Ram {
    Ram {
        least: figure(least),
        measured: measured.map(|mib| Figure::measured(mib << 20)),
        parts: vec![
            RamPart { name: "unpacked files".into(), figure: figure(228), why: "pages of rootfs".into() },
            RamPart { name: "initrd".into(), figure: figure(70), why: "kept until all is unpacked".into() },
            RamPart { name: "kernel".into(), figure: figure(58), why: "54 MiB and 1.6% of RAM".into() },
        ],
        phases: phases
            .iter()
            .map(|&(name, mib)| Phase {
                name: name.into(),
                used: figure(mib),
                measured: measured.map(|_| Figure::measured((mib + 5) << 20)),
            })
            .collect(),
        formula: "2·U + I + K: rootfs is a tmpfs that may fill half of RAM".into(),
        notes: vec!["root= is not on the kernel's own command line".into()],
    }
}

fn folder(name: &str, bytes: u64, files: u64, folders: Vec<Folder>) -> Folder {
    Folder { name: name.into(), bytes, files, folders }
}

/// Folders like those of Debian's graphical installer.
fn folders() -> Folder {
    let mb = 1_000_000;
    folder(
        "/",
        226 * mb,
        3_900,
        vec![
            folder(
                "usr",
                118 * mb,
                2_700,
                vec![
                    folder(
                        "lib",
                        62 * mb,
                        420,
                        vec![
                            folder("x86_64-linux-gnu", 51 * mb, 300, vec![]),
                            folder("debian-installer", 6 * mb, 80, vec![]),
                            folder("<b>&\"quoted\"", 2 * mb, 12, vec![]),
                        ],
                    ),
                    folder(
                        "share",
                        51 * mb,
                        2_100,
                        vec![
                            folder("fonts", 34 * mb, 60, vec![]),
                            folder("graphics", 9 * mb, 120, vec![]),
                            folder("X11", 4 * mb, 300, vec![]),
                        ],
                    ),
                    folder("bin", 4 * mb, 100, vec![]),
                ],
            ),
            folder(
                "lib",
                96 * mb,
                1_100,
                vec![
                    folder("modules", 79 * mb, 700, vec![folder("6.1.0-50-amd64", 79 * mb, 700, vec![])]),
                    folder("firmware", 11 * mb, 120, vec![]),
                    folder("x86_64-linux-gnu", 5 * mb, 40, vec![]),
                ],
            ),
            folder("bin", 5 * mb, 20, vec![]),
            folder("var", 4 * mb, 60, vec![]),
            folder("sbin", mb, 15, vec![]),
        ],
    )
}

fn image(path: &str, size: u64, parts: &[(&str, u64, &str)]) -> ImageFile {
    ImageFile { path: path.into(), size, parts: Part::list(size, parts.iter().copied()) }
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
            ("squashfs", 52_201_000, "the runtime"),
            ("front-end", 1_962_456, "mounts the runtime and hands over to the old /init"),
        ],
    )
}

fn identity() -> Identity {
    Identity {
        verdict: "monolith".into(),
        why: vec!["/init stays and never leaves the rootfs".into()],
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

const BEFORE: [(&str, u64); 5] = [
    ("kernel starts", 54),
    ("unpacking begins", 125),
    ("all unpacked", 356),
    ("initrd freed", 286),
    ("first screen", 340),
];
const AFTER: [(&str, u64); 5] = [
    ("kernel starts", 54),
    ("unpacking begins", 106),
    ("all unpacked", 166),
    ("hand-over", 118),
    ("first screen", 182),
];

pub fn conversion() -> Conversion {
    Conversion {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        dry_run: false,
        old: old_image(),
        new: Some(new_image()),
        identity: identity(),
        choices: vec![Choice {
            what: "front-end".into(),
            chosen: "built-in".into(),
            why: "dracut is not installed".into(),
        }],
        front_end: Some(front_end()),
        ram_before: ram(584, Some(592), &BEFORE),
        ram_after: Some(ram(223, None, &AFTER)),
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
        folders: folders(),
        additions: vec![Added { path: "run".into(), why: "a mount point that the front-end needs".into() }],
        text_differences: vec![text_difference()],
        notes: vec!["free space in the runtime: 1 GiB".into()],
        timings: Some(vec![Timing { stage: "squashfs".into(), milliseconds: 28_700 }]),
        budgets: budgets(),
    }
}

pub fn inspection() -> Inspection {
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
        folders: folders(),
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
        ram: Some(ram(223, Some(224), &AFTER)),
        notes: vec!["segment 2: a bootconfig follows".into()],
        budgets: budgets(),
    }
}

pub fn difference() -> Difference {
    let side = |image: ImageFile, verdict: &str, least| Side {
        image,
        verdict: verdict.into(),
        entries: 4_407,
        content: 226_000_000,
        ram: Some(ram(least, None, &BEFORE)),
    };
    let change = |aspect, old: &str, new: &str| AspectChange { aspect, old: old.into(), new: new.into() };
    let all = [
        change(Aspect::Type, "file", "symbolic link"),
        change(Aspect::Content, "12 bytes", "13 bytes"),
        change(Aspect::Target, "a", "b"),
        change(Aspect::Device, "5:1", "5:2"),
        change(Aspect::Mode, "0644", "4755"),
        change(Aspect::Owner, "0:0", "1:1"),
        change(Aspect::Links, "1 names", "2 names"),
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
        old: side(old_image(), "monolith", 584),
        new: side(new_image(), "converted (btrsquash)", 223),
        counts: Counts {
            added: 1,
            removed: 1,
            changed: 1,
            only_times: 1,
            same: 4_404,
            moved: 1,
            r#type: 1,
            content: 1,
            target: 1,
            device: 1,
            mode: 1,
            owner: 1,
            links: 1,
            time: 2,
        },
        parts: vec![SizeChange { name: "squashfs".into(), old: 0, new: 52_201_000 }],
        folders: vec![SizeChange { name: "/usr/share".into(), old: 51_000_000, new: 48_000_000 }],
        added: vec![Item {
            path: "usr/new\\n<script>alert(1)</script>".into(),
            kind: "file".into(),
            bytes: 12,
        }],
        removed: vec![Item { path: "usr/old".into(), kind: "file".into(), bytes: 12 }],
        changed: vec![changed("etc/fstab", &all), changed("etc/motd", &all[7..])],
        moved: vec![Moved { from: "usr/old".into(), to: "usr/new|name".into(), bytes: 12 }],
        texts: vec![text_difference()],
        tree: folders(),
        notes: vec!["text diffs: files up to 256 KiB".into()],
        budgets: budgets(),
    }
}

pub fn verification(holds: bool) -> Verification {
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
        unexpected: if holds { vec![] } else { vec![item("bin/more")] },
        changed: if holds { vec![] } else { difference().changed },
        notes: vec!["two bodies are hidden".into()],
    }
}

pub fn boot(booted: bool) -> BootReport {
    BootReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: "initrd.gz".into(),
        kernel: "linux".into(),
        accelerator: "tcg: no kernel starts under /dev/kvm".into(),
        ram_mib: 512,
        booted,
        outcome: if booted { "saw `Select a language`" } else { "kernel panic" }.into(),
        milliseconds: 24_000,
        console: vec!["[ 2.0] Initramfs unpacking failed: write error".into(), "\u{1b}[2Jpanic".into()],
        moments: vec![Moment {
            name: "all unpacked".into(),
            used: Figure::measured(170 << 20),
            available: Figure::measured(300 << 20),
        }],
        notes: vec!["one processor".into()],
    }
}

pub fn min() -> MinReport {
    MinReport {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: "initrd.gz".into(),
        kernel: "linux".into(),
        accelerator: "tcg".into(),
        from_mib: 256,
        to_mib: 1024,
        step_mib: 16,
        least: Some(Figure::measured(592 << 20)),
        why_less_fails: "tmpfs full while unpacking".into(),
        computed: Some(figure(584)),
        tries: vec![
            Try { ram_mib: 576, booted: false, why: "tmpfs full".into(), milliseconds: 9_000 },
            Try { ram_mib: 592, booted: true, why: String::new(), milliseconds: 24_000 },
        ],
        notes: vec!["one processor".into()],
    }
}
