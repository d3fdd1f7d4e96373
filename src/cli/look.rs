//! What `ls`, `cat` and `extract` share: the image and the part of it to look into.

use std::path::PathBuf;

use btrsquash::error::{Error, Kind};
use btrsquash::image::{Format, Opened};
use btrsquash::initrd;
use btrsquash::tree::Tree;
use clap::{Args, ValueEnum};

use super::args::Limits;
use super::diff::open;
use super::progress::Progress;

/// The file tree to look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layer {
    /// The system that runs: the innermost file system, or all of an initrd that is not converted
    System,
    /// What the kernel unpacks: of a converted image the boot initramfs
    Initramfs,
    /// The squashfs, with the btrfs image in it as a file
    Squashfs,
}

/// The image to look into.
#[derive(Debug, Args)]
pub struct Source {
    /// The image: an initrd, converted or not, or a bare squashfs or btrfs
    pub image: PathBuf,
    /// Which part of a converted image to look into
    #[arg(long, value_enum, default_value_t = Layer::System)]
    pub layer: Layer,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
}

impl Source {
    /// Opens the image.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn open(&self) -> anyhow::Result<Opened> {
        let limits = initrd::Limits { max_unpacked: self.limits.max_unpacked, ..initrd::Limits::default() };
        let progress = Progress::new(false);
        let image = open(&self.image, "reading the image", &limits, &progress)?;
        drop(progress);
        if image.apart && self.layer == Layer::System {
            super::output::note("the runtime is in a separate file: this is the boot initramfs only");
        }
        Ok(image)
    }

    /// Names the image in an error about what is in it.
    #[must_use]
    pub fn named(&self, error: Error) -> Error {
        if error.kind == Kind::Input { error.or_file(&self.image) } else { error }
    }

    /// The tree to look into.
    ///
    /// # Errors
    /// [`btrsquash::error::Kind::Usage`] if the image has no such part.
    pub fn tree<'a>(&self, image: &'a Opened) -> anyhow::Result<&'a Tree> {
        let none = |what: &str| Error::usage(format!("the image has no {what}")).file(&self.image);
        Ok(match self.layer {
            Layer::System => &image.system,
            Layer::Initramfs => match &image.initrd {
                Some(initrd) => &initrd.tree,
                None => return Err(none("initramfs: it is a bare file system").into()),
            },
            Layer::Squashfs => match image.layers.iter().find(|layer| layer.format == Format::Squashfs) {
                Some(layer) => &layer.tree,
                None => return Err(none("squashfs inside").into()),
            },
        })
    }
}
