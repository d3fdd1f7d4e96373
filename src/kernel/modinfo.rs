//! What a kernel module says of itself: the `.modinfo` section and the symbols it wants from others.

use std::collections::BTreeSet;

use goblin::elf::Symtab;
use goblin::elf::section_header::SHT_SYMTAB;

use crate::elf::{Object, text_at};

/// The `.modinfo` of one module (include/linux/module.h, MODULE_INFO) and the machine of its ELF header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// The kernel it was built for: release, then flags such as `SMP preempt mod_unload modversions`.
    pub vermagic: Option<String>,
    /// Modules that have to be loaded before (`depends=`, written by modpost).
    pub depends: Vec<String>,
    /// Modules and aliases that should be loaded before (`softdep=pre: …`).
    pub soft_pre: Vec<String>,
    /// `alias=`.
    pub aliases: Vec<String>,
    /// Its machine as `uname -m` names it.
    pub machine: Option<&'static str>,
}

impl Info {
    /// Reads an uncompressed `.ko`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let object = Object::parse(bytes).map_err(|e| format!("not an ELF module: {e}"))?;
        let section = object.section(".modinfo").ok_or("an ELF file without a .modinfo section")?;
        let mut info = Self { machine: object.machine(), ..Self::default() };
        for entry in section.split(|&b| b == 0).filter(|e| !e.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            let Some((key, value)) = entry.split_once('=') else { continue };
            match key {
                "vermagic" => info.vermagic = Some(value.trim().to_owned()),
                "depends" => {
                    info.depends.extend(value.split(',').filter(|d| !d.is_empty()).map(str::to_owned));
                }
                "softdep" => info.soft_pre.extend(soft_pre(value)),
                "alias" => info.aliases.push(value.to_owned()),
                _ => {}
            }
        }
        Ok(info)
    }
}

/// The names after `pre:` of a soft dependency (modprobe.d(5)).
fn soft_pre(value: &str) -> Vec<String> {
    let mut pre = false;
    let mut names = Vec::new();
    for word in value.split_whitespace() {
        match word {
            "pre:" => pre = true,
            "post:" => pre = false,
            name if pre => names.push(name.to_owned()),
            _ => {}
        }
    }
    names
}

/// The names of a module's symbols.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Symbols<'a> {
    /// Those it wants from the kernel or other modules.
    pub undefined: BTreeSet<&'a str>,
    /// Its own.
    pub defined: BTreeSet<&'a str>,
}

