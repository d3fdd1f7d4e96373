//! Plain text: what the terminal shows, without colour, 80 columns wide.

use super::{Exporter, Report, Terminal};
use crate::error::Error;

/// Plain text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Text;

impl Exporter for Text {
    fn export(&self, report: &Report) -> Result<String, Error> {
        Terminal { colour: false, width: 80 }.export(report)
    }
}
