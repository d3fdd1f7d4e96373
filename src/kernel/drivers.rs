//! Named sets of drivers for front-ends that fetch their runtime or read it from a disk.

/// A driver that a user asked for, by itself or as one of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Driver {
    /// Module name, with `_`.
    pub name: String,
    /// The set it came with: absent members of a set are noted, absent drivers of their own are errors.
    pub set: Option<&'static str>,
}

/// `net`: wired network cards of virtual and real machines, and what DHCP needs.
const NET: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_net",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "r8169",
    "8139cp",
    "8139too",
    "tg3",
    "bnx2",
    "bnxt_en",
    "sky2",
    "skge",
    "forcedeth",
    "atl1c",
    "alx",
    "atlantic",
    "mlx4_en",
    "mlx5_core",
    "vmxnet3",
    "hv_netvsc",
    "xen_netfront",
    "ena",
    "gve",
    "pcnet32",
    "ne2k_pci",
    "via_rhine",
    "cdc_ether",
    "ax88179_178a",
    "asix",
    "smsc95xx",
    "r8152",
    "ibmveth",
    "genet",
    "bcmgenet",
    "stmmac_platform",
    "dwmac_generic",
    "af_packet",
    "broadcom",
    "realtek",
];

/// `storage`: controllers, disks and the file systems on which a squashfs.img may lie.
const STORAGE: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "ahci_platform",
    "ata_piix",
    "ata_generic",
    "nvme",
    "sd_mod",
    "sr_mod",
    "usb_storage",
    "uas",
    "xhci_pci",
    "xhci_plat_hcd",
    "ehci_pci",
    "ehci_platform",
    "ohci_pci",
    "uhci_hcd",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
    "mptsas",
    "mptspi",
    "mpt3sas",
    "megaraid_sas",
    "hv_storvsc",
    "xen_blkfront",
    "vmw_pvscsi",
    "ibmvscsi",
    "isofs",
    "udf",
    "vfat",
    "exfat",
    "nls_cp437",
    "nls_iso8859_1",
    "nls_ascii",
    "nls_utf8",
    "ext4",
    "xfs",
];

/// Expands `net` and `storage`; every other name is a module's.
pub(super) fn expand(names: &[String]) -> Vec<Driver> {
    let mut drivers: Vec<Driver> = Vec::new();
    for name in names {
        let members: Vec<Driver> = match name.as_str() {
            "net" => set("net", NET),
            "storage" => set("storage", STORAGE),
            module => vec![Driver { name: super::canonical(module), set: None }],
        };
        for driver in members {
            match drivers.iter_mut().find(|d| d.name == driver.name) {
                // Asked for by itself as well: now it has to be there.
                Some(old) => old.set = driver.set.and(old.set),
                None => drivers.push(driver),
            }
        }
    }
    drivers
}

fn set(set: &'static str, names: &[&str]) -> Vec<Driver> {
    names.iter().map(|&name| Driver { name: name.into(), set: Some(set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_named_by_itself_has_to_be_there() {
        let drivers = expand(&["net".into(), "storage".into(), "virtio-net".into()]);
        let find = |name: &str| drivers.iter().filter(|d| d.name == name).collect::<Vec<_>>();
        assert_eq!(find("virtio_net"), [&Driver { name: "virtio_net".into(), set: None }]);
        assert_eq!(find("virtio_pci"), [&Driver { name: "virtio_pci".into(), set: Some("net") }]);
        assert!(drivers.iter().all(|d| !d.name.contains('-')));
    }
}
