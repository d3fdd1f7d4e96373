//! Runtimes that the built-in boot initramfs fetches: HTTP and TFTP, and what it says when that fails.

use std::path::{Path, PathBuf};

use crate::support::server::Server;
use crate::support::{console, converted, have, installer, kernel_package, reaches, sh};

/// What the small system says.
const UP: &str = "the small system is up";

/// A system of busybox that says that it is up, whether the network is as the kernel left it, and its kernel.
fn small(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    if !["busybox", "cpio", "gzip", "qemu-system-x86_64"].into_iter().all(have) {
        return None;
    }
    let (_, kernel) = installer("text")?;
    let script = format!(
        r#"mkdir -p tree/bin tree/proc tree/sys tree/dev; cd tree
        cp "$(command -v busybox)" bin/busybox; ln -s busybox bin/sh
        printf '%s\n' '#!/bin/sh' 'b=/bin/busybox' '$b mount -t sysfs sysfs /sys' \
            '$b echo "flags $($b cat /sys/class/net/eth0/flags)"' \
            '$b echo "{UP}"' 'while :; do $b sleep 9; done' >init
        chmod 755 init
        find . | sort | cpio -o -H newc --quiet -R 0:0 | gzip -n >../small.gz"#
    );
    sh(dir, &script, &[]);
    Some((dir.join("small.gz"), kernel))
}

/// QEMU's own network, with TFTP of the files in `tftp`.
fn network(tftp: &Path) -> [String; 2] {
    ["--qemu=-nic".to_owned(), format!("--qemu=user,model=virtio-net-pci,tftp={}", tftp.display())]
}

#[test]
fn a_runtime_is_fetched_by_http_and_tftp_or_the_console_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let (Some((initrd, kernel)), Some(package)) = (small(dir.path()), kernel_package()) else { return };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("converted");
    let server = Server::of(directory.join("small-net.squashfs.img"));
    let (address, kernel_path) = (server.url("small-net.squashfs.img"), kernel.display().to_string());
    let arguments = [
        "--assume-monolith",
        "--runtime-from",
        &address,
        "--drivers",
        "virtio_pci,virtio_net",
        "--compression",
        "zstd",
        "--kernel",
        &kernel_path,
        "--modules",
        package.to_str().unwrap(),
    ];
    let image = converted("small-net", &initrd, &arguments);
    let network = network(&directory);
    let more: Vec<&str> = network.iter().map(String::as_str).collect();

    // Nothing on the command line: DHCP, and the address that the image was made for.
    let text = reaches(&image, &kernel, 192, "rd.info", UP, &more);
    assert!(
        text.contains("eth0 has the address 10.0.2.15") && text.contains("route to 0.0.0.0/0 by 10.0.2.2"),
        "{text}"
    );
    // IFF_UP is the last bit: the runtime finds the card as the kernel left it.
    assert!(text.contains("flags 0x1002"), "{text}");
    let append = format!("ip=10.0.2.77::10.0.2.2:255.255.255.0::eth0:none root=live:{}", server.url("moved"));
    let text = reaches(&image, &kernel, 192, &append, UP, &more);
    assert!(
        text.contains("eth0 has the address 10.0.2.77") && text.contains("trying again in 1 s"),
        "{text}"
    );
    let requests = server.requests();
    let resumed =
        requests.iter().find_map(|request| request.strip_prefix("/interrupted ")).unwrap_or_default();
    assert!(resumed.trim_end_matches('-').parse::<u64>().is_ok_and(|from| from > 100_000), "{requests:?}");
    let append = "ip=eth0:dhcp root=live:tftp://10.0.2.2/small-net.squashfs.img";
    reaches(&image, &kernel, 192, append, UP, &more);

    let fails = |path: &str, more: &[&str], words: &[&str]| {
        let append = format!("rd.timeout=2 root=live:{}", server.url(path));
        let (booted, text) = console(&image, &kernel, 192, &append, UP, more);
        assert!(!booted && text.contains("cannot continue"), "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    fails("missing", &more, &["/missing: the server says 404 Not Found", "put the squashfs of this image"]);
    fails("longer", &more, &["it is not the runtime of this image"]);
    fails("changed", &more, &["has the SHA-256", "each conversion makes another one"]);
    fails("chunked", &[], &["no network card appeared in 2 seconds", "--drivers net"]);
}
