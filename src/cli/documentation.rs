//! Shell completions and manual pages, made from the definitions of the command line.

use std::io::Write;
use std::path::Path;

use crate::cli::args::Cli;
use anyhow::Context;
use btrsquash::output::OutputFile;
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

/// `btrsquash man`: the main page, or one page a subcommand into a folder.
///
/// # Errors
/// When they cannot be written.
pub fn man(folder: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = folder else {
        let mut text = Vec::new();
        Man::new(command).render(&mut text)?;
        return output::write(&String::from_utf8_lossy(&text));
    };
    let mut pages = vec![("btrsquash".to_owned(), command.clone())];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("btrsquash-{}", sub.get_name());
        pages.push((name.clone(), sub.clone().name(name)));
    }
    for (name, command) in pages {
        let mut text = Vec::new();
        Man::new(command).render(&mut text)?;
        // Pages are made anew by every call: an older version's are replaced.
        let path = folder.join(format!("{name}.1"));
        let mut file = OutputFile::create(&path, true)?;
        file.write_all(&text).with_context(|| format!("writing {}", path.display()))?;
        file.commit()?;
    }
    Ok(())
}
