//! The command line as dracut reads it: /etc/cmdline.d/*.conf first, then /proc/cmdline; the last word wins.

use std::fs;
use std::path::PathBuf;

/// All arguments in order.
pub struct Arguments(Vec<(String, Option<String>)>);

impl Arguments {
    /// Reads them.
    pub fn read() -> Self {
        let mut files: Vec<PathBuf> = fs::read_dir("/etc/cmdline.d")
            .map(|dir| dir.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "conf"));
        files.sort();
        let mut text = String::new();
        for file in files.into_iter().chain([PathBuf::from("/proc/cmdline")]) {
            // Bytes that are no UTF-8 can be in no argument of ours.
            text.push_str(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()));
            text.push('\n');
        }
        Self::parse(&text)
    }

    /// Takes a text apart; double quotes keep blanks together, as the kernel's parser does.
    pub fn parse(text: &str) -> Self {
        let mut arguments = Vec::new();
        let (mut word, mut quoted) = (String::new(), false);
        for c in text.chars().chain(['\n']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted || c == '\n' => {
                    quoted = false;
                    if !word.is_empty() {
                        arguments.push(match word.split_once('=') {
                            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                            None => (word.clone(), None),
                        });
                    }
                    word.clear();
                }
                c => word.push(c),
            }
        }
        Self(arguments)
    }

    /// The last value of `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name)?.1.as_deref()
    }

    /// Whether `name` is there and not 0, no or off (dracut's getargbool).
    pub fn is_set(&self, name: &str) -> bool {
        self.switch(&[name]) == Some(true)
    }

    /// What the last of several names for one thing says: an old and a new name of an option, of which the image's
    /// own command line may hold one and the user's another.
    pub fn switch(&self, names: &[&str]) -> Option<bool> {
        let (_, value) = self.0.iter().rev().find(|(n, _)| names.contains(&n.as_str()))?;
        Some(!matches!(value.as_deref(), Some("0" | "no" | "off")))
    }

    /// Whether `name` is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }
}
