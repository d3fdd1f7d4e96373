//! Results → the data of reports: here numbers and enums get their words.

mod boot;
mod comparison;
mod conversion;
mod directories;
mod inspection;
mod packages;
mod ram;

pub use boot::{boot, measured, minimum};
pub use comparison::{difference, verification};
pub use conversion::conversion;
pub use inspection::inspection;
pub use packages::package_sizes;

use self::directories::newest_time;
use super::data::{Identity, ImageFile, Part};
use super::units::count;
use crate::codec::Encoding;
use crate::contract::Handover;
use crate::image::classify::Classification;
use crate::image::{self, Note, Opened, PartKind, parts};
use crate::tree::display;

impl From<&Classification> for Identity {
    fn from(class: &Classification) -> Self {
        Self {
            verdict: class.verdict.to_string(),
            why: class.signs.iter().map(ToString::to_string).collect(),
            init: class.init.clone(),
            init_kind: class.init_kind.to_string(),
            handover: match class.handover {
                Handover::Bare => "bare".into(),
                Handover::Mounted => "mounted".into(),
            },
            handover_why: class.handover_reason.to_string(),
            architecture: class.architecture.clone(),
            kernels: class.kernels.clone(),
            distribution: class.distribution.clone(),
        }
    }
}

impl From<&Opened> for Identity {
    fn from(image: &Opened) -> Self {
        let (verdict, why) = match &image.verdict {
            Some(verdict) => (verdict.to_string(), image.why.iter().map(ToString::to_string).collect()),
            None => {
                let names: Vec<&str> = image.layers.iter().map(|layer| layer.format.name()).collect();
                (
                    names.first().copied().unwrap_or("file system").to_owned(),
                    vec![format!("the file is a {} image: no kernel unpacks it", names.join(" with "))],
                )
            }
        };
        Self { verdict, why, ..Self::from(&image.class) }
    }
}

impl From<&Opened> for ImageFile {
    fn from(image: &Opened) -> Self {
        let file = image_file(image.name.display().to_string(), image.size(), &parts(image));
        Self { newest_time: newest_time(&image.system), ..file }
    }
}

/// A file of `size` bytes with its parts.
fn image_file(path: String, size: u64, parts: &[image::Part]) -> ImageFile {
    let rows: Vec<(String, u64, &str)> = parts.iter().map(part).collect();
    let parts = Part::list(size, rows.iter().map(|(name, bytes, why)| (name.as_str(), *bytes, *why)));
    ImageFile { path, size, parts, sha256: None, newest_time: None }
}

/// A part's name, its bytes and why it is there. Parts of a converted image are named as in the report of the conversion,
/// which can be a baseline: without the number of the segment and its compression.
fn part(part: &image::Part) -> (String, u64, &'static str) {
    let segment = |name: String| match part.segment {
        Some(number) => format!("segment {number}: {name}"),
        None => name,
    };
    let (name, why) = match &part.kind {
        PartKind::Early => ("early cpio".into(), "the kernel reads it before it unpacks anything"),
        PartKind::Segment(encoding) => {
            (segment(encoding.to_string()), "unpacked into rootfs, where it stays")
        }
        PartKind::Runtime(path) => (display(path), "the runtime: the system itself"),
        PartKind::AroundRuntime => ("cpio around it".into(), "headers, padding and small files"),
        PartKind::FrontEnd(_) => {
            ("boot initramfs".into(), "mounts the runtime and starts the system's own init")
        }
        PartKind::Appended(encoding) => (
            segment(format!("appended, {encoding}")),
            "its files are copied over those of the runtime at boot",
        ),
        PartKind::Rest => ("padding and boot configuration".into(), "between and after the segments"),
        PartKind::FileSystem(format) => {
            (format.map_or("file system", image::Format::name).to_owned(), "the whole file")
        }
    };
    (name, part.bytes, why)
}

/// Names of encodings, separated by commas.
fn encodings(encodings: &[Encoding]) -> String {
    encodings.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What was found when an image was opened, as a sentence.
fn opened(note: &Note) -> String {
    match note {
        Note::Initrd(sentence) => sentence.clone(),
        Note::RuntimeSeparate => {
            "the runtime is in a separate file; this report covers the boot initramfs only".into()
        }
        Note::ForeignFrontEnd => {
            "btrsquash did not make this boot initramfs: which appended files it copies into the runtime is not known"
                .into()
        }
        Note::Overlaid(paths) => {
            format!("appended: {} copied over the runtime at boot", count(*paths, "path"))
        }
        Note::NothingOverlaid => "appended: nothing that goes into the runtime".into(),
        Note::NotOverlaid(paths, first) => format!(
            "appended: {} cannot be copied into the runtime because something of another type is in the way; \
             the first is /{}",
            count(*paths, "path"),
            display(first)
        ),
        Note::AppendedInit => {
            "appended: an /init, which starts instead of the boot initramfs's own: the runtime is not mounted".into()
        }
        Note::Unreadable(path, why) => format!("{path} cannot be read, and its content is not shown: {why}"),
        Note::NotBtrfs(path) => format!("{path} is not a btrfs file system: its content is not shown"),
    }
}
