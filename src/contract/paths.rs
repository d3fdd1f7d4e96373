//! Paths of a converted image, without a leading `/`.

/// The init of the boot initramfs.
pub const INIT: &str = "init";
/// The runtime, as a file of the initramfs or of a medium.
pub const SQUASHFS: &str = "squashfs.img";
/// The argument on the kernel's command line that names it.
pub const ROOT_ARGUMENT: &str = "root=live:/squashfs.img";
/// The btrfs image inside the squashfs; a squashfs without it is the runtime itself.
pub const ROOTFS: &str = "LiveOS/rootfs.img";
/// The directory of a live system, on a medium or in a squashfs.
pub const LIVE: &str = "LiveOS";
/// Other places of live images at which people keep the same two files.
pub const OTHER_SQUASHFS: &str = "LiveOS/squashfs.img";
/// The name of the root file system in live images of old.
pub const OTHER_ROOTFS: &str = "LiveOS/ext3fs.img";

/// Everything of ours in the boot initramfs lies in this directory.
pub const OURS: &str = ".btrsquash";
/// What the image was made to do; see [`super::Config`].
pub const CONFIG: &str = ".btrsquash/config";
/// Paths of the boot initramfs itself, one per line; see [`super::Own`].
pub const OWN: &str = ".btrsquash/own";
/// Paths that neither belong to the boot initramfs nor were appended, such as early microcode, one per line.
pub const NOT_CARRIED: &str = ".btrsquash/not-carried";
/// Kernel modules: `VERSION/FILE.ko` and `VERSION/order`, the files in the order in which they are loaded.
pub const MODULES: &str = ".btrsquash/modules";
/// Kernel modules that are needed only after the squashfs is mounted, inside the squashfs, in the same form.
pub const LATE_MODULES: &str = "LiveOS/modules";
/// The name of the list of modules in `VERSION/`.
pub const ORDER: &str = "order";
/// Size and XXH64 of the squashfs as it was made.
pub const CHECKSUM: &str = ".btrsquash/squashfs";
/// Size and SHA-256 of a squashfs that is fetched over a network; see [`super::sha256::Fetched`].
pub const FETCHED: &str = ".btrsquash/fetched";
/// Offset and size of a retained squashfs in the image.
pub const RETAINED: &str = ".btrsquash/retained";
/// The entry whose body is a retained squashfs.
pub const RETAINED_ENTRY: &str = ".btrsquash/squashfs.img";
/// Alignment of a retained squashfs in the image: any block size of a loop device divides it.
pub const RETAINED_ALIGNMENT: u64 = 4096;
/// The part of the kernel's command line that travels in the image.
pub const CMDLINE: &str = "etc/cmdline.d/20-btrsquash.conf";
/// The directory with all such parts.
pub const CMDLINE_DIR: &str = "etc/cmdline.d";
/// The source of the overlayfs in /proc/mounts; dracut calls it the same.
pub const OVERLAY: &str = "LiveOS_rootfs";
/// The runtime is mounted here before switch_root.
pub const SYSROOT: &str = "sysroot";
/// A tree that is laid over the runtime, by a convention of dracut's live images.
pub const UPDATES: &str = "updates";
/// The init of an initramfs whose system is a file inside, which is read in the retained initrd: it gets its name back.
pub const KEPT_INIT: &str = ".btrsquash/init";
/// Mount points inside [`OURS`]: the squashfs, the btrfs below an overlayfs, what is written, and a medium.
pub const MOUNT_LIVE: &str = ".btrsquash/live";
/// See [`MOUNT_LIVE`].
pub const MOUNT_LOWER: &str = ".btrsquash/lower";
/// See [`MOUNT_LIVE`].
pub const MOUNT_WRITABLE: &str = ".btrsquash/rw";
/// See [`MOUNT_LIVE`].
pub const MOUNT_MEDIUM: &str = ".btrsquash/media";

/// See [`MOUNT_LIVE`]; what was fetched over a network.
pub const MOUNT_FETCHED: &str = ".btrsquash/net";

/// dracut's own init, which ours starts.
pub const DRACUT_INIT: &str = ".btrsquash/dracut-init";
/// The functions of our dracut hooks.
pub const DRACUT_HOOKS: &str = ".btrsquash/hooks.sh";
/// What the kernel gave to the init, and the paths that were found to be appended: kept while dracut's init runs.
pub const DRACUT_STATE: &str = ".btrsquash/started";
/// A `lib/modules` for modprobe and udev.
pub const DRACUT_MODULES: &str = ".btrsquash/lib/modules";

/// The probe of `boot --measure`, and the file that names the init it starts.
pub const PROBE: &str = ".btrsquash-probe";
/// See [`PROBE`].
pub const PROBE_NEXT: &str = ".btrsquash-probe.next";

/// Where images of format 1 with dracut's initramfs kept these files.
pub mod format_1 {
    /// The directory.
    pub const DRACUT: &str = "usr/lib/btrsquash";
    /// Paths of the boot initramfs itself, each behind `./`.
    pub const DRACUT_OWN: &str = "usr/lib/btrsquash/own";
    /// As [`super::NOT_CARRIED`], each behind `./`.
    pub const DRACUT_NOT_CARRIED: &str = "usr/lib/btrsquash/not-carried";
    /// Present for a bare handover.
    pub const DRACUT_BARE: &str = "usr/lib/btrsquash/bare";
    /// The time of every entry of a boot initramfs that dracut made: 2005-04-06 21:19:15 UTC.
    pub const DRACUT_TIME: i64 = 1_112_822_355;
}
