//! What a kernel can do, proven from its configuration, its modules' symbols or its own file.

use std::collections::BTreeSet;

use super::Release;
use super::config::Config;
use super::modinfo::Symbols;
use crate::codec::Compression;
use crate::codec::Encoding;
use crate::elf::{Arch, Archs};

/// All that squashfs can be packed with.
const COMPRESSIONS: [Compression; 5] =
    [Compression::Xz, Compression::Zstd, Compression::Gzip, Compression::Lz4, Compression::Lzo];

/// The decompressors of a squashfs module, by the functions that it calls (fs/squashfs/*_wrapper.c).
pub(super) fn of_squashfs_module(symbols: &Symbols) -> Vec<Compression> {
    let calls = |names: &[&str]| names.iter().any(|&name| symbols.undefined.contains(name));
    COMPRESSIONS
        .into_iter()
        .filter(|compression| match compression {
            Compression::Xz => calls(&["xz_dec_run"]),
            // The kernel's own wrapper names since 5.16, zstd's before.
            Compression::Zstd => calls(&["zstd_decompress_stream", "ZSTD_decompressStream"]),
            Compression::Gzip => calls(&["zlib_inflate"]),
            Compression::Lz4 => calls(&["LZ4_decompress_safe"]),
            Compression::Lzo => calls(&["lzo1x_decompress_safe"]),
        })
        .collect()
}

/// The decompressors of a built-in squashfs, by the configuration (fs/squashfs/Kconfig).
pub(super) fn of_squashfs_config(config: &Config) -> Vec<Compression> {
    COMPRESSIONS
        .into_iter()
        .filter(|compression| match compression {
            Compression::Xz => config.yes("CONFIG_SQUASHFS_XZ"),
            Compression::Zstd => config.yes("CONFIG_SQUASHFS_ZSTD"),
            // Until 3.13 zlib was not an option: squashfs had it always.
            Compression::Gzip => config.yes("CONFIG_SQUASHFS_ZLIB") || !config.knows("CONFIG_SQUASHFS_ZLIB"),
            Compression::Lz4 => config.yes("CONFIG_SQUASHFS_LZ4"),
            Compression::Lzo => config.yes("CONFIG_SQUASHFS_LZO"),
        })
        .collect()
}

/// The first Linux whose squashfs knows the compression.
pub(super) const fn squashfs_since(compression: Compression) -> Release {
    match compression {
        Compression::Gzip => Release::new(2, 6, 29),
        Compression::Lzo => Release::new(2, 6, 36),
        Compression::Xz => Release::new(2, 6, 38),
        Compression::Lz4 => Release::new(3, 19, 0),
        Compression::Zstd => Release::new(4, 14, 0),
    }
}

/// xz's branch filters, each with its option of lib/xz/Kconfig and the function that proves it in xz_dec.ko.
const BRANCH_FILTERS: [(Arch, &str, &str); 8] = [
    (Arch::X86, "CONFIG_XZ_DEC_X86", "bcj_x86"),
    (Arch::PowerPc, "CONFIG_XZ_DEC_POWERPC", "bcj_powerpc"),
    (Arch::Ia64, "CONFIG_XZ_DEC_IA64", "bcj_ia64"),
    (Arch::Arm, "CONFIG_XZ_DEC_ARM", "bcj_arm"),
    (Arch::ArmThumb, "CONFIG_XZ_DEC_ARMTHUMB", "bcj_armthumb"),
    (Arch::Arm64, "CONFIG_XZ_DEC_ARM64", "bcj_arm64"),
    (Arch::Sparc, "CONFIG_XZ_DEC_SPARC", "bcj_sparc"),
    (Arch::RiscV, "CONFIG_XZ_DEC_RISCV", "bcj_riscv"),
];

