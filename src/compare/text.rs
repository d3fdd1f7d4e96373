//! Unified diffs of text files.

use similar::TextDiff;

use crate::report::TextDifference;
use crate::tree::display;

/// Files larger than this many bytes are not compared as text.
pub const TEXT_LIMIT: u64 = 256 * 1024;

/// Files of more lines than this are not compared as text: the time grows with the square of the lines that differ.
const LINES_LIMIT: usize = 4_000;

/// Lines of one unified diff that are kept.
const DIFF_LINES: usize = 400;

/// Bytes of one unified diff that are kept.
const DIFF_BYTES: usize = 64 * 1024;

/// How a text file at `path` differs, or `None` where either side is no text or is too long.
#[must_use]
pub fn text_difference(path: &[u8], old: &[u8], new: &[u8]) -> Option<TextDifference> {
    let (old, new) = (text(old)?, text(new)?);
    let path = display(path);
    let whole = TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(3)
        .header(&format!("old/{path}"), &format!("new/{path}"))
        .to_string();
    let mut diff = String::new();
    for line in whole.split_inclusive('\n').take(DIFF_LINES) {
        if diff.len() + line.len() > DIFF_BYTES {
            break;
        }
        diff.push_str(line);
    }
    Some(TextDifference { truncated: diff.len() < whole.len(), path, diff })
}

/// `bytes` as text, where they are text of a bearable length.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text_like = bytes.len() as u64 <= TEXT_LIMIT && !bytes.contains(&0);
    (text_like && bytes.iter().filter(|&&b| b == b'\n').count() <= LINES_LIMIT).then_some(text)
}
