//! stdout carries the result, stderr everything else.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use btrsquash::error::Error;
use btrsquash::output::{OutputFile, check_distinct, check_output};
use btrsquash::report::document::visible;
use btrsquash::report::{Exporter, Html, Json, Report, Terminal, exporter_for};

/// The width where there is no terminal to ask.
const WIDTH: usize = 100;

/// Whether to colour what goes to `stream` (<https://no-color.org>).
fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints an error: the sentence, then what to do.
pub fn complain(failure: &anyhow::Error) {
    let mark = if colour(&io::stderr()) { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    // What an image says of itself is part of it. The hint stands on a line of its own.
    let mut causes = Vec::new();
    for cause in failure.chain() {
        causes.push(cause.to_string());
        // Its text includes its own causes, and the hint is its last line.
        if cause.is::<btrsquash::error::Error>() {
            break;
        }
    }
    let text: Vec<String> = causes.join(": ").lines().map(visible).collect();
    // Nothing can be done where stderr is closed too.
    let _ = writeln!(io::stderr(), "{mark} {}", text.join("\n"));
}

/// Prints a report, as JSON or for people. A reader that has seen enough is no error: the exit code still tells the
/// result.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let stdout = io::stdout();
    let text = if json {
        Json.export(report)?
    } else {
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(WIDTH, |size| usize::from(size.ws_col));
        Terminal { colour: colour(&stdout), width: if width == 0 { WIDTH } else { width } }.export(report)?
    };
    write(&text)
}

/// Writes `text` to stdout, as far as anyone reads it.
///
/// # Errors
/// [`btrsquash::error::Kind::Usage`] when it cannot be written.
pub fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::usage(format!("stdout cannot be written: {e}")).into())
        }
        _ => Ok(()),
    }
}

/// Files that get the report beside stdout.
pub struct ReportFiles {
    files: Vec<(PathBuf, Box<dyn Exporter>)>,
    force: bool,
}

impl ReportFiles {
    /// Fails before the work where a file could not be written after it.
    ///
    /// # Errors
    /// For an ending that is no format, an existing file without `force`, a folder that cannot be written.
    pub fn new(reports: &[PathBuf], html: Option<&Path>, force: bool) -> anyhow::Result<Self> {
        let mut files: Vec<(PathBuf, Box<dyn Exporter>)> = Vec::new();
        for file in reports {
            files.push((file.clone(), exporter_for(file)?));
        }
        files.extend(html.map(|file| (file.to_owned(), Box::new(Html) as Box<dyn Exporter>)));
        for (file, _) in &files {
            check_output(file, force)?;
        }
        check_distinct(files.iter().map(|(file, _)| file.as_path()))?;
        Ok(Self { files, force })
    }

    /// Fails where one of them is one of `others` too.
    ///
    /// # Errors
    /// [`btrsquash::error::Kind::Usage`].
    pub fn check_apart_from(&self, others: &[PathBuf]) -> anyhow::Result<()> {
        for other in others {
            let files = self.files.iter().map(|(file, _)| file.as_path());
            check_distinct(files.chain([other.as_path()]))?;
        }
        Ok(())
    }

    /// Writes them all.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, report: &Report) -> anyhow::Result<()> {
        for (path, exporter) in &self.files {
            let text = exporter.export(report)?;
            let mut file = OutputFile::create(path, self.force)?;
            file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
            file.commit()?;
        }
        Ok(())
    }
}
