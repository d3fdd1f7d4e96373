//! What people at the console read.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};

/// What went wrong, and what to try.
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) hint: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

pub(crate) fn failure(what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure { what: what.into(), hint: hint.into() }
}

/// For `map_err`: doing this failed.
pub(crate) fn failed<'a, E: Display>(
    doing: impl Display + 'a,
    hint: &'a str,
) -> impl FnOnce(E) -> Failure + 'a {
    move |error| failure(format!("{doing}: {error}"), hint)
}

/// Prints a line to the console.
pub(crate) fn say(text: &str) {
    let line = format!("btrsquash: {text}\r\n");
    let console = OpenOptions::new().write(true).open("/dev/console");
    if console.and_then(|mut console| console.write_all(line.as_bytes())).is_err() {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
