//! The RAM model's figures → words.

use crate::ram::{Estimate, Limit, Row, SIZED, Term};
use crate::report::data::{Figure, Phase, Ram, RamPart, RamRow};
use crate::report::units::mebibytes;

/// A number of possible CPUs in words.
pub(super) fn possible(cpus: u32) -> String {
    format!("{cpus} possible CPU{}", if cpus == 1 { "" } else { "s" })
}

fn row(row: &Row) -> RamRow {
    RamRow {
        cpus: row.cpus,
        plain: Figure::computed(row.plain),
        root: Figure::computed(row.root),
        sized: row.sized.map(Figure::computed),
    }
}

impl From<&Estimate> for Ram {
    fn from(estimate: &Estimate) -> Self {
        let part = |&(term, bytes): &(Term, u64)| {
            let (name, why) = term_words(term);
            RamPart { name: name.into(), figure: Figure::computed(bytes), why: why.into() }
        };
        let phases = estimate.phases.iter();
        let machine = &estimate.machine;
        let mut notes = vec![format!("computed for {}", possible(machine.cpus))];
        if let Some((least, most)) = estimate.range {
            notes.push(format!(
                "the kernel's own size is not known: 53 MiB are assumed; between 16 and 64 MiB the minimum is {} to {} \
                 (name the kernel with --kernel)",
                mebibytes(least),
                mebibytes(most)
            ));
        }
        if !machine.kernel.configured && estimate.terms.iter().any(|(term, _)| *term == Term::Decompressors) {
            notes.push(
                "the kernel's configuration is not known: its squashfs is assumed to allocate a decompressor for each \
                 possible CPU, as most distributions build it"
                    .into(),
            );
        }
        if machine.kernel.rootfs_options.is_none() {
            notes.push(format!(
                "initramfs_options=size={SIZED}% works from Linux 6.18 on, and in some stable kernels such as Debian's \
                 6.1.176 and 6.12.117; whether this kernel knows it could not be checked"
            ));
        }
        if estimate.many_inodes {
            notes.push(
                "a tmpfs holds half as many inodes as there are pages: this image has more inodes than pages"
                    .into(),
            );
        }
        Self {
            minimum: Figure::computed(estimate.minimum),
            measured: None,
            parts: estimate.terms.iter().map(part).collect(),
            phases: phases
                .map(|&(phase, bytes)| Phase { phase, used: Figure::computed(bytes), measured: None })
                .collect(),
            formula: formula(estimate.limit).into(),
            table: estimate.table.iter().map(row).collect(),
            notes,
        }
    }
}

const fn term_words(term: Term) -> (&'static str, &'static str) {
    match term {
        Term::Kernel => ("K: kernel", "its own image, and what describes the machine's memory"),
        Term::Image => ("I: image", "the file as the boot loader places it, until it is unpacked"),
        Term::Unpacked => ("U: unpacked", "files of rootfs in whole pages"),
        Term::Fetched => ("F: downloaded", "the runtime, downloaded into memory"),
        Term::Copied => ("T: copied", "by the image's own init, into another file system in memory"),
        Term::Dictionary => ("D: dictionary", "allocated by the decompressor while it unpacks"),
        Term::Inodes => ("N: inodes", "1 KiB for each inode with its dentry"),
        Term::Drivers => ("E: drivers", "drivers and caches of the kernel by the time the image is unpacked"),
        Term::Pinned => ("S: pinned", "what stays in memory while the system runs"),
        Term::Decompressors => (
            "C: decompressors",
            "of the squashfs, one for each possible CPU, as far as W does not include them",
        ),
        Term::WorkingSet => ("W: working set", "programs and caches up to the first screen, including E"),
    }
}

const fn formula(limit: Limit) -> &'static str {
    match limit {
        Limit::HalfOfMemory => {
            "rootfs is a tmpfs of at most half of the memory that kernel and image leave (2 U + I + K)"
        }
        Limit::HalfOfMemoryFetched => {
            "the runtime is downloaded into rootfs, a tmpfs sized while the image was in memory (2 (U + F) + I + K)"
        }
        Limit::Unpacking => "all of it at once while the image is unpacked (U + I + D + N + E + K)",
        Limit::Copying => "the image is in memory twice while its init copies it (U + T + 2 N + E + K)",
        Limit::Running => "the running system needs more than unpacking (S + C + W + K)",
        Limit::RunningRetained => "the running system needs more than unpacking (S + C + W + I + K)",
    }
}