/// The symbols of an uncompressed `.ko`; none where it is damaged or stripped.
pub(super) fn symbols(bytes: &[u8]) -> Symbols<'_> {
    let mut found = Symbols::default();
    let Ok(object) = Object::parse(bytes) else { return found };
    for table in object.sections().iter().filter(|s| s.sh_type == SHT_SYMTAB) {
        let names = object.sections().get(table.sh_link as usize).and_then(|s| object.content(s));
        // What lies outside the file has no symbols, and goblin must not be asked to count them.
        let (Some(names), Some(content)) = (names, object.content(table)) else { continue };
        let entry = if object.ctx().is_big() { 24 } else { 16 };
        let Ok(symtab) = Symtab::parse(content, 0, content.len() / entry, object.ctx()) else { continue };
        for symbol in symtab.iter() {
            let name = text_at(names, symbol.st_name).and_then(|name| str::from_utf8(name).ok());
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            let set = if symbol.st_shndx == 0 { &mut found.undefined } else { &mut found.defined };
            set.insert(name);
        }
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::elf::NAME_MAX;
    use proptest::prelude::*;

    /// A little-endian 64-bit relocatable with a `.modinfo` and, as undefined symbols, `wants`.
    pub(crate) fn module(machine: u16, modinfo: &[&str], wants: &[&str]) -> Vec<u8> {
        let info: Vec<u8> = modinfo.iter().flat_map(|e| [e.as_bytes(), b"\0"].concat()).collect();
        let names = b"\0.modinfo\0.shstrtab\0.symtab\0.strtab\0";
        let (mut strtab, mut symtab) = (vec![0], vec![0; 24]);
        for want in wants {
            let mut symbol = [0; 24];
            symbol[..4].copy_from_slice(&(strtab.len() as u32).to_le_bytes());
            symbol[4] = 0x10;
            symtab.extend(symbol);
            strtab.extend([want.as_bytes(), b"\0"].concat());
        }
        let mut bytes = vec![0; 64];
        let mut headers = vec![0; 64];
        let mut add = |name: u32, kind: u32, link: u32, entry: u64, content: &[u8], bytes: &mut Vec<u8>| {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            header[40..44].copy_from_slice(&link.to_le_bytes());
            header[56..64].copy_from_slice(&entry.to_le_bytes());
            headers.extend(header);
            bytes.extend_from_slice(content);
        };
        add(1, 1, 0, 0, &info, &mut bytes);
        add(10, 3, 0, 0, names, &mut bytes);
        add(20, 2, 4, 24, &symtab, &mut bytes);
        add(28, 3, 0, 0, &strtab, &mut bytes);
        let shoff = bytes.len() as u64;
        bytes.extend(headers);
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        bytes[16..18].copy_from_slice(&1_u16.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[20] = 1;
        bytes[40..48].copy_from_slice(&shoff.to_le_bytes());
        bytes[52] = 64;
        bytes[58] = 64;
        bytes[60] = 5;
        bytes[62] = 2;
        bytes
    }

    #[test]
    fn reads_what_modpost_wrote() {
        let ko = module(
            62,
            &[
                "softdep=pre: a b-c post: d",
                "softdep=pre: crypto-crc32c",
                "depends=xor,raid6_pq",
                "alias=fs-btrfs",
                "vermagic=6.1.0 SMP mod_unload ",
                "noequals",
            ],
            &["xz_dec_run", "kfree"],
        );
        let info = Info::parse(&ko).unwrap();
        assert_eq!(info.vermagic.as_deref(), Some("6.1.0 SMP mod_unload"));
        assert_eq!(info.depends, ["xor", "raid6_pq"]);
        assert_eq!(info.soft_pre, ["a", "b-c", "crypto-crc32c"]);
        assert_eq!(info.aliases, ["fs-btrfs"]);
        assert_eq!(info.machine, Some("x86_64"));
        let symbols = symbols(&ko);
        assert_eq!(symbols.undefined.into_iter().collect::<Vec<_>>(), ["kfree", "xz_dec_run"]);
        assert!(symbols.defined.is_empty());
    }

    #[test]
    fn no_symbol_has_a_name_longer_than_the_kernel_knows() {
        let names = ["a".repeat(NAME_MAX - 1), "b".repeat(NAME_MAX), "c".repeat(1 << 20)];
        let ko = module(62, &[], &names.each_ref().map(String::as_str));
        assert_eq!(symbols(&ko).undefined.into_iter().collect::<Vec<_>>(), [names[0].as_str()]);
    }

    #[test]
    fn says_what_a_file_is_not() {
        assert!(Info::parse(b"#!/bin/sh\n").unwrap_err().contains("not an ELF module"));
        let mut ko = module(62, &["depends="], &[]);
        ko.truncate(70);
        assert!(Info::parse(&ko).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(at in 0_usize..600, with in proptest::collection::vec(any::<u8>(), 1..16), cut in 0_usize..800) {
            let mut ko = module(62, &["depends=a,b", "softdep=pre: x"], &["one", "two"]);
            for (slot, byte) in ko.iter_mut().skip(at).zip(with) {
                *slot = byte;
            }
            ko.truncate(cut.max(16));
            let _ = Info::parse(&ko);
            let _ = symbols(&ko);
            let _ = crate::elf::machine_of(&ko);
        }

        #[test]
        fn never_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
            elf.extend(bytes);
            let _ = Info::parse(&elf);
            let _ = symbols(&elf);
        }
    }
}
