//! What `inspect` found → its report.

use super::{encodings, opened};
use crate::image::Opened;
use crate::initrd::Segment;
use crate::inspect::{self, Unneeded};
use crate::report::data::{
    Directory, Duplicate, FileSize, FrontEndPart, Identity, ImageFile, Inspection, KernelPart, Layer,
    ModuleSize, Ram, SCHEMA_VERSION, SegmentRow, Tool, Weight,
};
use crate::report::signs;
use crate::tree::display;

/// The report; its table of directories goes `depth` levels down.
#[must_use]
pub fn inspection(image: &Opened, found: &inspect::Inspection, depth: usize) -> Inspection {
    Inspection {
        schema_version: SCHEMA_VERSION,
        tool: Tool::default(),
        image: ImageFile::from(image),
        identity: Identity::from(image),
        segments: image
            .initrd
            .iter()
            .flat_map(|initrd| &initrd.segments)
            .map(|segment| row(segment, image.appended.segments.contains(&segment.number)))
            .collect(),
        layers: layers(image),
        front_end: found.front_end.as_ref().map(front_end),
        entries: found.paths,
        content: found.content,
        directories: Directory::of(&image.system, found.shares.by_inode(), depth),
        largest: found.largest.iter().map(file).collect(),
        duplicates: found
            .duplicates
            .iter()
            .map(|duplicate| Duplicate {
                bytes: duplicate.bytes,
                wasted: duplicate.wasted,
                paths: duplicate.paths.iter().map(|path| display(path)).collect(),
            })
            .collect(),
        duplicate_bytes: found.duplicate_bytes,
        weight: found.weight.iter().map(weight).collect(),
        ram: found.ram.as_ref().map(Ram::from),
        notes: image.notes.iter().map(opened).chain(signs::remarks(&image.class)).collect(),
        packages: Vec::new(),
        package_totals: None,
        budgets: Vec::new(),
        growth: None,
    }
}

fn row(segment: &Segment, appended: bool) -> SegmentRow {
    SegmentRow {
        number: segment.number as u64,
        offset: segment.offset,
        size: segment.size,
        padding: segment.padding,
        encoding: segment.encoding.to_string(),
        unpacked: segment.unpacked,
        entries: segment.entries,
        early: segment.early,
        appended,
    }
}

fn layers(image: &Opened) -> Vec<Layer> {
    let layers = image.layers.iter();
    layers
        .map(|layer| Layer {
            kind: layer.format.name().to_owned(),
            path: if layer.path.is_empty() { "the whole file".to_owned() } else { layer.path.clone() },
            bytes: layer.source.len(),
            entries: layer.tree.walk().count() as u64,
        })
        .collect()
}

fn file(file: &inspect::FileSize) -> FileSize {
    FileSize { path: display(&file.path), bytes: file.bytes }
}

fn front_end(found: &inspect::FrontEnd) -> FrontEndPart {
    let mut notes = Vec::new();
    if !found.cmdline.is_empty() {
        notes.push(format!("command line in the image: {}", found.cmdline));
    }
    if found.encodings.is_empty() {
        notes.push("it is in the same segment as the runtime".into());
    }
    let kernel = |kernel: &inspect::KernelPart| KernelPart {
        version: kernel.version.clone(),
        bytes: kernel.modules.iter().map(|module| module.bytes).sum(),
        modules: kernel
            .modules
            .iter()
            .map(|module| ModuleSize { name: module.name.clone(), bytes: module.bytes })
            .collect(),
    };
    FrontEndPart {
        maker: found.maker.clone(),
        encoding: encodings(&found.encodings),
        compressed: found.compressed,
        unpacked: found.unpacked,
        kernels: found.kernels.iter().map(kernel).collect(),
        notes,
    }
}

fn weight(found: &inspect::Weight) -> Weight {
    let (what, why) = match found.kind {
        Unneeded::Kernels => {
            ("kernels", "the boot loader has loaded a kernel long before this copy can be read")
        }
        Unneeded::SystemMap => ("System.map", "symbols for debugging; the kernel has its own table"),
        Unneeded::Initrds => ("initrds", "only boot loaders read them"),
        Unneeded::StaticLibraries => ("static libraries", "only linkers read them"),
        Unneeded::Headers => ("headers and sources", "only compilers read them"),
        Unneeded::Documentation => ("documentation", "no program reads it"),
        Unneeded::DebugInformation => ("debug information", "only debuggers read it"),
        Unneeded::Caches => ("caches", "recreated when they are needed"),
    };
    Weight {
        what: what.into(),
        why: why.into(),
        files: found.files,
        bytes: found.bytes,
        examples: found.examples.iter().map(file).collect(),
    }
}
