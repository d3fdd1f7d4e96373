//! What a kernel can do, proven from its configuration, its modules' symbols or its own file.

use std::collections::BTreeSet;

use super::Release;
use super::config::Config;
use super::modinfo::Symbols;
use crate::codec::Compression;
use crate::codec::Encoding;

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

/// The option of lib/xz/Kconfig for the branch filter of a machine, and the function that proves it in xz_dec.ko.
fn branch_filter(machine: &str) -> Option<(&'static str, &'static str)> {
    Some(match machine {
        "x86_64" | "i686" => ("CONFIG_XZ_DEC_X86", "bcj_x86"),
        "aarch64" => ("CONFIG_XZ_DEC_ARM64", "bcj_arm64"),
        "arm" => ("CONFIG_XZ_DEC_ARM", "bcj_arm"),
        "ppc64" | "ppc64le" | "ppc" => ("CONFIG_XZ_DEC_POWERPC", "bcj_powerpc"),
        "riscv64" | "riscv32" => ("CONFIG_XZ_DEC_RISCV", "bcj_riscv"),
        "sparc64" => ("CONFIG_XZ_DEC_SPARC", "bcj_sparc"),
        _ => return None,
    })
}

/// Whether the kernel's xz has the branch filter of its own machine; if not, or if that cannot be proven, why.
pub(super) fn bcj(
    machine: Option<&str>,
    config: Option<&Config>,
    xz_dec: Option<&Symbols>,
) -> Result<(), String> {
    let machine = machine.ok_or("the kernel's machine is not known")?;
    let (option, function) =
        branch_filter(machine).ok_or_else(|| format!("xz has no branch filter for {machine}"))?;
    if let Some(config) = config {
        return if config.yes(option) {
            Ok(())
        } else {
            Err(format!("{option} is not set in {}", config.origin))
        };
    }
    let proven = xz_dec.is_some_and(|symbols| {
        symbols.defined.iter().any(|&name| name == function || name.starts_with(&format!("{function}.")))
    });
    if proven {
        Ok(())
    } else {
        Err(format!("no configuration of the kernel was found that would prove {option}"))
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
        assert_eq!(bcj(Some("x86_64"), Some(&with), None), Ok(()));
        assert!(bcj(Some("aarch64"), Some(&with), None).is_err());
        assert!(bcj(Some("x86_64"), None, None).is_err());
        let mut xz_dec = Symbols::default();
        assert!(bcj(Some("x86_64"), None, Some(&xz_dec)).is_err());
        xz_dec.defined.insert("bcj_x86.constprop.0");
        assert_eq!(bcj(Some("i686"), None, Some(&xz_dec)), Ok(()));
        assert!(bcj(Some("s390x"), Some(&with), None).is_err());
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
