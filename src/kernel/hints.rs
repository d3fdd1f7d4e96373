//! How to get the modules of a kernel, by the way distributions name their releases.

use super::Release;

/// The endings of Debian's kernel releases.
const DEBIAN: [&str; 12] = [
    "-amd64",
    "-686",
    "-686-pae",
    "-arm64",
    "-arm64-16k",
    "-armmp",
    "-armmp-lpae",
    "-powerpc64le",
    "-powerpc64le-64k",
    "-s390x",
    "-riscv64",
    "-loong64",
];

/// What to type to get the modules of a kernel.
pub(super) fn how_to_get(release: &str) -> String {
    if [".fc", ".el", ".amzn"].iter().any(|mark| release.contains(mark)) {
        format!(
            "on Fedora and its relatives: dnf download kernel-core-{release} kernel-modules-core-{release} \
             kernel-modules-{release}, then --modules FILE.rpm for each"
        )
    } else if release.ends_with("-generic") || release.ends_with("-lowlatency") {
        format!(
            "on Ubuntu: apt-get download linux-modules-{release}, then --modules linux-modules-{release}_….deb"
        )
    } else if DEBIAN.iter().any(|mark| release.ends_with(mark)) {
        debian(release)
    } else if release.ends_with("-default") {
        let version = release.trim_end_matches("-default");
        format!("on openSUSE: zypper download kernel-default-{version}, then --modules FILE.rpm")
    } else {
        format!(
            "give the package (.deb or .rpm), the lib/modules/{release} or the root directory that holds them with \
             --modules PATH"
        )
    }
}

/// Debian split its kernel packages with Linux 7.0: linux-image-VERSION only depends on those that hold something. The
/// configuration and the list of what is built in are in linux-base-VERSION.
fn debian(release: &str) -> String {
    if Release::new(7, 0, 0).reached_by(release) {
        return format!(
            "on Debian: apt-get download linux-base-{release} linux-binary-{release} linux-modules-{release}, then \
             --modules FILE.deb for each"
        );
    }
    format!("on Debian: apt-get download linux-image-{release}, then --modules linux-image-{release}_….deb")
}

/// Whether `release` is a kernel of Red Hat's or its rebuilds' version 8 or later, which are built without btrfs.
/// Oracle's UEK has it.
pub(super) fn without_btrfs(release: &str) -> bool {
    let version = release.split(".el").nth(1).map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (rest[..digits].parse().unwrap_or(0), &rest[digits..])
    });
    version.is_some_and(|(version, rest): (u32, &str)| version >= 8 && !rest.starts_with("uek"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_has_its_own_packages() {
        for (release, words) in [
            ("6.1.0-50-amd64", "apt-get download linux-image-6.1.0-50-amd64"),
            ("6.1.0-50-armmp", "apt-get download linux-image-6.1.0-50-armmp"),
            (
                "7.0.4+deb14-amd64",
                "apt-get download linux-base-7.0.4+deb14-amd64 linux-binary-7.0.4+deb14-amd64 \
                 linux-modules-7.0.4+deb14-amd64, then",
            ),
            ("6.8.0-31-generic", "apt-get download linux-modules-6.8.0-31-generic"),
            ("6.9.5-200.fc40.x86_64", "dnf download kernel-core-6.9.5-200.fc40.x86_64"),
            ("6.4.0-150600.21-default", "zypper download kernel-default-6.4.0-150600.21"),
            ("6.6.30-tinycore", "--modules PATH"),
        ] {
            assert!(how_to_get(release).contains(words), "{}", how_to_get(release));
        }
    }

    #[test]
    fn red_hat_builds_no_btrfs_since_version_8() {
        assert!(without_btrfs("4.18.0-553.el8_10.x86_64") && without_btrfs("5.14.0-427.el9.x86_64"));
        assert!(without_btrfs("6.12.0-55.el10.x86_64"));
        assert!(!without_btrfs("3.10.0-1160.el7.x86_64") && !without_btrfs("5.15.0-200.el8uek.x86_64"));
        assert!(!without_btrfs("6.1.0-50-amd64"));
    }
}
