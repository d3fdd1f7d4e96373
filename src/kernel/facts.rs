//! What the RAM model and the layouts have to know about a kernel.

use super::config::Config;
use super::vmlinuz;
use crate::elf::{self, Object};

/// How a kernel's squashfs allocates its decompressors, each of which holds a dictionary (fs/squashfs/Kconfig).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decompressors {
    /// One (`SQUASHFS_DECOMP_SINGLE`).
    Single,
    /// One more each time that all are busy, at most two for each online CPU (`SQUASHFS_DECOMP_MULTI`).
    OnDemand,
    /// One for each possible CPU, at mount (`SQUASHFS_DECOMP_MULTI_PERCPU`).
    PerPossibleCpu,
    /// One unless the mount option `threads=` asks for more (`SQUASHFS_CHOICE_DECOMP_BY_MOUNT`, since 6.2).
    ByMount,
}

/// The parts of a kernel image in memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sections {
    /// Code that stays.
    pub text: u64,
    /// Constants that stay.
    pub rodata: u64,
    /// Initialised data that stays.
    pub data: u64,
    /// Code and data that the kernel frees once it has started (`Freeing unused kernel image`).
    pub init: u64,
    /// The template of the per-CPU data: each possible CPU gets at least one copy.
    pub percpu: u64,
    /// Zeroed data.
    pub bss: u64,
}

/// How much memory a kernel's own image takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSize {
    /// By the section headers of the unpacked vmlinux.
    Sections(Sections),
    /// The whole image with its bss, as the header of an arm64 or RISC-V `Image` says (`image_size`).
    Whole(u64),
    /// An upper bound: what an x86 kernel needs while it unpacks itself (`init_size` of the boot protocol).
    AtMost(u64),
}

/// What is known about one kernel. Sizes are in bytes; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its release as `uname -r` prints it.
    pub release: String,
    /// Its machine as `uname -m` names it.
    pub architecture: Option<String>,
    /// The size of a page.
    pub page_size: Option<u32>,
    /// The size of its image in memory.
    pub image: Option<ImageSize>,
    /// How its squashfs allocates decompressors.
    pub decompressors: Option<Decompressors>,
    /// Whether it makes a zswap pool when it starts.
    pub zswap: Option<bool>,
    /// Whether directories that it unpacks get the times of the archive (`CONFIG_INITRAMFS_PRESERVE_MTIME`).
    pub preserves_mtime: Option<bool>,
    /// Whether it knows `initramfs_options=` (Linux 6.18, and stable versions such as 6.1.176 and 6.12.117), by its own text.
    pub rootfs_options: Option<bool>,
    /// Where the configuration was found.
    pub config: Option<String>,
}

impl Facts {
    /// What a configuration and a kernel file say, either of which may be missing. `image` is the file as it is,
    /// `kernel` what is packed in it, if that was unpacked.
    pub(super) fn of(
        release: &str,
        machine: Option<&str>,
        config: Option<&Config>,
        image: Option<&[u8]>,
        kernel: Option<&[u8]>,
    ) -> Self {
        let architecture =
            machine.or_else(|| kernel.and_then(elf::machine_of)).or_else(|| image.and_then(vmlinuz::machine));
        let page_size = config
            .and_then(Config::page_size)
            .or_else(|| kernel.or(image).and_then(vmlinuz::page_size))
            .or_else(|| usual_page_size(release, architecture?));
        Self {
            release: release.to_owned(),
            architecture: architecture.map(str::to_owned),
            page_size,
            image: kernel.and_then(sections).or_else(|| image.and_then(vmlinuz::image_size)),
            decompressors: config.and_then(Config::decompressors),
            zswap: config.map(|config| config.zswap(release)),
            preserves_mtime: config.map(Config::preserves_mtime),
            rootfs_options: kernel
                .map(|kernel| vmlinuz::find_all(kernel, b"initramfs_options=").next().is_some()),
            config: config.map(|config| config.origin.clone()),
        }
    }

    /// The same with the machine of the kernel's modules, unless the kernel itself said which it is.
    #[must_use]
    pub(super) fn for_machine(self, machine: &str) -> Self {
        let architecture = self.architecture.unwrap_or_else(|| machine.to_owned());
        let page_size = self.page_size.or_else(|| usual_page_size(&self.release, &architecture));
        Self { architecture: Some(architecture), page_size, ..self }
    }
}

/// The page size of a machine that offers no choice, or whose distributions all choose the same or name another.
fn usual_page_size(release: &str, machine: &str) -> Option<u32> {
    match machine {
        "x86_64" | "i686" | "arm" | "s390x" | "riscv64" | "riscv32" => Some(4 << 10),
        // Debian, Fedora, SUSE and Ubuntu build 64-bit PowerPC kernels with pages of 64 KiB.
        "ppc64" | "ppc64le" if !release.contains("-4k") => Some(64 << 10),
        "aarch64" if release.contains("16k") => Some(16 << 10),
        // Red Hat's until version 8, and the +64k flavours.
        "aarch64" if ["64k", "el7", "el8"].iter().any(|part| release.contains(part)) => Some(64 << 10),
        "aarch64" => Some(4 << 10),
        _ => None,
    }
}

/// The sizes of a vmlinux by its sections.
fn sections(kernel: &[u8]) -> Option<ImageSize> {
    const SHF_WRITE: u64 = 1;
    const SHF_ALLOC: u64 = 2;
    const SHF_EXECINSTR: u64 = 4;
    const SHT_NOBITS: u32 = 8;
    /// What include/asm-generic/vmlinux.lds.h and x86's vmlinux.lds.S put between `__init_begin` and `__init_end`.
    const INIT: [&[u8]; 10] = [
        b".init",
        b".exit",
        b".altinstr",
        b".parainstructions",
        b".retpoline_sites",
        b".return_sites",
        b".call_sites",
        b".ibt_endbr_seal",
        b".apicdrivers",
        b".x86_cpu_dev",
    ];
    let object = Object::parse(kernel).ok()?;
    let mut sizes = Sections::default();
    for (name, section) in object.named().filter(|(_, section)| section.sh_flags & SHF_ALLOC != 0) {
        let part = if name.starts_with(b".data..percpu") {
            &mut sizes.percpu
        } else if INIT.iter().any(|prefix| name.starts_with(prefix)) {
            &mut sizes.init
        } else if section.sh_type == SHT_NOBITS {
            &mut sizes.bss
        } else if section.sh_flags & SHF_EXECINSTR != 0 {
            &mut sizes.text
        } else if section.sh_flags & SHF_WRITE != 0 {
            &mut sizes.data
        } else {
            &mut sizes.rodata
        };
        *part = part.checked_add(section.sh_size)?;
    }
    (sizes.text > 0).then_some(ImageSize::Sections(sizes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_those_of_the_distribution() {
        let of = |release: &str, machine: &str| Facts::of(release, Some(machine), None, None, None).page_size;
        assert_eq!(of("6.1.0-50-powerpc64le", "ppc64le"), Some(65_536));
        assert_eq!(of("6.1.0-50-arm64", "aarch64"), Some(4096));
        assert_eq!(of("5.14.0-70.el9.aarch64+64k", "aarch64"), Some(65_536));
        assert_eq!(of("6.1.0-50-amd64", "x86_64"), Some(4096));
        assert_eq!(of("6.1.0", "loongarch64"), None);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let facts = Facts::of("6.1.0", None, None, Some(b"no kernel"), None);
        assert_eq!((facts.image, facts.decompressors, facts.preserves_mtime), (None, None, None));
        assert_eq!((facts.architecture, facts.page_size), (None, None));
    }
}
