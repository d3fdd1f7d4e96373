//! What system is in an image: architecture, kernels, distribution.

use std::collections::BTreeSet;

use super::init::Program;
use super::view::Image;
use crate::elf::machine_of;
use crate::tree::display;

/// The architecture, as `uname -m` names it: of the init, or else of the usual programs.
pub(super) fn architecture(image: &Image<'_>, program: Option<&Program>) -> Option<String> {
    if let Some(machine) = program.and_then(|program| machine_of(&program.head)) {
        return Some(machine.into());
    }
    let usual = ["bin/busybox", "bin/sh", "bin/bash", "sbin/init", "usr/bin/env", "bin/ls"];
    let machine = |id| machine_of(&image.head(id, 64)?);
    usual
        .iter()
        .filter_map(|path| image.0.resolve(path))
        .find_map(machine)
        .or_else(|| image.0.walk().map(|entry| entry.id).find_map(machine))
        .map(str::to_owned)
}

/// The names below lib/modules, sorted.
pub(super) fn kernels(image: &Image<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for directory in ["lib/modules", "usr/lib/modules"] {
        let names = image.0.resolve(directory).and_then(|id| image.0.names(id)).into_iter().flatten();
        found.extend(names.filter(|(_, id)| image.0.names(**id).is_some()).map(|(name, _)| display(name)));
    }
    found.into_iter().collect()
}

/// The value of `key` in a file of shell assignments, such as os-release(5).
fn value(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// The distribution, as it calls itself.
pub(super) fn distribution(image: &Image<'_>) -> Option<String> {
    for path in ["etc/os-release", "usr/lib/os-release", "etc/initrd-release", "usr/lib/initrd-release"] {
        if let Some(text) = image.text(path)
            && let Some(name) = value(&text, "PRETTY_NAME").or_else(|| value(&text, "NAME"))
        {
            return Some(name);
        }
    }
    if let Some(text) = image.text("etc/lsb-release")
        && let Some(name) = value(&text, "DISTRIB_DESCRIPTION").or_else(|| value(&text, "DISTRIB_ID"))
    {
        let release = value(&text, "DISTRIB_RELEASE").filter(|release| !name.contains(release));
        return Some(release.map_or(name.clone(), |release| format!("{name} {release}")));
    }
    // Anaconda's images; before 2011 without keys, then an ini file.
    if let Some(text) = image.text(".buildstamp") {
        let product = value(&text, "Product").zip(value(&text, "Version"));
        let lines: Vec<&str> = text.lines().collect();
        return product
            .map(|(product, version)| format!("{product} {version}"))
            .or_else(|| Some(format!("{} {}", lines.get(1)?, lines.get(2)?)));
    }
    let line = |path: &str| image.text(path)?.lines().next().map(|line| line.trim().to_owned());
    ["etc/redhat-release", "etc/SuSE-release", "etc/slackware-version"]
        .iter()
        .find_map(|path| line(path))
        .or_else(|| line("etc/alpine-release").map(|version| format!("Alpine Linux {version}")))
        .or_else(|| line("etc/debian_version").map(|version| format!("Debian {version}")))
        .or_else(|| image.has("etc/arch-release").then(|| "Arch Linux".to_owned()))
        .or_else(|| line("etc/default-release").map(|name| format!("Debian {name}")))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_of_old() {
        let name = |path: &str, text: &str| {
            distribution(&Image(&crate::tree::build::tree(&[(path, text.as_bytes())], &[])))
        };
        assert_eq!(name(".buildstamp", "201111\nFedora\n15\n").as_deref(), Some("Fedora 15"));
        assert_eq!(name(".buildstamp", "[Main]\nProduct=Fedora\nVersion=16\n").as_deref(), Some("Fedora 16"));
        assert_eq!(name("etc/alpine-release", "3.19.1\n").as_deref(), Some("Alpine Linux 3.19.1"));
        assert_eq!(name("etc/x", ""), None);
    }
}
