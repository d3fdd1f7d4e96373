//! `btrsquash packages` and `btrsquash package-map`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use btrsquash::initrd;
use btrsquash::output::{self, OutputFile, check_output, commit};
use btrsquash::packages::{PackageMap, Packages, Shares};
use btrsquash::report::{PackageReport, Report};
use clap::Args;

use super::args::Limits;
use super::diff::open;
use super::output::{json_or_text, note, print, write};
use super::progress::Progress;

/// `btrsquash packages`.
#[derive(Debug, Args)]
pub struct PackagesOptions {
    /// The image
    pub image: PathBuf,
    /// How many packages and kinds of kernel modules to show: a number, or all
    #[arg(long, value_name = "N|all", default_value = "20", value_parser = top)]
    pub top: usize,
    /// The files of packages whose lists the image does not have, as package-map writes them
    #[arg(long, value_name = "FILE")]
    pub package_map: Option<PathBuf>,
    /// Print the result as JSON: all packages
    #[arg(long)]
    pub json: bool,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
}

/// `btrsquash package-map`.
#[derive(Debug, Args)]
pub struct PackageMapOptions {
    /// Packages: .deb or .udeb files
    #[arg(required = true, value_name = "PACKAGE")]
    pub packages: Vec<PathBuf>,
    /// Write the map to FILE instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(short, long, requires = "output")]
    pub force: bool,
}

/// A number of rows, or all of them.
///
/// # Errors
/// A sentence for the user if it is neither.
fn top(text: &str) -> Result<usize, String> {
    if text == "all" {
        return Ok(usize::MAX);
    }
    text.parse().map_err(|_| format!("'{text}' is neither a number nor all"))
}

/// Shows what each package costs in an image.
///
/// # Errors
/// Those of reading the image and the package map.
pub fn packages(options: &PackagesOptions) -> anyhow::Result<()> {
    let map = options.package_map.as_deref().map(PackageMap::read).transpose()?;
    let limits = initrd::Limits { max_unpacked: options.limits.max_unpacked, ..initrd::Limits::default() };
    let progress = Progress::new(false);
    let image = open(&options.image, "reading the image", &limits, &progress)?;
    drop(progress);
    if image.apart {
        note("the runtime is in a separate file: these are the packages of the boot initramfs only");
    }
    let packages = Packages::read(&image.system, map.as_ref()).map_err(|e| e.or_file(&options.image))?;
    let accounts = Shares::of(&image).accounts(&image.system, &packages);
    let report = PackageReport::new(options.image.display().to_string(), &packages, &accounts);
    print(&Report::Packages { report: &report, top: options.top }, json_or_text(options.json))
}

/// Writes the package map of package files.
///
/// # Errors
/// Those of reading the packages and of writing.
pub fn package_map(options: &PackageMapOptions) -> anyhow::Result<()> {
    if let Some(file) = &options.output {
        check_output(file, output::Options::new(options.force))?;
    }
    let map = PackageMap::of(&options.packages)?;
    let text = serde_json::to_string_pretty(&map)? + "\n";
    let Some(path) = &options.output else { return write(&text) };
    let mut file = OutputFile::create(path, output::Options::new(options.force))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(commit(vec![file])?)
}
