//! What an image file is made of, byte by byte.

use std::ops::Range;

use super::embedded::Body;
use super::open::{Format, Opened};
use crate::codec::Encoding;
use crate::initrd::{self, Initrd, Segment};

/// What a part of an image file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// An early cpio.
    Early,
    /// A segment of an ordinary initrd.
    Segment(Encoding),
    /// The squashfs of a converted image, at this path.
    Runtime(Vec<u8>),
    /// The rest of the segment that holds the squashfs.
    AroundRuntime,
    /// The boot initramfs of a converted image.
    FrontEnd(Encoding),
    /// A segment that was appended to a converted image.
    Appended(Encoding),
    /// Padding and a boot configuration.
    Rest,
    /// A bare file system image; `None` if it is unknown.
    FileSystem(Option<Format>),
}

/// A part of an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of its segment, counted from 1.
    pub segment: Option<usize>,
    /// What it is.
    pub kind: PartKind,
    /// Its bytes in the file.
    pub bytes: u64,
}

/// The segment that holds the squashfs of a converted image, and the range of the squashfs in the file; the range is
/// not known if the segment is compressed.
#[must_use]
pub fn holder<'a>(image: &Opened, initrd: &'a Initrd) -> Option<(&'a Segment, Option<Range<u64>>)> {
    let carried = image.carried.as_ref()?;
    let plain =
        initrd.segments.iter().filter(|segment| segment.encoding == Encoding::Plain && !segment.early);
    let range = match &carried.body {
        Body::Skipped(range) => Some(range.clone()),
        Body::File(_) => plain
            .clone()
            .filter_map(|segment| initrd::find_body(image.source.as_ref(), segment, &carried.path))
            .next_back(),
    };
    match range {
        Some(range) => plain.clone().find(|s| s.range().contains(&range.start)).map(|s| (s, Some(range))),
        None => {
            let size = image.layers.first()?.source.len();
            initrd
                .segments
                .iter()
                .find(|s| s.encoding != Encoding::Plain && s.unpacked > size)
                .map(|s| (s, None))
        }
    }
}

/// The parts of an image file, in their order in the file; empty ones are left out.
#[must_use]
pub fn parts(image: &Opened) -> Vec<Part> {
    let size = image.size();
    let Some(initrd) = &image.initrd else {
        let kind = PartKind::FileSystem(image.layers.first().map(|layer| layer.format));
        return vec![Part { segment: None, kind, bytes: size }];
    };
    let holder = holder(image, initrd);
    let mut parts = Vec::new();
    for segment in &initrd.segments {
        let mut add = |kind, bytes| parts.push(Part { segment: Some(segment.number), kind, bytes });
        match &holder {
            _ if segment.early => add(PartKind::Early, segment.size),
            Some((holder, Some(range))) if holder.number == segment.number => {
                let squashfs = range.end - range.start;
                let path = image.carried.as_ref().map_or_else(Vec::new, |carried| carried.path.clone());
                add(PartKind::Runtime(path), squashfs);
                add(PartKind::AroundRuntime, segment.size.saturating_sub(squashfs));
            }
            Some((holder, None)) if holder.number == segment.number => {
                add(PartKind::Segment(segment.encoding), segment.size);
            }
            _ if image.appended.segments.contains(&segment.number) => {
                add(PartKind::Appended(segment.encoding), segment.size);
            }
            Some(_) => add(PartKind::FrontEnd(segment.encoding), segment.size),
            None => add(PartKind::Segment(segment.encoding), segment.size),
        }
    }
    let rest = size.saturating_sub(parts.iter().map(|part| part.bytes).sum());
    parts.push(Part { segment: None, kind: PartKind::Rest, bytes: rest });
    parts.retain(|part| part.bytes > 0);
    parts
}
