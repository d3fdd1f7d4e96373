//! Names of the files that a conversion writes next to an image.

use std::path::{Path, PathBuf};

/// The file next to the image `new` that holds its runtime, if it is separate.
#[must_use]
pub fn runtime_file(new: &Path) -> PathBuf {
    companion(new, crate::contract::paths::SQUASHFS)
}

/// The file next to the image `new` that holds the boot loader entries, if the runtime is separate.
#[must_use]
pub fn entries_file(new: &Path) -> PathBuf {
    companion(new, "boot.txt")
}

fn companion(new: &Path, ending: &str) -> PathBuf {
    let name = new.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".img").unwrap_or(&name);
    new.with_file_name(format!("{stem}.{ending}"))
}
