//! Shell completions and manual pages, made from the definitions of the command line.

use std::io::Write;
use std::path::Path;

use crate::cli::args::Cli;
use btrsquash::error::Error;
use btrsquash::output::{Options, OutputFile};
use btrsquash::report::SCHEMAS;
use clap::CommandFactory;
use clap_mangen::Man;

use super::output;

/// `btrsquash completions`.
///
/// # Errors
/// When stdout cannot be written.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "btrsquash", &mut text);
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
    let mut command = Cli::command();
    command.build();
    let Some(directory) = directory else {
        let mut text = Vec::new();
        Man::new(command).render(&mut text)?;
        return output::write(&String::from_utf8_lossy(&text));
    };
    let mut pages = vec![("btrsquash".to_owned(), command.clone())];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("btrsquash-{}", sub.get_name());
        pages.push((name.clone(), sub.clone().name(name)));
    }
    let mut files = Vec::new();
    for (name, command) in pages {
        let mut text = Vec::new();
        Man::new(command).render(&mut text)?;
        // The pages of an older version are replaced.
        let path = directory.join(format!("{name}.1"));
        let mut file = OutputFile::create(&path, Options::new(true))?;
        file.write_all(&text).map_err(|e| Error::writing(e).file(&path))?;
        files.push(file);
    }
    Ok(btrsquash::output::commit(files)?)
}