/// The branch filters that the kernel's xz is proven to have, by the configuration or, without one, by the functions of
/// its module. A block with another one could not be read.
pub(super) fn branch_filters(config: Option<&Config>, xz_dec: Option<&Symbols>) -> Archs {
    let proven = |option: &str, function: &str| match config {
        Some(config) => config.yes(option),
        None => xz_dec.is_some_and(|symbols| {
            // The compiler appends `.constprop.0` and the like.
            symbols.defined.iter().any(|name| name.split('.').next() == Some(function))
        }),
    };
    let found = BRANCH_FILTERS.into_iter().filter(|(_, option, function)| proven(option, function));
    found.map(|(arch, ..)| arch).collect()
}

/// The architecture of the programs that a kernel for `machine` normally runs, by their branch filter.
pub(super) fn own_arch(machine: &str) -> Option<Arch> {
    Some(match machine {
        "x86_64" | "i686" => Arch::X86,
        "aarch64" => Arch::Arm64,
        "arm" => Arch::ArmThumb,
        // The filter knows big-endian code only.
        "ppc64" | "ppc" => Arch::PowerPc,
        "riscv64" | "riscv32" => Arch::RiscV,
        "sparc64" | "sparc" => Arch::Sparc,
        "ia64" => Arch::Ia64,
        _ => return None,
    })
}

/// Whether the kernel's xz has the branch filter of its own machine; if not, or if that cannot be proven, why.
pub(super) fn own_branch_filter(
    machine: Option<&str>,
    config: Option<&Config>,
    xz_dec: Option<&Symbols>,
) -> Result<(), String> {
    let machine = machine.ok_or("the kernel's machine is not known")?;
    let none = || format!("xz has no branch filter for {machine}");
    let own = own_arch(machine).ok_or_else(none)?;
    let (_, option, _) = BRANCH_FILTERS.into_iter().find(|(arch, ..)| *arch == own).ok_or_else(none)?;
    match config {
        _ if branch_filters(config, xz_dec).contains(own) => Ok(()),
        Some(config) => Err(format!("{option} is not set in {}", config.origin)),
        None => Err(format!("no configuration of the kernel was found that would prove {option}")),
    }
}

/// The encodings of an initramfs that a configuration has (usr/Kconfig).
pub(super) fn of_initramfs_config(config: &Config) -> BTreeSet<Encoding> {
    [
        ("CONFIG_RD_GZIP", Encoding::Gzip),
        ("CONFIG_RD_BZIP2", Encoding::Bzip2),
        ("CONFIG_RD_LZMA", Encoding::Lzma),
        ("CONFIG_RD_XZ", Encoding::Xz),
        ("CONFIG_RD_LZO", Encoding::Lzo),
        ("CONFIG_RD_LZ4", Encoding::Lz4),
        ("CONFIG_RD_ZSTD", Encoding::Zstd),
    ]
    .into_iter()
    .filter(|(option, _)| config.yes(option))
    .map(|(_, encoding)| encoding)
    .collect()
}

/// The best of `encodings` for a boot initramfs: the smallest first; plain, which every kernel reads, if there is none.
#[must_use]
pub(super) fn best(encodings: &BTreeSet<Encoding>) -> Encoding {
    [
        Encoding::Xz,
        Encoding::Zstd,
        Encoding::Lzma,
        Encoding::Gzip,
        Encoding::Bzip2,
        Encoding::Lzo,
        Encoding::Lz4,
    ]
    .into_iter()
    .find(|encoding| encodings.contains(encoding))
    .unwrap_or(Encoding::Plain)
}

