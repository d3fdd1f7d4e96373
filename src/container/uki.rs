//! Unified kernel images: an EFI program of systemd-stub whose sections hold kernel, initrd and command line
//! (the UAPI Group's specification "Unified Kernel Image").

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use goblin::pe::header::Header;

use crate::bytes::{ReadAt, Slice, pieces};
use crate::error::Error;
use crate::tree::display;

/// The sections that hold data for the stub and may be moved: it finds them by name.
const MOVABLE: [&str; 16] = [
    ".linux", ".initrd", ".cmdline", ".osrel", ".uname", ".ucode", ".dtb", ".dtbauto", ".hwids", ".efifw",
    ".splash", ".sbat", ".pcrsig", ".pcrpkey", ".profile", ".sdmagic",
];
/// How many sections an image may have: the PE format allows 96.
const MAX_SECTIONS: usize = 96;
/// Bytes of a row of the section table.
const ROW: usize = 40;
/// The longest command line that is read: twice `COMMAND_LINE_SIZE` of most architectures.
const MAX_TEXT: u64 = 64 << 10;

/// A section.
#[derive(Debug, Clone)]
struct Section {
    name: String,
    /// Its row of the section table.
    row: [u8; ROW],
    virtual_size: u32,
    address: u32,
    /// Its bytes in the file, padding included.
    raw: Range<u64>,
}

impl Section {
    /// Its bytes in the file, without padding.
    fn data(&self) -> Range<u64> {
        let len = (self.raw.end - self.raw.start).min(u64::from(self.virtual_size));
        self.raw.start..self.raw.start + len
    }
}

/// A unified kernel image.
#[derive(Clone)]
pub struct Uki {
    source: Arc<dyn ReadAt>,
    /// The headers up to the first section.
    headers: Vec<u8>,
    /// Offset of the optional header.
    optional: usize,
    /// Offset of the section table.
    table: usize,
    /// Whether the optional header is that of 64-bit machines.
    wide: bool,
    file_alignment: u32,
    section_alignment: u32,
    sections: Vec<Section>,
    signed: bool,
}

impl fmt::Debug for Uki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uki").field("sections", &self.sections).finish_non_exhaustive()
    }
}

