//! stdout carries the result, stderr everything else.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::show::Show;
use btrsquash::error::Error;
use btrsquash::output::{Options, OutputFile, check_distinct, check_output};
use btrsquash::report::document::visible;
use btrsquash::report::{Exporter, Failure, Format, Html, Report, Terminal, exporter_for};

/// The width of text that does not go to a terminal.
const WIDTH: usize = 100;

/// Whether to colour what goes to `stream` (<https://no-color.org>).
fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints an error: the sentence, then what to do; with `json` as one line of JSON.
pub fn complain(failure: &anyhow::Error, json: bool) {
    let mut causes = Vec::new();
    for cause in failure.chain() {
        causes.push(cause.to_string());
        // Its text includes its own causes, and the hint is its last line.
        if cause.is::<Error>() {
            break;
        }
    }
    let text = causes.join(": ");
    if json {
        let typed = failure.chain().find_map(|cause| cause.downcast_ref::<Error>());
        let report = Failure::new(btrsquash::error::exit_code(failure), text.clone(), typed);
        if let Ok(line) = serde_json::to_string(&report) {
            // Nothing can be done if stderr is closed, too.
            let _ = writeln!(io::stderr(), "{line}");
            return;
        }
    }
    let mark = if colour(&io::stderr()) { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    // Names from an image are part of it. The hint is on a line of its own.
    let text: Vec<String> = text.lines().map(visible).collect();
    let _ = writeln!(io::stderr(), "{mark} {}", text.join("\n"));
}

/// Prints a line to stderr that is neither an error nor the result.
pub fn note(text: &str) {
    // Nothing can be done if stderr is closed.
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// The format of a command that knows only these two.
pub const fn json_or_text(json: bool) -> Format {
    if json { Format::Json } else { Format::Text }
}

/// Prints a report. A reader that closes the pipe early is no error: the exit code is still that
/// of the result.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(report: &Report, show: impl Into<Show>) -> anyhow::Result<()> {
    print_to(report, show.into(), false)
}

/// As [`print`], but on stderr if stdout carries the image itself.
///
/// # Errors
/// When it cannot be written.
pub fn print_to(report: &Report, show: Show, on_stderr: bool) -> anyhow::Result<()> {
    if on_stderr {
        let text = match show.format().exporter() {
            Some(exporter) => exporter.export(report)?,
            None => text(Terminal { colour: colour(&io::stderr()), width: WIDTH }, report, show.full)?,
        };
        // As with other messages, a closed stderr changes nothing.
        let _ = io::stderr().write_all(text.as_bytes());
        return Ok(());
    }
    let stdout = io::stdout();
    let text = if let Some(exporter) = show.format().exporter() {
        exporter.export(report)?
    } else {
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(WIDTH, |size| usize::from(size.ws_col));
        let terminal = Terminal { colour: colour(&stdout), width: if width == 0 { WIDTH } else { width } };
        text(terminal, report, show.full)?
    };
    write(&text)
}

/// The whole report or the answer alone.
fn text(terminal: Terminal, report: &Report, full: bool) -> Result<String, Error> {
    if full { terminal.export(report) } else { Ok(terminal.answer(report)) }
}

/// Writes `text` to stdout, up to where its reader closes the pipe.
///
/// # Errors
/// When it cannot be written.
pub fn write(text: &str) -> anyhow::Result<()> {
    write_bytes(text.as_bytes())
}

/// [`write()`] for bytes.
///
/// # Errors
/// [`btrsquash::error::Kind::Usage`] when they cannot be written.
pub fn write_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::writing(e).file("standard output").into())
        }
        _ => Ok(()),
    }
}

/// Files that get the report, in addition to stdout.
pub struct ReportFiles {
    files: Vec<(PathBuf, Box<dyn Exporter>)>,
    options: Options,
}

impl ReportFiles {
    /// Fails before the work if a file could not be written after it, or is one of `inputs` or of the `others` that will
    /// be written. Reports quote the inputs, so they are no more readable than those.
    ///
    /// # Errors
    /// For an unknown extension, an existing file without `force`, a directory that cannot be written.
    pub fn new(
        reports: &[PathBuf],
        html: Option<&Path>,
        force: bool,
        inputs: &[&Path],
        others: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let options =
            inputs.iter().fold(Options::new(force), |options, path| options.no_more_readable_than(path));
        let mut files: Vec<(PathBuf, Box<dyn Exporter>)> = Vec::new();
        for file in reports {
            files.push((file.clone(), exporter_for(file)?));
        }
        files.extend(html.map(|file| (file.to_owned(), Box::new(Html) as Box<dyn Exporter>)));
        for (file, _) in &files {
            check_output(file, options)?;
        }
        let outputs = files.iter().map(|(file, _)| file).chain(others).map(PathBuf::as_path);
        check_distinct(outputs, inputs.iter().copied())?;
        Ok(Self { files, options })
    }

    /// Writes them all, without giving them their names yet.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, report: &Report) -> anyhow::Result<Vec<OutputFile>> {
        self.files
            .iter()
            .map(|(path, exporter)| {
                let text = exporter.export(report)?;
                let mut file = OutputFile::create(path, self.options)?;
                file.write_all(text.as_bytes()).map_err(|e| Error::writing(e).file(path))?;
                file.sync()?;
                Ok(file)
            })
            .collect()
    }
}
