//! A kernel's configuration, and what the options in it mean here.

use std::collections::BTreeMap;

use super::Release;
use super::facts::Decompressors;

/// The value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    BuiltIn,
    Module,
    Other,
    NotSet,
}

/// A kernel's configuration text (`/boot/config-VERSION`, lib/modules/VERSION/config, CONFIG_IKCONFIG).
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// Where it was found, for messages.
    pub(super) origin: String,
    options: BTreeMap<String, Value>,
}

impl Config {
    /// Reads the text; `None` if it holds no option at all (Debian's System.map is such a placeholder).
    pub(super) fn parse(text: &[u8], origin: String) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let mut options = BTreeMap::new();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=').filter(|(key, _)| key.starts_with("CONFIG_")) {
                let value = match value {
                    "y" => Value::BuiltIn,
                    "m" => Value::Module,
                    "n" => Value::NotSet,
                    _ => Value::Other,
                };
                options.insert(key.to_owned(), value);
            } else if let Some(key) = line.strip_prefix("# ").and_then(|l| l.strip_suffix(" is not set")) {
                options.insert(key.to_owned(), Value::NotSet);
            }
        }
        (!options.is_empty()).then_some(Self { origin, options })
    }

    /// Whether the option is `y`.
    pub(super) fn yes(&self, option: &str) -> bool {
        self.options.get(option) == Some(&Value::BuiltIn)
    }

    /// Whether the text mentions the option at all.
    pub(super) fn knows(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// Whether the module is built in, by the option that makes it.
    pub(super) fn built_in(&self, module: &str) -> bool {
        self.yes(&option_of(module))
    }

    /// The option that makes the module, if the configuration says that it is not set: the kernel was built without it.
    pub(super) fn denies(&self, module: &str) -> Option<String> {
        let option = option_of(module);
        match self.options.get(&option) {
            Some(Value::NotSet) => Some(option),
            // An option is left out of the text if what it depends on is not set.
            None if module == "dm_snapshot" && self.denies("dm_mod").is_some() => Some(option_of("dm_mod")),
            _ => None,
        }
    }

    /// How squashfs allocates decompressors (fs/squashfs/Kconfig). `None` if squashfs is not in the configuration.
    pub(super) fn decompressors(&self) -> Option<Decompressors> {
        // Until 3.13 there was no choice: one decompressor.
        if self.yes("CONFIG_SQUASHFS_CHOICE_DECOMP_BY_MOUNT") {
            return Some(Decompressors::ByMount);
        }
        let single =
            self.yes("CONFIG_SQUASHFS_DECOMP_SINGLE") || self.yes("CONFIG_SQUASHFS_COMPILE_DECOMP_SINGLE");
        let multi =
            self.yes("CONFIG_SQUASHFS_DECOMP_MULTI") || self.yes("CONFIG_SQUASHFS_COMPILE_DECOMP_MULTI");
        let per_cpu = self.yes("CONFIG_SQUASHFS_DECOMP_MULTI_PERCPU")
            || self.yes("CONFIG_SQUASHFS_COMPILE_DECOMP_MULTI_PERCPU");
        match (single, multi, per_cpu) {
            (true, ..) => Some(Decompressors::Single),
            (_, _, true) => Some(Decompressors::PerPossibleCpu),
            (_, true, _) => Some(Decompressors::OnDemand),
            _ => None,
        }
    }

    /// Whether zswap makes its pool as soon as the kernel starts: until Linux 6.3 wherever it is built in, since then only
    /// if it is on by default (commit 141fdeececb3, "mm/zswap: delay the initialization of zswap").
    pub(super) fn zswap(&self, release: &str) -> bool {
        let delayed = Release::new(6, 3, 0).reached_by(release);
        self.yes("CONFIG_ZSWAP") && (!delayed || self.yes("CONFIG_ZSWAP_DEFAULT_ON"))
    }

    /// The page size in bytes, if the configuration chooses it.
    pub(super) fn page_size(&self) -> Option<u32> {
        // Since 6.9 every architecture sets one of CONFIG_PAGE_SIZE_*; before, those with a choice had options of their own.
        [
            (4 << 10, &["CONFIG_PAGE_SIZE_4KB", "CONFIG_ARM64_4K_PAGES", "CONFIG_PPC_4K_PAGES"][..]),
            (8 << 10, &["CONFIG_PAGE_SIZE_8KB"]),
            (16 << 10, &["CONFIG_PAGE_SIZE_16KB", "CONFIG_ARM64_16K_PAGES", "CONFIG_PPC_16K_PAGES"]),
            (64 << 10, &["CONFIG_PAGE_SIZE_64KB", "CONFIG_ARM64_64K_PAGES", "CONFIG_PPC_64K_PAGES"]),
            (256 << 10, &["CONFIG_PAGE_SIZE_256KB", "CONFIG_PPC_256K_PAGES"]),
        ]
        .into_iter()
        .find(|(_, options)| options.iter().any(|option| self.yes(option)))
        .map(|(size, _)| size)
    }

    /// Whether the kernel gives the directories that it unpacks the times of the archive. Kernels that do not know the
    /// option (init/Kconfig) always do.
    pub(super) fn preserves_mtime(&self) -> bool {
        self.yes("CONFIG_INITRAMFS_PRESERVE_MTIME") || !self.knows("CONFIG_INITRAMFS_PRESERVE_MTIME")
    }
}

