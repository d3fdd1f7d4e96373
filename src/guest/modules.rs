//! Loads the kernel modules that the image brings.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use btrsquash::contract::paths;

use crate::sys;

/// Modules that could not be loaded.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Names that were loaded now.
    pub(crate) names: Vec<String>,
    /// Each with the reason.
    refused: Vec<String>,
    /// Set if the image has modules, but none for the kernel that runs.
    pub(crate) none_for: Option<String>,
}

impl Loaded {
    /// What to add to an error that a missing module explains.
    pub(crate) fn why(&self) -> String {
        let mut words = String::new();
        if let Some(release) = &self.none_for {
            words.push_str(&format!(" (this image has no modules for kernel {release})"));
        }
        if !self.refused.is_empty() {
            words.push_str(&format!(" (not loaded: {})", self.refused.join("; ")));
        }
        words
    }

    /// What to try when a file system or device driver is missing.
    pub(crate) const fn hint(&self) -> &'static str {
        if self.none_for.is_some() {
            "boot the image with the kernel it was made for, or convert it with the --modules of this one"
        } else {
            "the kernel may lack the module: convert the image with the --modules of the kernel that boots"
        }
    }
}

/// The release of the kernel that runs.
pub(crate) fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Whether a module serves the overlay that is not used.
fn superfluous(name: &str, overlayfs: bool) -> bool {
    if overlayfs { matches!(name, "dm_mod" | "dm_bufio" | "dm_snapshot") } else { name == "overlay" }
}

/// Loads the modules for this kernel from the initramfs.
pub(crate) fn load(overlayfs: bool) -> Loaded {
    let directory = Path::new("/").join(paths::MODULES);
    let mut loaded = Loaded::default();
    let release = release();
    if !directory.join(&release).join(paths::ORDER).is_file() {
        let kernels: Vec<String> = fs::read_dir(&directory)
            .map(|dir| dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        if !kernels.is_empty() {
            loaded.none_for = Some(format!("{release}, only for {}", kernels.join(", ")));
        }
        return loaded;
    }
    load_from(&directory.join(&release), overlayfs, &mut loaded);
    loaded
}

/// Loads the modules for this kernel that lie in the squashfs mounted on `live`.
pub(crate) fn load_late(live: &Path, overlayfs: bool, loaded: &mut Loaded) {
    load_from(&live.join(paths::LATE_MODULES).join(release()), overlayfs, loaded);
}

fn load_from(directory: &Path, overlayfs: bool, loaded: &mut Loaded) {
    let order = fs::read_to_string(directory.join(paths::ORDER)).unwrap_or_default();
    for file in order.lines() {
        let path: PathBuf = directory.join(file);
        let name = path.file_stem().map(|stem| stem.to_string_lossy().replace('-', "_")).unwrap_or_default();
        if superfluous(&name, overlayfs) {
            continue;
        }
        let result = File::open(&path).and_then(|file| sys::load_module(&file, || fs::read(&path)));
        match result {
            Ok(()) => loaded.names.push(name),
            // Built in, or loaded already.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => loaded.refused.push(format!("{name}: {e}")),
        }
    }
}