fn damaged(what: &str) -> Error {
    Error::input(format!("is a damaged EFI program: {what}"))
        .hint("fetch it again and compare its checksum; objdump -h shows its sections")
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Uki {
    /// Reads the headers; `None` if it is not an EFI program with a kernel or an initrd in it.
    ///
    /// # Errors
    /// If a section is not in the file, or the image has several profiles.
    pub(super) fn parse(start: &[u8], source: Arc<dyn ReadAt>) -> Result<Option<Self>, Error> {
        if !start.starts_with(b"MZ") {
            return Ok(None);
        }
        let Ok(header) = Header::parse(start) else { return Ok(None) };
        let Some(optional_header) = header.optional_header else { return Ok(None) };
        let optional = header.dos_header.pe_pointer as usize + 24;
        let table = optional + usize::from(header.coff_header.size_of_optional_header);
        let count = usize::from(header.coff_header.number_of_sections);
        let Some(rows) = start.get(table..table + count.min(MAX_SECTIONS) * ROW) else {
            return Err(damaged("the section table is cut short"));
        };
        let mut sections = Vec::new();
        for row in rows.chunks_exact(ROW) {
            let field = |at| word(row, at).unwrap_or_default();
            let raw = u64::from(field(20))..u64::from(field(20)) + u64::from(field(16));
            let name = row[..8].split(|&b| b == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            let mut copy = [0; ROW];
            copy.copy_from_slice(row);
            sections.push(Section { name, row: copy, virtual_size: field(8), address: field(12), raw });
        }
        let count = |name: &str| sections.iter().filter(|s| s.name == name).count();
        if count(".linux") == 0 && count(".initrd") == 0 {
            return Ok(None);
        }
        if let Some(bad) = sections.iter().find(|s| s.raw.end > source.len()) {
            return Err(damaged(&format!("section {} ends after the end of the file", bad.name)));
        }
        if count(".profile") > 1 || count(".initrd") > 1 || count(".linux") > 1 {
            return Err(Error::input("is a unified kernel image with several profiles")
                .hint("give one with a single profile: ukify build without --join-profile"));
        }
        let windows = optional_header.windows_fields;
        let first = sections.iter().filter(|s| !s.raw.is_empty()).map(|s| s.raw.start).min().unwrap_or(0);
        let headers = start.get(..usize::try_from(first).unwrap_or(usize::MAX));
        let headers = headers.filter(|headers| headers.len() >= table + rows.len());
        let Some(headers) = headers.map(<[u8]>::to_vec) else {
            return Err(damaged("its headers overlap its sections"));
        };
        let alignment = |value: u32, name: &str| {
            Some(value)
                .filter(|v| v.is_power_of_two())
                .ok_or_else(|| damaged(&format!("the {name} is no power of two")))
        };
        let wide = optional_header.standard_fields.magic == 0x20b;
        let certificates = optional + if wide { 112 } else { 96 } + 4 * 8;
        Ok(Some(Self {
            signed: word(&headers, certificates + 4).is_some_and(|size| size > 0),
            file_alignment: alignment(windows.file_alignment, "file alignment")?,
            section_alignment: alignment(windows.section_alignment, "section alignment")?,
            source,
            headers,
            optional,
            table,
            wide,
            sections,
        }))
    }

    /// The content of a section.
    pub(super) fn section(&self, name: &str) -> Option<Arc<dyn ReadAt>> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        Some(Arc::new(Slice::new(Arc::clone(&self.source), section.data())))
    }

    fn text(&self, name: &str) -> Option<String> {
        let section = self.section(name).filter(|section| section.len() <= MAX_TEXT)?;
        let mut bytes = vec![0; section.len() as usize];
        section.read_exact_at(&mut bytes, 0).ok()?;
        let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(text).trim().to_owned())
    }

    /// What it holds, a sentence each.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut names: Vec<&str> = self.sections.iter().map(|section| section.name.as_str()).collect();
        names.retain(|name| MOVABLE.contains(name));
        let signed = if self.signed { "signed" } else { "unsigned" };
        let mut notes =
            vec![format!("the file is a unified kernel image ({signed}) with {}", names.join(", "))];
        if let Some(release) = self.text(".uname") {
            notes.push(format!("its kernel is {}", display(release.as_bytes())));
        }
        let system = self.text(".osrel");
        let pretty =
            system.as_deref().and_then(|text| text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")));
        if let Some(name) = pretty {
            notes.push(format!("its system is {}", display(name.trim_matches(['"', '\'']).as_bytes())));
        }
        if let Some(cmdline) = self.text(".cmdline").filter(|text| !text.is_empty()) {
            notes.push(format!("its command line: {}", display(cmdline.as_bytes())));
        }
        notes
    }

    /// Its command line without `rdinit=init`: the new image's /init starts that.
    fn cmdline(&self, init: &str) -> Option<Vec<u8>> {
        let text = self.text(".cmdline")?;
        let named = format!("rdinit={init}");
        let kept: Vec<&str> = text.split_ascii_whitespace().filter(|word| *word != named).collect();
        (kept.len() < text.split_ascii_whitespace().count()).then(|| kept.join(" ").into_bytes())
    }

    /// Writes the image with another initrd, unsigned.
    pub(super) fn write(&self, initrd: &dyn ReadAt, init: &str, out: &mut dyn Write) -> io::Result<u64> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let too_large = || invalid("a unified kernel image holds less than 4 GiB");
        let cmdline = self.cmdline(init);
        let new = |section: &Section| -> Option<&dyn ReadAt> {
            match section.name.as_str() {
                ".initrd" => Some(initrd),
                ".cmdline" => cmdline.as_ref().map(|bytes| bytes as &dyn ReadAt),
                _ => None,
            }
        };
        // A signature of the old measurements is worth nothing.
        let mut sections: Vec<&Section> = self.sections.iter().filter(|s| s.name != ".pcrsig").collect();
        sections.sort_by_key(|section| section.address);
        let mut rows = Vec::new();
        let (mut raw, mut moved, mut address) = (self.headers.len() as u64, false, 0_u64);
        let mut initialised = 0_u64;
        for section in &sections {
            let replaced = new(section);
            let mut row = section.row;
            let old = section.raw.end - section.raw.start;
            let (size, len) = match replaced {
                Some(bytes) => (bytes.len(), bytes.len().next_multiple_of(u64::from(self.file_alignment))),
                None => (u64::from(section.virtual_size), old),
            };
            let mut start = u64::from(section.address);
            if moved {
                if !MOVABLE.contains(&section.name.as_str()) {
                    return Err(invalid(&format!(
                        "section {} cannot be moved: build the image with ukify",
                        section.name
                    )));
                }
                start = address;
            }
            moved |= replaced.is_some();
            // Pages of their own, so that the firmware can protect each.
            address = (start + size).next_multiple_of(u64::from(self.section_alignment).max(4096));
            let place = if len == 0 { 0 } else { raw.next_multiple_of(u64::from(self.file_alignment)) };
            for (at, value) in [(8, size), (12, start), (16, len), (20, place)] {
                let value = u32::try_from(value).map_err(|_| too_large())?;
                row[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            if len > 0 {
                raw = place + len;
            }
            // IMAGE_SCN_CNT_INITIALIZED_DATA.
            if word(&row, 36).is_some_and(|flags| flags & 0x40 != 0) {
                initialised += len;
            }
            rows.push((row, place, len));
        }
        out.write_all(&self.new_headers(&rows, address, initialised).ok_or_else(too_large)?)?;
        let mut at = self.headers.len() as u64;
        for (section, &(_, place, len)) in sections.iter().zip(&rows) {
            if len == 0 {
                continue;
            }
            io::copy(&mut io::Read::take(io::repeat(0), place - at), out)?;
            let written = match new(section) {
                Some(bytes) => {
                    pieces(bytes, 0..bytes.len(), |part| out.write_all(part))?;
                    bytes.len()
                }
                None => {
                    pieces(self.source.as_ref(), section.raw.clone(), |part| out.write_all(part))?;
                    len
                }
            };
            io::copy(&mut io::Read::take(io::repeat(0), len - written), out)?;
            at = place + len;
        }
        Ok(at)
    }

    /// The headers with the section table `rows`, for an image that takes `address` bytes of memory.
    fn new_headers(&self, rows: &[([u8; ROW], u64, u64)], address: u64, initialised: u64) -> Option<Vec<u8>> {
        let mut headers = self.headers.clone();
        let mut put = |at: usize, value: u32| {
            headers.get_mut(at..at + 4).map(|field| field.copy_from_slice(&value.to_le_bytes()))
        };
        put(self.optional + 8, u32::try_from(initialised).ok()?)?;
        put(self.optional + 56, u32::try_from(address).ok()?)?;
        // The checksum is not looked at by EFI, and sbsign makes it.
        put(self.optional + 64, 0)?;
        let certificates = self.optional + if self.wide { 112 } else { 96 } + 4 * 8;
        put(certificates, 0)?;
        put(certificates + 4, 0)?;
        // Symbols of the stub, which lie behind the old sections.
        put(self.optional - 12, 0)?;
        put(self.optional - 8, 0)?;
        headers
            .get_mut(self.optional - 18..self.optional - 16)?
            .copy_from_slice(&(rows.len() as u16).to_le_bytes());
        let table = headers.get_mut(self.table..self.table + self.sections.len() * ROW)?;
        table.fill(0);
        for (slot, (row, _, _)) in table.chunks_exact_mut(ROW).zip(rows) {
            slot.copy_from_slice(row);
        }
        Some(headers)
    }

    /// What to do with the new image.
    pub(super) fn next_steps(&self, new: &str) -> Vec<String> {
        let was = if self.signed { "The old image was signed. " } else { "" };
        let mut steps = vec![
            format!(
                "{new} is an unsigned unified kernel image. {was}With Secure Boot the firmware refuses it until it is signed: \
                 sbsign --key db.key --cert db.crt --output {new} {new}"
            ),
            format!(
                "its initrd is another one, so that PCR 11 has another value: what is sealed to PCR 11 (systemd-cryptenroll \
                 --tpm2-pcrs=11, --tpm2-public-key) no longer unlocks. To sign the new measurements, take the parts out with \
                 objcopy -O binary --only-section=.initrd --set-section-flags .initrd=alloc {new} initrd (.linux and .cmdline \
                 alike) and build anew: ukify build --linux=linux --initrd=initrd --cmdline=@cmdline --pcr-private-key=KEY \
                 --secureboot-private-key=db.key --secureboot-certificate=db.crt --output={new}"
            ),
        ];
        if self.sections.iter().any(|section| section.name == ".pcrsig") {
            steps
                .push("the section .pcrsig was left out: it signed the measurements of the old image".into());
        }
        steps
    }
}
