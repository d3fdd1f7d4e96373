//! What a serial console says about a boot.

use regex::bytes::Regex;

/// What ended a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What was expected showed.
    Reached(String),
    /// The kernel could not unpack all of the initramfs. Whatever came up after that is not the whole system.
    Unpacking(String),
    /// The kernel panicked.
    Panic(String),
    /// There was no memory left for a program.
    OutOfMemory(String),
    /// A shell for emergencies.
    Emergency(String),
    /// The boot initramfs said that it cannot continue.
    FrontEnd(String),
    /// What was to fail the boot showed.
    Failed(String),
    /// The machine ended.
    Exited(String),
    /// Nothing of all that showed in time.
    TimedOut,
}

impl Verdict {
    /// Whether this is success.
    #[must_use]
    pub const fn reached(&self) -> bool {
        matches!(self, Self::Reached(_))
    }

    /// In a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Reached(line) => format!("reached: {line}"),
            Self::Unpacking(line) => format!("unpacking failed: {line}"),
            Self::Panic(line) => format!("kernel panic: {line}"),
            Self::OutOfMemory(line) => format!("out of memory: {line}"),
            Self::Emergency(line) => format!("emergency shell: {line}"),
            Self::FrontEnd(line) => format!("the boot initramfs gave up: {line}"),
            Self::Failed(line) => format!("the console matched --fail: {line}"),
            Self::Exited(how) => format!("QEMU ended: {how}"),
            Self::TimedOut => "timed out".to_owned(),
        }
    }
}

/// Text without escape sequences (ECMA-48) and control characters, as a person reads it. Screens drawn by programs move
/// the cursor instead of breaking lines: such a move counts as a line break.
#[must_use]
pub fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            0x1b => match bytes.get(at) {
                Some(b'[') => {
                    at += 1;
                    while bytes.get(at).is_some_and(|b| !(0x40..=0x7e).contains(b)) {
                        at += 1;
                    }
                    if matches!(bytes.get(at), Some(b'H' | b'f' | b'J' | b'd')) && out.last() != Some(&b'\n')
                    {
                        out.push(b'\n');
                    }
                    at += 1;
                }
                Some(b']') => {
                    while bytes.get(at).is_some_and(|b| *b != 7 && *b != 0x1b) {
                        at += 1;
                    }
                    at += 1;
                }
                // A character set: one byte more.
                Some(b'(' | b')' | b'*' | b'+' | b'#' | b'%') => at += 2,
                Some(_) => at += 1,
                None => {}
            },
            b'\r' => {}
            b'\n' | b'\t' => out.push(byte),
            0..0x20 | 0x7f => {}
            _ => out.push(byte),
        }
    }
    out
}

/// The last `count` lines that say something.
#[must_use]
pub fn tail(bytes: &[u8], count: usize) -> Vec<String> {
    let text = plain(bytes);
    let lines: Vec<&[u8]> =
        text.split(|&b| b == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| crate::tree::display(line).trim_end().to_owned())
        .collect()
}

/// A verdict with the line that shows it.
type Sign = fn(String) -> Verdict;

/// What a watcher found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the console has gone on to another line, so that the line that shows it is whole.
    pub whole: bool,
}

/// Watches a console as it grows.
pub struct Watcher {
    expect: Option<Regex>,
    fail: Option<Regex>,
    signs: Vec<(Regex, Sign)>,
    seen: Vec<u8>,
    scanned: usize,
    /// What was found is looked for from the same place again, until its line is whole.
    held: Option<usize>,
}

/// A pattern may stand across the border of two pieces of output: this much is looked at again.
const OVERLAP: usize = 4096;
/// Bytes of the console that are kept. A guest may print without end.
const KEPT: usize = 4 << 20;

impl Watcher {
    /// For what the user expects, and what is to fail.
    #[must_use]
    pub fn new(expect: Option<Regex>, fail: Option<Regex>) -> Self {
        let sign = |pattern: &str, verdict: Sign| Regex::new(pattern).ok().map(|r| (r, verdict));
        let signs = [
            // init/initramfs.c; older kernels panic with the bare words.
            sign(r"(?m)^.*Initramfs unpacking failed.*$", Verdict::Unpacking as Sign),
            sign(r"(?m)^.*btrsquash: cannot (?:continue|go on): .*$", Verdict::FrontEnd),
            sign(r"(?m)^.*System is deadlocked on memory.*$", Verdict::OutOfMemory),
            sign(r"(?m)^.*Kernel panic - not syncing.*$", Verdict::Panic),
            // dracut, systemd, initramfs-tools.
            sign(r"(?m)^.*Entering emergency mode.*$", Verdict::Emergency),
            sign(r"(?m)^.*You are in emergency mode.*$", Verdict::Emergency),
            sign(r"(?m)^\(initramfs\) ?", Verdict::Emergency),
            sign(r"(?m)^.*Generating ./run/initramfs/rdsosreport\.txt.*$", Verdict::Emergency),
        ];
        let signs = signs.into_iter().flatten().collect();
        Self { expect, fail, signs, seen: Vec::new(), scanned: 0, held: None }
    }

    /// The output so far, the last `KEPT` bytes of it at least.
    #[must_use]
    pub fn console(&self) -> &[u8] {
        &self.seen
    }

