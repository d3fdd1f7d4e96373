//! The host's dracut as front-end: a system with systemd, a runtime over the network, appended files, clear failures.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{
    FIRST_SCREEN, INSTALLER, boot, btrsquash, converted, have, installer, kernel_package, reaches, root, run,
    sh, systemd_image, told,
};

/// Whether what these tests run is there.
fn tools() -> bool {
    ["dracut", "qemu-system-x86_64", "cpio"].into_iter().all(have)
}

/// A copy of `image` with an archive behind it, packed by GNU cpio and `through`, of the files that `script` makes.
pub fn appended(dir: &Path, image: &Path, script: &str, through: &str) -> PathBuf {
    let made = dir.join("appended.img");
    let script = format!(
        "mkdir add; (cd add; {script}; find . -mindepth 1 | cpio --quiet -H newc -R 0:0 -o | {through} >../add.cpio)
        cp \"$1\" appended.img; truncate -s %4 appended.img; cat add.cpio >>appended.img"
    );
    sh(dir, &script, &[image]);
    made
}

/// Memory in which the system cannot be unpacked as it was, and reaches its login prompt converted.
pub const SYSTEMD_MIB: u64 = 512;

/// On overlayfs; tests/it/built_in.rs has such a system on a device-mapper snapshot.
#[test]
fn a_system_with_systemd_reaches_its_login_prompt() {
    let Some((initrd, kernel)) = systemd_image().filter(|_| tools()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (booted, report) = boot(&initrd, &kernel, SYSTEMD_MIB, "", "login:", &[]);
    assert!(!booted && report["outcome"].as_str().unwrap().contains("npacking"), "{report:#}");
    let image = converted(
        "systemd-dracut",
        &initrd,
        &["--front-end", "dracut", "--overlay", "overlayfs", "--compression", "gzip"],
    );
    let image =
        appended(dir.path(), &image, "echo hello >appended; mkdir etc; echo replaced >etc/motd", "gzip");
    let text = reaches(&image, &kernel, SYSTEMD_MIB, "", "login:", &[]);
    assert_eq!(told(&text, "file").trim(), "written");
    let mounts = told(&text, "mount");
    let root = mounts.lines().next().unwrap();
    assert!(root.starts_with("/ ") && root.contains("overlay rw"), "{mounts}");
    for place in ["/proc", "/sys", "/dev", "/run"] {
        assert!(mounts.lines().any(|line| line.starts_with(place)), "{mounts}");
    }
    let carried = told(&text, "appended");
    assert!(carried.contains("hello") && carried.contains("replaced"), "{carried}");
    assert!(told(&text, "init").contains("/init"), "{}", told(&text, "init"));
}

/// Serves one file to as many as ask for it, until the tests end; says its port.
fn serve(file: PathBuf) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
            let mut stream = stream;
            let bytes = std::fs::read(&file).unwrap();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
            let _ = stream.write_all(head.as_bytes());
            if request.starts_with("GET") {
                let _ = stream.write_all(&bytes);
            }
        }
    });
    port
}

#[test]
fn the_runtime_comes_over_http() {
    let (Some((initrd, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !tools() || !["dhclient", "curl", "arping"].into_iter().all(|tool| have(tool) || have_in_sbin(tool)) {
        return;
    }
    // The name is known before there is anything to serve.
    let runtime = Path::new(env!("CARGO_TARGET_TMPDIR")).join("converted/text-http.squashfs.img");
    let port = serve(runtime);
    let address = format!("http://10.0.2.2:{port}/text-http.squashfs.img");
    let arguments = [
        "--front-end",
        "dracut",
        "--runtime-from",
        &address,
        "--drivers",
        "virtio_pci,virtio_net,af_packet",
        "--compression",
        "gzip",
        "--modules",
        package.to_str().unwrap(),
    ];
    let image = converted("text-http", &initrd, &arguments);
    // What is fetched has to fit into rootfs beside the front-end, and the image itself says so.
    let inspected = run(btrsquash().arg("inspect").arg(&image).arg("--json"));
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let runtime = std::fs::metadata(image.with_file_name("text-http.squashfs.img")).unwrap().len();
    let parts = inspected["ram"]["parts"].as_array().unwrap();
    let fetched = parts.iter().find(|part| part["name"] == "F: downloaded").unwrap();
    assert_eq!(fetched["figure"]["value"], runtime, "{inspected:#}");
    let network = ["--qemu=-nic", "--qemu=user,model=virtio-net-pci"];
    let (booted, report) = boot(&image, &kernel, 512, INSTALLER, FIRST_SCREEN, &network);
    assert!(booted, "{report:#}");
}

/// Debian keeps programs of root outside the path of others.
fn have_in_sbin(tool: &str) -> bool {
    Path::new("/usr/sbin").join(tool).is_file() || Path::new("/sbin").join(tool).is_file()
}

#[test]
fn failures_are_named_on_the_console() {
    let (Some((initrd, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !tools() {
        return;
    }
    let arguments =
        ["--front-end", "dracut", "--compression", "gzip", "--modules", package.to_str().unwrap()];
    let image = converted("text-dracut", &initrd, &arguments);
    let fails = |image: &Path, append: &str, because: &str| {
        let (booted, report) = boot(image, &kernel, 512, append, FIRST_SCREEN, &[]);
        let outcome = report["outcome"].as_str().unwrap();
        assert!(!booted && outcome.contains("cannot continue") && outcome.contains(because), "{report:#}");
    };
    fails(&image, "root=live:/elsewhere.img", "no such file in the initramfs");
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.img");
    let mut bytes = std::fs::read(&image).unwrap();
    // Metadata of the squashfs lies at its end, the front-end behind it.
    let start = bytes.windows(4).position(|w| w == b"hsqs").unwrap();
    let size = u64::from_le_bytes(bytes[start + 40..start + 48].try_into().unwrap()) as usize;
    bytes[start + size - 400..start + size].fill(0x55);
    std::fs::write(&damaged, bytes).unwrap();
    fails(&damaged, "", "is damaged: its checksum is");
}

/// Another root's dracut is run in that root; that of Debian 13 is dracut-ng, whose modules are others.
#[test]
fn the_dracut_of_another_root_makes_a_front_end() {
    let (Some((initrd, kernel)), Some(package)) = (installer("text"), kernel_package()) else { return };
    if !(tools() && have("mmdebstrap") && root()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mmdebstrap --quiet --variant=minbase --include=dracut-core,dracut-live,kmod,cpio,dmsetup trixie root \
        $(\"$1\") >&2";
    sh(dir.path(), script, &[&Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/mirror")]);
    let other = dir.path().join("root");
    let arguments = ["--compression", "zstd", "--modules", package.to_str().unwrap(), "--dracut-root"];
    let image = converted("text-dracut-ng", &initrd, &[&arguments[..], &[other.to_str().unwrap()]].concat());
    let report = std::fs::read_to_string(image.with_extension("json")).unwrap();
    assert!(report.contains("were run to make it, as --dracut-root asks"), "{report}");
    let left = std::fs::read_dir(other.join("tmp")).unwrap().count();
    assert_eq!(left, 0, "files are left in the other root");
    let (booted, report) = boot(&image, &kernel, 512, INSTALLER, FIRST_SCREEN, &[]);
    assert!(booted, "{report:#}");
}