/// The option that makes a module that a boot initramfs needs.
fn option_of(module: &str) -> String {
    let option = match module {
        "loop" => "CONFIG_BLK_DEV_LOOP",
        "squashfs" => "CONFIG_SQUASHFS",
        "btrfs" => "CONFIG_BTRFS_FS",
        "dm_mod" => "CONFIG_BLK_DEV_DM",
        "dm_snapshot" => "CONFIG_DM_SNAPSHOT",
        "overlay" => "CONFIG_OVERLAY_FS",
        "crc32c_generic" => "CONFIG_CRYPTO_CRC32C",
        "isofs" => "CONFIG_ISO9660_FS",
        "vfat" => "CONFIG_VFAT_FS",
        "ext4" => "CONFIG_EXT4_FS",
        "xfs" => "CONFIG_XFS_FS",
        "af_packet" => "CONFIG_PACKET",
        "ahci" => "CONFIG_SATA_AHCI",
        "sd_mod" => "CONFIG_BLK_DEV_SD",
        "sr_mod" => "CONFIG_BLK_DEV_SR",
        "nvme" => "CONFIG_BLK_DEV_NVME",
        "nfs" => "CONFIG_NFS_FS",
        "nfsv3" => "CONFIG_NFS_V3",
        "nfsv4" => "CONFIG_NFS_V4",
        other => return format!("CONFIG_{}", other.to_uppercase()),
    };
    option.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes(), "config".into()).unwrap()
    }

    #[test]
    fn options_are_built_in_modules_or_not_set() {
        let config = config(
            "CONFIG_SQUASHFS=y\nCONFIG_OVERLAY_FS=m\n# CONFIG_BTRFS_FS is not set\n# CONFIG_MD is not set\n",
        );
        assert!(config.built_in("squashfs") && !config.built_in("overlay"));
        assert_eq!(config.denies("btrfs").as_deref(), Some("CONFIG_BTRFS_FS"));
        assert_eq!((config.denies("overlay"), config.denies("loop")), (None, None));
        assert!(
            Config::parse(b"ffffffffffffffff B The real System.map is elsewhere\n", "x".into()).is_none()
        );
    }

    #[test]
    fn without_device_mapper_there_is_no_snapshot() {
        let config = config("# CONFIG_BLK_DEV_DM is not set\n");
        assert_eq!(config.denies("dm_snapshot").as_deref(), Some("CONFIG_BLK_DEV_DM"));
    }

    #[test]
    fn squashfs_says_how_many_decompressors_it_keeps() {
        let of = |text| config(text).decompressors();
        assert_eq!(of("CONFIG_SQUASHFS_DECOMP_MULTI_PERCPU=y\n"), Some(Decompressors::PerPossibleCpu));
        assert_eq!(of("CONFIG_SQUASHFS_DECOMP_MULTI=y\n"), Some(Decompressors::OnDemand));
        assert_eq!(of("CONFIG_SQUASHFS_DECOMP_SINGLE=y\n"), Some(Decompressors::Single));
        assert_eq!(of("CONFIG_SQUASHFS_COMPILE_DECOMP_SINGLE=y\n"), Some(Decompressors::Single));
        let all = "CONFIG_SQUASHFS_CHOICE_DECOMP_BY_MOUNT=y\nCONFIG_SQUASHFS_DECOMP_SINGLE=y\n\
                   CONFIG_SQUASHFS_DECOMP_MULTI=y\nCONFIG_SQUASHFS_DECOMP_MULTI_PERCPU=y\n";
        assert_eq!(of(all), Some(Decompressors::ByMount));
        assert_eq!(of("CONFIG_SQUASHFS=y\n"), None);
    }

    #[test]
    fn zswap_starts_by_itself_until_6_3() {
        let (off, on) = (config("CONFIG_ZSWAP=y\n"), config("CONFIG_ZSWAP=y\nCONFIG_ZSWAP_DEFAULT_ON=y\n"));
        assert!(off.zswap("6.1.0-50-amd64") && !off.zswap("6.12.117+deb13-amd64"));
        assert!(on.zswap("6.12.117+deb13-amd64") && !config("CONFIG_SWAP=y\n").zswap("6.1.0-50-amd64"));
    }

    #[test]
    fn pages_and_times() {
        assert_eq!(config("CONFIG_PPC_64K_PAGES=y\n").page_size(), Some(65_536));
        assert_eq!(
            config("# CONFIG_ARM64_64K_PAGES is not set\nCONFIG_ARM64_4K_PAGES=y\n").page_size(),
            Some(4096)
        );
        assert_eq!(config("CONFIG_PAGE_SIZE_16KB=y\n").page_size(), Some(16_384));
        assert_eq!(config("CONFIG_X86_64=y\n").page_size(), None);
        assert!(config("CONFIG_INITRAMFS_PRESERVE_MTIME=y\n").preserves_mtime());
        assert!(!config("# CONFIG_INITRAMFS_PRESERVE_MTIME is not set\n").preserves_mtime());
        assert!(config("CONFIG_X86=y\n").preserves_mtime());
    }
}
