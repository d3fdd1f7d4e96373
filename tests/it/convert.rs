//! The main job, end to end: a real installer in, an image out that boots where the original cannot.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::btrfs::COMPARE;
use crate::support::{
    FIRST_SCREEN, INSTALLER, boot, btrsquash, converted, have, installer, kernel_package, reaches, root, run,
    sh, skip,
};

/// A directory that anyone may enter and write to, whatever directory the tests themselves lie in.
fn open_directory() -> tempfile::TempDir {
    let dir =
        tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o777)).tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    dir
}

/// The gtk installer as `nobody` converts it with the host's dracut, made once: the image, its directory, and the peak of
/// memory in KiB.
fn by_nobody() -> Option<&'static (tempfile::TempDir, PathBuf, u64)> {
    static MADE: OnceLock<Option<(tempfile::TempDir, PathBuf, u64)>> = OnceLock::new();
    MADE.get_or_init(|| {
        let ((initrd, _), package) = (installer("gtk")?, kernel_package()?);
        if !(have("dracut") && have("time")) {
            return None;
        }
        let dir = open_directory();
        let inside = |from: &Path, name: &str| {
            let to = dir.path().join(name);
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).unwrap();
            to
        };
        let binary = inside(Path::new(env!("CARGO_BIN_EXE_btrsquash")), "btrsquash");
        let old = inside(&initrd, "initrd.gz");
        let package = inside(&package, "linux-image.deb");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "time"]);
            command
        } else {
            skip("only root can become nobody: converted as the user at hand");
            Command::new("time")
        };
        command.args(["-f", "%M", "-o"]).arg(dir.path().join("peak"));
        command
            .arg(binary)
            .arg("convert")
            .arg(&old)
            .arg("--modules")
            .arg(package)
            .args(["--front-end", "dracut"]);
        let output = run(command.current_dir(dir.path()).env("TMPDIR", dir.path()));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("73.3 MB → 5") && text.contains("computed"), "{text}");
        // Without -o: OLD's name with another ending, in the current directory.
        let image = dir.path().join("initrd.btrsquash.img");
        let peak = std::fs::read_to_string(dir.path().join("peak")).unwrap().trim().parse().unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 5, "temporary files are left: {left:?}");
        Some((dir, image, peak))
    })
    .as_ref()
}

/// The same image with the built-in front-end.
pub fn built_in() -> Option<PathBuf> {
    let ((initrd, _), package) = (installer("gtk")?, kernel_package()?);
    let arguments = ["--front-end", "built-in", "--modules", package.to_str()?];
    Some(converted("gtk-built-in", &initrd, &arguments))
}

#[test]
fn nobody_converts_the_installer_and_it_boots_where_the_original_panics() {
    let (Some((_, image, _)), Some((_, kernel))) = (by_nobody(), installer("gtk")) else { return };
    let size = std::fs::metadata(image).unwrap().len();
    assert!(size <= 60_000_000, "{size} bytes");
    if !have("qemu-system-x86_64") {
        return;
    }
    // The original panics with 512: tests/it/vm.rs.
    let (booted, report) = boot(image, &kernel, 288, INSTALLER, FIRST_SCREEN, &[]);
    assert!(booted, "{report:#}");
}

/// Takes squashfs.img out of a converted image with GNU cpio, which reads the first archive only.
fn squashfs(image: &Path, dir: &Path) -> PathBuf {
    sh(dir, "cpio -idm --quiet --no-absolute-filenames squashfs.img <\"$1\"", &[image]);
    dir.join("squashfs.img")
}

#[test]
fn the_runtime_is_what_cpio_unpacks_to_the_last_inode() {
    let (Some((_, image, _)), Some((old, _))) = (by_nobody(), installer("gtk")) else { return };
    if !have("btrfs") || !have("bsdcpio") || !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    squashfs(image, dir.path());
    let script = format!(
        "mkdir s m; trap 'umount -q m s || true' EXIT
        mount -o loop,ro squashfs.img s
        btrfs check --readonly --check-data-csum s/LiveOS/rootfs.img >check.txt 2>&1
        grep -q 'no error found' check.txt && ! grep -qi warning check.txt || {{ cat check.txt; exit 1; }}
        mount -o loop,ro s/LiveOS/rootfs.img m
        {COMPARE}"
    );
    let out = sh(dir.path(), &script, &[Path::new("-"), &old]);
    assert!(out.trim().ends_with("paths equal") && out.lines().count() == 1, "{out}");
}

