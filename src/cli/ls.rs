//! `btrsquash ls`.

use btrsquash::extract::Selection;
use btrsquash::report::Listing;
use btrsquash::tree::{Entry, Node, Tree};
use clap::{Args, ValueEnum};

use super::look::Source;
use super::output;

/// The order of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// By path, in byte order
    Name,
    /// The largest file first
    Size,
}

/// `btrsquash ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// The image.
    #[command(flatten)]
    pub source: Source,
    /// What to list: a pattern with a / is matched against the whole path, one without against the name, in any
    /// directory; * does not match a /, ** does; what matches a directory selects all that is below it [default: all]
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Show type, mode, links, owner and group, size and time (UTC) of each path
    #[arg(short, long)]
    pub long: bool,
    /// The order of the lines
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    pub sort: Sort,
    /// Print paths as they are, each with a NUL after it instead of a line break
    #[arg(short = '0', long, conflicts_with_all = ["long", "json"])]
    pub null: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

fn bytes(tree: &Tree, entry: &Entry) -> u64 {
    match &tree.inode(entry.id).node {
        Node::Regular(content) => content.size,
        _ => 0,
    }
}

/// Lists the paths of an image.
///
/// # Errors
/// Those of reading the image; [`btrsquash::error::Kind::Failed`] if a pattern matches nothing.
pub fn ls(options: &Ls) -> anyhow::Result<()> {
    let selection = Selection::new(&options.globs)?;
    let image = options.source.open()?;
    let tree = options.source.tree(&image)?;
    let mut entries = selection.select(tree)?;
    if options.sort == Sort::Size {
        // Stable: equal sizes stay in the order of their names.
        entries.sort_by_key(|entry| std::cmp::Reverse(bytes(tree, entry)));
    }
    if options.null {
        let mut text = Vec::new();
        for entry in &entries {
            text.extend_from_slice(if entry.path.is_empty() { b"." } else { &entry.path });
            text.push(0);
        }
        return output::write_bytes(&text);
    }
    let listing = Listing::new(options.source.image.display().to_string(), tree, &entries);
    if options.json {
        return output::write(&(serde_json::to_string_pretty(&listing)? + "\n"));
    }
    output::write(&listing.text(options.long))
}
