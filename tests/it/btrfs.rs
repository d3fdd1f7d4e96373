//! The image against btrfs-progs and the kernel.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use btrsquash::btrfs::{self, Features, Options};
use btrsquash::bytes::ReadAt;
use btrsquash::initrd;
use btrsquash::tree::Tree;

use crate::support::{have, installer, root, run, sh};

/// Writes the image as a sparse file.
pub fn write(image: &dyn ReadAt, path: &Path) {
    let mut file = File::create(path).unwrap();
    file.set_len(image.len()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < image.len() {
        let count = (image.len() - at).min(1 << 20) as usize;
        image.read_exact_at(&mut buffer[..count], at).unwrap();
        if buffer[..count].iter().any(|&b| b != 0) {
            std::os::unix::fs::FileExt::write_all_at(&file, &buffer[..count], at).unwrap();
        }
        at += count as u64;
    }
    file.flush().unwrap();
}

/// The options that a kernel gets.
pub fn options(release: &str) -> Options {
    Options {
        features: Features::for_kernel(release),
        free_space: 1 << 30,
        time: 1_600_000_000,
        block_size: 1 << 20,
    }
}

/// What the installer's initrd unpacks to.
pub fn installer_tree(flavour: &str) -> Option<Tree> {
    let (file, _) = installer(flavour)?;
    let source = File::open(&file).unwrap();
    Some(initrd::read(&source, &file, &initrd::Limits::default(), &|_| ()).unwrap().tree)
}

/// Compares the mounted directory `m` with what GNU cpio and bsdcpio unpack from the gzip-compressed archive `$2`: type,
/// mode, owner, size, time, link count, device number, target and content of every path. GNU cpio gives symbolic links
/// no time; it makes directories before their content, so a second pass over them alone gives them theirs.
pub const COMPARE: &str = r#"
manifest() { (
    cd "$1"
    find . -xdev -mindepth 1 -type d -printf '%p|%y|%m|%U|%G|%T@\n' -o \
        \( -type c -o -type b \) -exec stat -c '%n|%F|%a|%u|%g|%Y|%h|%t:%T' {} + -o \
        -printf '%p|%y|%m|%U|%G|%s|%T@|%n|%l\n' | sed 's/\.0000000000//' | LC_ALL=C sort
    find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
); }
without_link_times() { sed -E 's/^([^|]*\|l\|([^|]*\|){4})[0-9.]+/\1-/' "$1"; }
mkdir gnu bsd
(
    cd gnu
    zcat "$2" | cpio -idm --quiet --no-absolute-filenames
    zcat "$2" | cpio -itv --quiet | sed -n 's/^d.*[0-9] \([^ ]*\)$/\1/p' >../directories
    zcat "$2" | cpio -idmu --quiet --no-absolute-filenames -E ../directories
)
(cd bsd && zcat "$2" | bsdcpio -idm --quiet)
for tree in m gnu bsd; do manifest $tree >$tree.txt; done
# /root is the kernel's own.
grep -vxF './root|d|700|0|0|0' m.txt >image.txt
diff bsd.txt image.txt
diff <(without_link_times gnu.txt) <(without_link_times image.txt)
echo "$(grep -c '|' image.txt) paths equal"
"#;

fn check(image: &Path) {
    let output = run(std::process::Command::new("btrfs").args(["check", "--check-data-csum"]).arg(image));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no error found") && !text.to_lowercase().contains("warning"), "{text}");
}

#[test]
fn the_installer_satisfies_btrfs_check_and_the_kernel() {
    let Some(tree) = installer_tree("text") else { return };
    if !have("btrfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for release in ["2.6.38", "3.5.0", "6.1.0-50-amd64"] {
        let image = btrfs::plan(&tree, &options(release)).unwrap();
        let path = dir.path().join(release);
        write(&image, &path);
        check(&path);
    }
    if root() {
        let (initrd, _) = installer("text").unwrap();
        let script = format!(
            "mkdir m; mount -o loop,ro \"$1\" m; trap 'umount m' EXIT
            {COMPARE}"
        );
        let out = sh(dir.path(), &script, &[&dir.path().join("6.1.0-50-amd64"), &initrd]);
        assert!(out.trim().len() < 30 && out.trim().ends_with("paths equal"), "{out}");
    }
}