    /// Takes more output; tells when the boot is over. A line that is not [`Found::whole`] is to be given some time:
    /// after more output the answer is that line again, longer, or a graver sign.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Found> {
        self.seen.extend_from_slice(bytes);
        if self.seen.len() > 2 * KEPT {
            let dropped = self.seen.len() - KEPT;
            self.seen.drain(..dropped);
            self.scanned = self.scanned.saturating_sub(dropped);
            self.held = self.held.map(|at| at.saturating_sub(dropped));
        }
        let from = self.held.unwrap_or_else(|| self.scanned.saturating_sub(OVERLAP));
        self.scanned = self.seen.len();
        let found = self.scan(&self.seen[from..]);
        self.held = found.is_some().then_some(from);
        found
    }

    fn scan(&self, raw: &[u8]) -> Option<Found> {
        let text = plain(raw);
        let line = |found: regex::bytes::Match, text: &[u8]| {
            let start = text[..found.start()].iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            let end = text[found.end()..].iter().position(|&b| b == b'\n').map(|at| found.end() + at);
            let shown = &text[start..end.unwrap_or(text.len())];
            (crate::tree::display(shown).trim().to_owned(), end.is_some())
        };
        // A failed unpacking always stands before whatever came up in spite of it.
        for (sign, verdict) in &self.signs {
            if let Some(found) = sign.find(&text) {
                let (line, whole) = line(found, &text);
                let verdict = match verdict(line) {
                    Verdict::Panic(line) if self.seen.windows(14).any(|w| w == b"Out of memory:") => {
                        Verdict::OutOfMemory(line)
                    }
                    other => other,
                };
                return Some(Found { verdict, whole });
            }
        }
        for (pattern, good) in [(&self.fail, false), (&self.expect, true)] {
            let Some(pattern) = pattern else { continue };
            // Programs draw with escape sequences, people write their patterns for the text: both are looked at.
            let found = pattern
                .find(&text)
                .map(|f| line(f, &text))
                .or_else(|| pattern.find(raw).map(|f| line(f, raw)));
            if let Some((line, whole)) = found {
                let verdict = if good { Verdict::Reached(line) } else { Verdict::Failed(line) };
                return Some(Found { verdict, whole });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(text: &str) -> Option<Verdict> {
        Watcher::new(Regex::new("Select a language").ok(), Regex::new("no luck").ok())
            .feed(text.as_bytes())
            .map(|found| found.verdict)
    }

    #[test]
    fn what_a_console_says() {
        let reached = Verdict::Reached("[!!] Select a language [!!]".into());
        assert_eq!(watch("\x1b[2J\x1b[1;1H  [!!] \x1b[1mSelect a language\x1b[m [!!]\n"), Some(reached));
        assert!(matches!(
            watch("[ 1.0] Initramfs unpacking failed: write error\nSelect a language\n"),
            Some(Verdict::Unpacking(_))
        ));
        assert!(matches!(watch("Kernel panic - not syncing: VFS"), Some(Verdict::Panic(_))));
        assert!(matches!(
            watch("Out of memory: Killed\nKernel panic - not syncing: x"),
            Some(Verdict::OutOfMemory(_))
        ));
        assert!(matches!(watch("btrsquash: cannot continue: no disk"), Some(Verdict::FrontEnd(_))));
        assert!(matches!(watch("\n(initramfs) "), Some(Verdict::Emergency(_))));
        assert!(matches!(watch("no luck"), Some(Verdict::Failed(_))));
        assert_eq!(watch("hello\n"), None);
    }

    #[test]
    fn a_pattern_may_come_in_pieces() {
        let mut watcher = Watcher::new(Regex::new("Select a language").ok(), None);
        assert_eq!(watcher.feed(b"Select a \x1b[1"), None);
        assert!(watcher.feed(b"mlanguage").is_some_and(|found| found.verdict.reached() && !found.whole));
    }

    #[test]
    fn a_line_is_waited_for() {
        let mut watcher = Watcher::new(None, None);
        let cut = watcher.feed(b"[ 2.79] Initramfs unpacking failed: wri").unwrap();
        assert!(!cut.whole);
        let found = watcher.feed(b"te error\r\n[ 2.80] more\r\n").unwrap();
        let line = "[ 2.79] Initramfs unpacking failed: write error".to_owned();
        assert_eq!(found, Found { verdict: Verdict::Unpacking(line), whole: true });
    }

    #[test]
    fn a_flood_is_not_kept() {
        let mut watcher = Watcher::new(Regex::new("Select a language").ok(), None);
        let line = [b'x'; 10_000];
        for _ in 0..2000 {
            assert_eq!(watcher.feed(&line), None);
            assert!(watcher.console().len() <= 2 * KEPT);
        }
        assert!(watcher.feed(b"Select a language\n").is_some_and(|found| found.whole));
    }

    #[test]
    fn plain_text() {
        assert_eq!(plain(b"a\x1b[31mb\x1b(Bc\x1b]0;title\x07d\r\n"), b"abcd\n");
        assert_eq!(tail(b"one\n\n \ntwo\nthree\n", 2), ["two", "three"]);
    }
}