/// A kernel like Debian's, but built without btrfs: its package, unpacked without that module and with a configuration
/// that says so.
fn kernel_without_btrfs() -> Option<PathBuf> {
    let package = kernel_package()?;
    if !have("dpkg-deb") {
        return None;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without-btrfs");
    std::fs::create_dir_all(&dir).unwrap();
    sh(
        &dir,
        r#"dpkg-deb --fsys-tarfile "$1" | tar x ./lib ./boot
        rm -r lib/modules/*/kernel/fs/btrfs
        sed -i 's/^CONFIG_BTRFS_FS=.*/# CONFIG_BTRFS_FS is not set/' boot/config-*"#,
        &[&package],
    );
    Some(dir)
}

#[test]
fn a_kernel_without_btrfs_gets_the_same_system_as_a_squashfs() {
    let (Some((old, kernel)), Some(modules)) = (installer("text"), kernel_without_btrfs()) else { return };
    let arguments =
        ["--front-end", "built-in", "--compression", "gzip", "--modules", modules.to_str().unwrap()];
    // It is verified there.
    let image = converted("text-squashfs", &old, &arguments);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(image.with_extension("json")).unwrap()).unwrap();
    let choices = report["choices"].as_array().unwrap();
    let format = choices.iter().find(|choice| choice["what"] == "runtime format").unwrap().to_string();
    assert!(format.contains("CONFIG_BTRFS_FS is not set"), "{format}");
    if have("bsdcpio") && root() {
        let dir = tempfile::tempdir().unwrap();
        squashfs(&image, dir.path());
        let script =
            format!("mkdir m; trap 'umount -q m || true' EXIT\nmount -o loop,ro squashfs.img m\n{COMPARE}");
        let out = sh(dir.path(), &script, &[Path::new("-"), &old]);
        assert!(out.trim().ends_with("paths equal") && out.lines().count() == 1, "{out}");
    }
    if have("qemu-system-x86_64") {
        reaches(&image, &kernel, 192, INSTALLER, FIRST_SCREEN, &[]);
    }
}

#[test]
fn optimize_decides_on_what_was_left_open() {
    let (Some((old, _)), Some(package)) = (installer("text"), kernel_package()) else { return };
    let chosen = |arguments: &[&str]| {
        let mut command = btrsquash();
        command.arg("convert").arg(&old).arg("--modules").arg(&package).args(arguments);
        let output = run(command.args(["--dry-run", "--json"]));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let choices = report["choices"].as_array().unwrap().clone();
        move |what: &str| {
            let choice = choices.iter().find(|choice| choice["what"] == what).unwrap();
            format!("{}: {}", choice["chosen"].as_str().unwrap(), choice["why"].as_str().unwrap())
        }
    };
    let ram = chosen(&["--optimize", "ram"]);
    assert_eq!(ram("front-end"), "built-in: --optimize ram: the smallest, and it starts the fastest");
    assert!(ram("runtime format").starts_with("the squashfs itself"), "{}", ram("runtime format"));
    assert!(ram("squashfs").contains("thorough search"), "{}", ram("squashfs"));
    let speed = chosen(&["--optimize", "speed"]);
    assert!(speed("squashfs").starts_with("zstd") && speed("runtime format").starts_with("btrfs"));
    // What the user says stands.
    let named = chosen(&["--optimize", "size", "--runtime-format", "btrfs", "--compression", "gzip"]);
    assert!(named("runtime format").starts_with("btrfs"), "{}", named("runtime format"));
    assert!(named("squashfs").starts_with("gzip, blocks of 1024 KiB"), "{}", named("squashfs"));
    assert!(!named("squashfs").contains("thorough"), "{}", named("squashfs"));
}

