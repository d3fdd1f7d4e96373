//! The command line of this boot: /etc/cmdline.d/*.conf, then /proc/cmdline, as dracut reads them.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::paths;

use crate::console::say;

/// Reads all parts.
pub(crate) fn read() -> Arguments {
    let directory = Path::new("/").join(paths::CMDLINE_DIR);
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .map(|dir| dir.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    let mut text = String::new();
    for file in files.into_iter().chain([PathBuf::from("/proc/cmdline")]) {
        // No argument of ours holds bytes that are not UTF-8.
        text.push_str(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()));
        text.push('\n');
    }
    Arguments::parse(&text)
}

/// Prints a detail if rd.debug or rd.info asks for it.
pub(crate) fn detail(arguments: &Arguments, text: impl Display) {
    if arguments.is_set("rd.debug") || arguments.is_set("rd.info") {
        say(&text.to_string());
    }
}

/// Whether overlayfs is asked for: by `rd.live.overlay.overlayfs`, `rd.overlayfs` or, since dracut-ng 110, `rd.overlay`.
pub(crate) fn overlayfs(arguments: &Arguments) -> Option<bool> {
    arguments.switch(&["rd.live.overlay.overlayfs", "rd.overlayfs", "rd.overlay.overlayfs", "rd.overlay"])
}
