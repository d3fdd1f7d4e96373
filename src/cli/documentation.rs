//! Shell completions and manual pages, made from the definitions of the command line.

use std::io::Write;
use std::path::Path;

use btrsquash::error::Error;
use btrsquash::output::{Options, OutputFile};
use btrsquash::report::SCHEMAS;

use super::{manual, output};

/// `btrsquash completions`.
///
/// # Errors
/// When stdout cannot be written.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut manual::command(), "btrsquash", &mut text);
    output::write(&String::from_utf8_lossy(&text))
}

/// `btrsquash schema`.
///
/// # Errors
/// When stdout cannot be written.
pub fn schema(name: &str) -> anyhow::Result<()> {
    match SCHEMAS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => output::write(text),
        None => Err(Error::usage(format!("there is no schema {name}")).into()),
    }
}

/// `btrsquash man`: the main page on stdout, or one page for each subcommand in a directory.
///
/// # Errors
/// When they cannot be written.
pub fn man(directory: Option<&Path>) -> anyhow::Result<()> {
    let pages = manual::pages()?;
    let Some(directory) = directory else {
        let main = pages.first().map(|(_, text)| String::from_utf8_lossy(text)).unwrap_or_default();
        return output::write(&main);
    };
    let mut files = Vec::new();
    for (name, text) in pages {
        // The pages of an older version are replaced.
        let path = directory.join(format!("{name}.1"));
        let mut file = OutputFile::create(&path, Options::new(true))?;
        file.write_all(&text).map_err(|e| Error::writing(e).file(&path))?;
        files.push(file);
    }
    Ok(btrsquash::output::commit(files)?)
}
