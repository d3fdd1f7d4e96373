//! Paths of a converted image, without a leading `/`.

/// Name of the file that names the root, in the image.
pub const CMDLINE_FILE: &str = "etc/cmdline.d/20-btrsquash.conf";

/// Name of the entry whose body is a retained squashfs.
pub const RETAINED_NAME: &str = ".btrsquash/squashfs.img";
/// Alignment of a retained squashfs in the image: what a loop device's offset may be with any block size.
pub const RETAINED_ALIGNMENT: u64 = 4096;
