//! What of the initramfs is the front-end's own and stays behind: all else was appended and goes into the runtime. The
//! init goes by this at boot, and btrsquash itself where it says what an image holds.

use std::collections::BTreeSet;

/// What stays behind, with all that is in it.
const OURS: [&str; 9] = [
    "/init",
    "/.btrsquash",
    "/sysroot",
    "/squashfs.img",
    "/updates",
    "/proc",
    "/sys",
    "/dev",
    "/.btrsquash-probe",
];
/// The file that names the root, and the folders that were made for it.
const CMDLINE: &str = "/etc/cmdline.d/20-btrsquash.conf";
const ITS_FOLDERS: [&str; 2] = ["/etc", "/etc/cmdline.d"];

/// The names in a folder, links to it followed; `None` where the path is no folder. Paths begin with `/`.
pub type Names<'a> = &'a dyn Fn(&str) -> Option<Vec<String>>;

/// What stays behind.
pub struct Own {
    not_carried: BTreeSet<String>,
}

impl Own {
    /// By the image's list of paths that are neither the front-end's nor appended, a line each.
    #[must_use]
    pub fn new(not_carried: &str) -> Self {
        Self { not_carried: not_carried.lines().map(|line| format!("/{line}")).collect() }
    }

    /// Whether `path` stays behind with all that is in it. Folders of ours hold nothing else unless someone put it there.
    #[must_use]
    pub fn stays(&self, path: &str, names: Names<'_>) -> bool {
        let holds_only = |mine: &dyn Fn(&str) -> bool| names(path).is_some_and(|_| only(path, names, mine));
        OURS.contains(&path)
            || path == CMDLINE
            || (path == "/root" && holds_only(&|_| false))
            || (ITS_FOLDERS.contains(&path) && holds_only(&|p| p == CMDLINE || ITS_FOLDERS.contains(&p)))
            || (self.not_carried.contains(path) && only(path, names, &|p| self.not_carried.contains(p)))
    }
}

/// Whether everything in the folder `path`, however deep, is `mine`.
fn only(path: &str, names: Names<'_>, mine: &dyn Fn(&str) -> bool) -> bool {
    let mut todo = vec![path.to_owned()];
    while let Some(folder) = todo.pop() {
        for name in names(&folder).unwrap_or_default() {
            let path = format!("{folder}/{name}");
            if !mine(&path) {
                return false;
            }
            todo.push(path);
        }
    }
    true
}
