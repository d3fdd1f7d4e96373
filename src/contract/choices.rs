//! What a converted image was made to do: the values of its configuration.

use std::fmt;

/// What makes the read-only runtime writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// A device-mapper snapshot over the btrfs image.
    DeviceMapper,
    /// overlayfs over the btrfs file system, mounted read-only.
    Overlayfs,
}

/// The file system that holds the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeFormat {
    /// A btrfs image, `LiveOS/rootfs.img`, inside the squashfs.
    Btrfs,
    /// The squashfs itself, under overlayfs.
    Squashfs,
}

/// Where the front-end finds squashfs.img.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeFrom {
    /// In the initramfs, as /squashfs.img.
    Initramfs,
    /// In the initrd that the boot loader placed in memory (`retain_initrd`, /sys/firmware/initrd), never copied.
    Retained,
    /// Fetched from an `http://`, `https://`, `ftp://`, `tftp://` or `nfs:` address.
    Network(String),
    /// On a disk or CD with this label.
    Label(String),
    /// On a disk or CD with this file system UUID.
    Uuid(String),
}

/// How the old first program wants to find the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// It mounts /proc, /sys, /dev and /run itself: all are unmounted before it starts.
    Bare,
    /// systemd or /sbin/init: it gets /proc, /sys, /dev and /run as dracut hands them over.
    Mounted,
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceMapper => "device-mapper snapshot",
            Self::Overlayfs => "overlayfs",
        })
    }
}
