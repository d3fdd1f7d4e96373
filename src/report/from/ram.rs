//! The RAM model's figures → words.

use crate::ram::{Estimate, Facts, Limit, Rootfs, Term};
use crate::report::data::{Figure, Phase, Ram, RamPart};
use crate::report::units::mebibytes;

impl From<&Facts> for Ram {
    /// What the model says about an image that a boot loader starts without further arguments.
    fn from(facts: &Facts) -> Self {
        Self::from(&facts.estimate(Rootfs::Tmpfs))
    }
}

impl From<&Estimate> for Ram {
    fn from(estimate: &Estimate) -> Self {
        let part = |&(term, bytes): &(Term, u64)| {
            let (name, why) = term_words(term);
            RamPart { name: name.into(), figure: Figure::computed(bytes), why: why.into() }
        };
        let phases = estimate.phases.iter();
        let (tmpfs, ramfs) = estimate.by_rootfs;
        let mut notes = vec![format!(
            "computed: {}; with root= on the kernel's command line (rootfs without a size limit): {}",
            mebibytes(tmpfs),
            mebibytes(ramfs)
        )];
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
            notes,
        }
    }
}

const fn term_words(term: Term) -> (&'static str, &'static str) {
    match term {
        Term::Kernel => ("K: kernel", "its own image, and what describes the machine's memory"),
        Term::Image => ("I: image", "the file as the boot loader places it, until it is unpacked"),
        Term::Unpacked => ("U: unpacked", "files of rootfs in whole pages"),
        Term::Fetched => ("F: downloaded", "the runtime, downloaded into rootfs"),
        Term::Dictionary => ("D: dictionary", "allocated by the decompressor while it unpacks"),
        Term::Inodes => ("N: inodes", "1 KiB for each inode with its dentry"),
        Term::Drivers => ("E: drivers", "drivers and caches of the kernel by the time the image is unpacked"),
        Term::Pinned => ("S: pinned", "what stays in memory while the system runs"),
        Term::WorkingSet => ("W: working set", "programs and caches up to the first screen, including E"),
    }
}

const fn formula(limit: Limit) -> &'static str {
    match limit {
        Limit::HalfOfMemory => {
            "2 U + I + K: rootfs is a tmpfs of at most half of the memory that kernel and image leave"
        }
        Limit::HalfOfMemoryFetched => {
            "2 (U + F) + I + K: the runtime is downloaded into rootfs, a tmpfs sized while the image was in memory"
        }
        Limit::Unpacking => "U + I + D + N + E + K: all of it at once while unpacking",
        Limit::Running => "S + W + K: the running system needs more than unpacking",
        Limit::RunningRetained => "S + W + I + K: the running system needs more than unpacking",
    }
}