/// Whether the kernel can show the initrd that the boot loader placed as /sys/firmware/initrd: init/initramfs.c since
/// Linux 6.8 (commit 2678fd2fe9ee, "initramfs: Expose retained initrd as sysfs file", in driver-core's changes for
/// 6.8-rc1; Documentation/ABI/testing/sysfs-firmware-initrd), on every architecture, when it is booted with
/// `retain_initrd`.
pub(super) fn retained(release: &str, config: Option<&Config>) -> Result<(), String> {
    if !Release::new(6, 8, 0).reached_by(release) {
        return Err(format!("/sys/firmware/initrd came with Linux 6.8; this kernel is {release}"));
    }
    match config {
        Some(config) if !config.yes("CONFIG_BLK_DEV_INITRD") => {
            Err(format!("CONFIG_BLK_DEV_INITRD is not set in {}", config.origin))
        }
        Some(config) if !config.yes("CONFIG_SYSFS") => {
            Err(format!("CONFIG_SYSFS is not set in {}", config.origin))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), "config".into()).unwrap()
    }

    #[test]
    fn a_configuration_tells_what_squashfs_can_read() {
        let new = config("CONFIG_SQUASHFS_ZLIB=y\n# CONFIG_SQUASHFS_XZ is not set\nCONFIG_SQUASHFS_ZSTD=y\n");
        assert_eq!(of_squashfs_config(&new), [Compression::Zstd, Compression::Gzip]);
        let old = config("CONFIG_SQUASHFS=y\nCONFIG_SQUASHFS_XZ=y\n");
        assert_eq!(of_squashfs_config(&old), [Compression::Xz, Compression::Gzip]);
    }

    #[test]
    fn the_branch_filter_has_to_be_proven() {
        let with = config("CONFIG_XZ_DEC_X86=y\n");
        let own = own_branch_filter;
        assert_eq!(own(Some("x86_64"), Some(&with), None), Ok(()));
        assert!(own(Some("aarch64"), Some(&with), None).is_err());
        assert!(own(Some("x86_64"), None, None).is_err());
        let mut xz_dec = Symbols::default();
        assert!(own(Some("x86_64"), None, Some(&xz_dec)).is_err());
        xz_dec.defined.insert("bcj_x86.constprop.0");
        assert_eq!(own(Some("i686"), None, Some(&xz_dec)), Ok(()));
        assert!(own(Some("s390x"), Some(&with), None).unwrap_err().contains("no branch filter for s390x"));
        // xz's filter for POWER does nothing for little-endian code.
        let power = config("CONFIG_XZ_DEC_POWERPC=y\n");
        assert!(own(Some("ppc64le"), Some(&power), None).is_err());
    }

    #[test]
    fn each_branch_filter_has_its_own_option() {
        // ARM's two are apart, and a 64-bit kernel that runs 32-bit programs need not have either.
        let arm = config("CONFIG_XZ_DEC_ARM=y\n# CONFIG_XZ_DEC_ARMTHUMB is not set\n");
        assert_eq!(branch_filters(Some(&arm), None), Archs::from_iter([Arch::Arm]));
        assert!(own_branch_filter(Some("arm"), Some(&arm), None).is_err());
        let arm64 = config("CONFIG_XZ_DEC_ARM64=y\n");
        assert_eq!(branch_filters(Some(&arm64), None), Archs::from_iter([Arch::Arm64]));
        let mut xz_dec = Symbols::default();
        xz_dec.defined.insert("bcj_armthumb");
        assert_eq!(branch_filters(None, Some(&xz_dec)), Archs::from_iter([Arch::ArmThumb]));
        assert_eq!(branch_filters(None, None), Archs::NONE);
    }

    #[test]
    fn retained_since_6_8() {
        assert!(retained("6.7.12-amd64", None).unwrap_err().contains("6.8"));
        assert_eq!(retained("6.8.0-31-generic", None), Ok(()));
        assert_eq!(
            retained("6.12.117+deb13-amd64", Some(&config("CONFIG_BLK_DEV_INITRD=y\nCONFIG_SYSFS=y"))),
            Ok(())
        );
        assert!(retained("6.12.0", Some(&config("# CONFIG_BLK_DEV_INITRD is not set"))).is_err());
    }

    #[test]
    fn the_smallest_encoding_first() {
        assert_eq!(best(&BTreeSet::from([Encoding::Gzip, Encoding::Zstd])), Encoding::Zstd);
        assert_eq!(best(&BTreeSet::new()), Encoding::Plain);
    }
}
