//! Unified diffs of text files.

use similar::TextDiff;

/// Files larger than this many bytes are not compared as text.
pub(super) const TEXT_LIMIT: u64 = 256 * 1024;

/// Files of more lines than this are not compared as text: the time grows with the square of the lines that differ.
const LINES_LIMIT: usize = 4_000;

/// Lines of one unified diff that are kept.
const DIFF_LINES: usize = 400;

/// Bytes of one unified diff that are kept.
const DIFF_BYTES: usize = 64 * 1024;

/// How a text file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextDifference {
    /// Its path, escaped for display.
    pub path: String,
    /// A unified diff.
    pub diff: String,
    /// Whether the diff was cut short.
    pub truncated: bool,
}

/// How a text file at `path` differs, or `None` if either side is not text or is too long.
pub(super) fn text_difference(path: &[u8], old: &[u8], new: &[u8]) -> Option<TextDifference> {
    let (old, new) = (text(old)?, text(new)?);
    let path = crate::tree::display(path);
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

/// `bytes` as text, if they are text and not too long.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text_like = bytes.len() as u64 <= TEXT_LIMIT && !bytes.contains(&0);
    (text_like && bytes.iter().filter(|&&b| b == b'\n').count() <= LINES_LIMIT).then_some(text)
}