#[test]
fn two_conversions_give_one_squashfs() {
    let (Some((_, first, peak)), Some(second)) = (by_nobody(), built_in()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let [first, second] = [(first.as_path(), "a"), (second.as_path(), "b")]
        .map(|(image, name)| squashfs(image, &directory(name)));
    sh(dir.path(), "cmp \"$1\" \"$2\"", &[&first, &second]);
    // Largest of btrsquash and what it runs.
    assert!(*peak <= 400 << 10, "{peak} KiB at the peak");
}

#[test]
fn other_tools_read_their_parts() {
    let Some((_, image, _)) = by_nobody() else { return };
    if !["lsinitrd", "bsdcpio", "unsquashfs", "unmkinitramfs"].into_iter().all(have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let squashfs = squashfs(image, dir.path());
    let listed = sh(dir.path(), "unsquashfs -lc \"$1\"", &[&squashfs]);
    assert!(listed.contains("squashfs-root/LiveOS/rootfs.img"), "{listed}");
    let first = sh(dir.path(), "bsdcpio -it --quiet <\"$1\"", &[image]);
    assert!(first.lines().any(|line| line == "squashfs.img"), "{first}");
    // It lists the first archive of an image, whatever follows.
    let first = sh(dir.path(), "lsinitrd \"$1\"", &[image]);
    assert!(first.contains("squashfs.img") && first.contains("etc/cmdline.d/20-btrsquash.conf"), "{first}");
    sh(dir.path(), "unmkinitramfs \"$1\" parts", &[image]);
    let whole = sh(dir.path(), "find parts -name dmsquash-live-root -o -name squashfs.img", &[]);
    assert!(whole.contains("squashfs.img") && whole.contains("dmsquash-live-root"), "{whole}");
}

/// Runs convert and says its exit code and what it says on stderr; nothing may be written.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = btrsquash().arg("convert").args(arguments).current_dir(dir.path()).output().unwrap();
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a refused conversion leaves files");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_cannot_be_converted_is_refused_with_one_clear_error() {
    let Some((initrd, kernel)) = installer("text") else { return };
    let text = initrd.to_str().unwrap();

    // It has no squashfs, btrfs, loop or dm modules: each is named, and how to get them.
    let (code, error) = refused(&[text, "--front-end", "built-in"]);
    assert_eq!(code, Some(4), "{error}");
    for word in ["loop", "squashfs", "btrfs", "dm-snapshot", "apt-get download linux-image-6.1."] {
        assert!(error.contains(word), "{error}");
    }
    let (code, error) = refused(&[kernel.to_str().unwrap()]);
    assert!(code == Some(3) && error.contains("byte 0") && error.contains("segment 1"), "{error}");
    let (code, error) = refused(&["/nonexistent"]);
    assert!(code == Some(2) && error.contains("/nonexistent"), "{error}");
    let (code, error) = refused(&[text, "--max-unpacked", "1M"]);
    assert!(code == Some(3) && error.contains("--max-unpacked"), "{error}");
    let (code, error) = refused(&[text, "--block-size", "3K"]);
    assert!(code == Some(2), "{error}");
    if let Some(done) = built_in() {
        let (code, error) = refused(&[done.to_str().unwrap()]);
        assert!(code == Some(3) && error.contains("already converted"), "{error}");
    }
    let (code, error) = refused(&[text, "-o", "/nonexistent/x.img"]);
    assert!(code == Some(2) && error.contains("/nonexistent/x.img"), "{error}");
}

#[test]
fn the_readmes_first_command_converts_and_shows_the_report() {
    if installer("gtk").is_none() {
        return;
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    // zstd is quicker, and what the command passes on.
    let output =
        run(Command::new("samples/convert-installer").current_dir(directory).args(["--compression", "zstd"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Size by part") && text.contains("minimum RAM"), "{text}");
    assert!(directory.join("target/demo/gtk.btrsquash.img").exists());
    let page = std::fs::read_to_string(directory.join("target/demo/report.html")).unwrap();
    assert!(page.contains("gtk.btrsquash.img"));
}

#[test]
fn an_existing_file_is_kept_unless_forced() {
    let Some((initrd, _)) = installer("text") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.img");
    std::fs::write(&path, "mine").unwrap();
    let output = btrsquash().arg("convert").arg(&initrd).arg("-o").arg(&path).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn an_ordinary_front_end_is_told_from_a_system() {
    if !have("dracut") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    sh(
        dir.path(),
        "mkdir c; dracut --conf /dev/null --confdir \"$PWD/c\" --no-kernel --no-hostonly --force -m 'base rootfs-block' \
         \"$PWD/initramfs.img\" none >log 2>&1 || { cat log; exit 1; }",
        &[],
    );
    let (code, error) = refused(&[dir.path().join("initramfs.img").to_str().unwrap()]);
    assert!(code == Some(3) && error.contains("dracut") && error.contains("--assume-monolith"), "{error}");
}

#[test]
fn the_binary_runs_on_any_distribution() {
    // A static program: no interpreter asks for a C library.
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_btrsquash")).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("statically linked") || text.contains("not a dynamic executable"), "{text}");
}
