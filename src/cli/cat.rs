//! `btrsquash cat`.

use std::io::{self, BufWriter};

use clap::Args;

use super::look::Source;

/// `btrsquash cat`.
#[derive(Debug, Args)]
pub struct Cat {
    /// The image.
    #[command(flatten)]
    pub source: Source,
    /// The file; symlinks are followed inside the image
    pub path: String,
}

/// Writes a file of an image to stdout.
///
/// # Errors
/// Those of reading the image; [`btrsquash::error::Kind::Failed`] if there is no such file.
pub fn cat(options: &Cat) -> anyhow::Result<()> {
    let image = options.source.open()?;
    let tree = options.source.tree(&image)?;
    btrsquash::extract::cat(tree, &options.path, &mut BufWriter::new(io::stdout().lock()))
        .map_err(|e| options.source.named(e))?;
    Ok(())
}
