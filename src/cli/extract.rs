//! `btrsquash extract`.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use btrsquash::error::Error;
use btrsquash::extract::{self, Archived, Extracted, Selection};
use btrsquash::output::{self, OutputFile, check_output, commit};
use btrsquash::report::units::count;
use btrsquash::tree::{Entry, Node, Tree};
use clap::{ArgGroup, Args};

use super::look::Source;
use super::output::note;

/// `btrsquash extract`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("destination").required(true).args(["directory", "tar"]))]
pub struct Extract {
    /// The image.
    #[command(flatten)]
    pub source: Source,
    /// What to extract, as for ls [default: all]; directories above it come with it
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Extract into this directory, a new or an empty one; all belongs to the user who extracts, and devices and setuid
    /// bits are left out
    #[arg(short = 'C', long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Write a tar archive to FILE, or to stdout for -, with owners, devices, hard links and times as in the image
    #[arg(long, value_name = "FILE")]
    pub tar: Option<PathBuf>,
    /// Replace an archive that exists
    #[arg(short, long, requires = "tar")]
    pub force: bool,
}

/// Extracts files of an image.
///
/// # Errors
/// Those of reading the image and of writing; [`btrsquash::error::Kind::Failed`] if a pattern matches nothing.
pub fn extract(options: &Extract) -> anyhow::Result<()> {
    let selection = Selection::new(&options.globs)?;
    let to_stdout = options.tar.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::usage("a tar archive is not for a terminal")
            .hint("redirect stdout, or name a file with --tar FILE")
            .into());
    }
    if let Some(file) = options.tar.as_deref().filter(|_| !to_stdout) {
        check_output(file, made(options))?;
    }
    let image = options.source.open()?;
    let tree = options.source.tree(&image)?;
    let mut entries = selection.select(tree)?;
    if !selection.is_everything() {
        entries = extract::with_parents(tree, &entries);
    }
    let named = |e| options.source.named(e);
    if let Some(directory) = &options.directory {
        let done = extract::into_directory(tree, &entries, directory).map_err(named)?;
        tell_directory(&done, directory);
        return Ok(());
    }
    check_size(tree, &entries, options.source.limits.max_unpacked)?;
    let done = match options.tar.as_deref().filter(|_| !to_stdout) {
        Some(file) => {
            let mut out = OutputFile::create(file, made(options))?;
            let done = extract::into_tar(tree, &entries, &mut out).map_err(named)?;
            commit(vec![out])?;
            note(&format!("{}: {}", file.display(), count(done.members, "member")));
            done
        }
        None => {
            let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
            let done = extract::into_tar(tree, &entries, &mut out).map_err(named)?;
            out.flush().map_err(|e| Error::usage("stdout cannot be written").caused_by(e))?;
            done
        }
    };
    tell_archive(&done);
    Ok(())
}

/// The archive holds what the image holds: nobody else may read it.
fn made(options: &Extract) -> output::Options {
    output::Options::new(options.force).no_more_readable_than(&options.source.image)
}

/// Refuses an archive that would have more content than may be unpacked: a tar archive stores holes as zeros.
fn check_size(tree: &Tree, entries: &[Entry], limit: u64) -> anyhow::Result<()> {
    let sizes = entries.iter().map(|entry| match &tree.inode(entry.id).node {
        Node::Regular(content) => content.size,
        _ => 0,
    });
    let sum = sizes.fold(0_u64, u64::saturating_add);
    if sum > limit {
        let what =
            format!("the archive would have {sum} bytes of content, holes included; the limit is {limit}");
        return Err(Error::input(what).hint("if you trust the image, raise --max-unpacked").into());
    }
    Ok(())
}

fn tell_directory(done: &Extracted, directory: &Path) {
    note(&format!("{}: {}", directory.display(), count(done.paths, "path")));
    let parts = [
        (done.devices, "device node", "left out: only root can make them"),
        (
            done.setuid,
            "setuid or setgid file",
            "extracted without that bit: it would lend your rights to others",
        ),
        (done.owned, "path", "not owned by root in the image: all that was extracted is yours"),
    ];
    let mut lost = false;
    for (number, noun, why) in parts.into_iter().filter(|(number, ..)| *number > 0) {
        note(&format!("{} {why}", count(number, noun)));
        lost = true;
    }
    if done.opened > 0 {
        let number = done.opened;
        let directories = if number == 1 { "1 directory".into() } else { format!("{number} directories") };
        note(&format!(
            "{directories} that even the owner cannot fully use in the image: made usable for you"
        ));
        lost = true;
    }
    if lost {
        note("--tar keeps all of it");
    }
}

fn tell_archive(done: &Archived) {
    if done.sockets > 0 {
        note(&format!("{} left out: tar has no type for them", count(done.sockets, "socket")));
    }
}
