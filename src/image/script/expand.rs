//! From words to text: parameter expansion, field splitting and path names (XCU 2.6).

use super::UNKNOWN;
use super::syntax::{Change, Piece, Word};
use super::trace::{State, Tracer};
use crate::tree::{Node, Tree, display};

/// Values and fields longer than this are cut.
pub(super) const MAX_VALUE: usize = 16 << 10;
/// A pattern expands to so many names at most.
const MAX_NAMES: usize = 4096;
/// Braces expand to so many words at most.
const MAX_BRACES: usize = 256;
/// Longer values are not searched for what `#` and `%` take off.
const MAX_TRIMMED: usize = 256;

/// Whether all of `text` is known.
pub(super) fn known(text: &str) -> bool {
    !text.contains(UNKNOWN)
}

/// `path` from `directory`, without `.`, `..` and double slashes.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { directory };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether `text` matches the shell pattern `pattern`: `*`, `?` and `[…]`. Takes at most the product of both lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('[') => set(&pattern[p..], text[t]),
            Some('?') => Some(1),
            Some(c) if *c == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The length of the bracket expression at the start of `pattern`, where it has `c`.
fn set(pattern: &[char], c: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = 1 + usize::from(negated);
    let end = first + 1 + pattern.get(first + 1..)?.iter().position(|c| *c == ']')?;
    let list = &pattern[first..end];
    let range = list.windows(3).any(|w| w[1] == '-' && w[0] <= c && c <= w[2]);
    ((range || list.contains(&c)) != negated).then_some(end + 1)
}

/// The names of `tree` that match `pattern`, which is seen from `directory`; in the form in which it was written.
pub(super) fn names(tree: &Tree, directory: &str, pattern: &str) -> Vec<String> {
    let from = if pattern.starts_with('/') { "/" } else { directory };
    let mut found = vec![(if pattern.starts_with('/') { "/" } else { "" }.to_owned(), absolute("/", from))];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for (written, real) in &found {
            let Some(entries) = tree.resolve(real).and_then(|id| tree.names(id)) else { continue };
            let join = |name: &str| {
                let slash = if written.is_empty() || written.ends_with('/') { "" } else { "/" };
                (format!("{written}{slash}{name}"), absolute(real, name))
            };
            if part.contains(['*', '?', '[']) {
                let hidden = part.starts_with('.');
                let names = entries.keys().map(|name| display(name));
                next.extend(
                    names
                        .filter(|name| name.starts_with('.') == hidden && matches(part, name))
                        .map(|n| join(&n)),
                );
            } else if part == "." || part == ".." || entries.contains_key(part.as_bytes()) {
                next.push(join(part));
            }
            if next.len() > MAX_NAMES {
                return Vec::new();
            }
        }
        found = next;
    }
    let directories = pattern.ends_with('/');
    let is_directory =
        |real: &str| tree.resolve(real).is_some_and(|id| matches!(tree.inode(id).node, Node::Directory(_)));
    found
        .into_iter()
        .filter(|(_, real)| !directories || is_directory(real))
        .map(|(written, _)| if directories { format!("{written}/") } else { written })
        .collect()
}

/// `value` without the shortest or longest part at its start or end that matches.
fn trim(value: &str, pattern: &str, change: Change) -> String {
    if value.len() > MAX_TRIMMED || pattern.len() > MAX_TRIMMED || !known(value) || !known(pattern) {
        return UNKNOWN.to_string();
    }
    let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    let (prefix, longest) = match change {
        Change::RemoveSuffix { longest } => (false, longest),
        Change::RemovePrefix { longest } => (true, longest),
        _ => return value.to_owned(),
    };
    // The shortest prefix ends first, the shortest suffix begins last.
    if prefix == longest {
        cuts.reverse();
    }
    for cut in cuts {
        let (start, end) = value.split_at(cut);
        let (taken, left) = if prefix { (start, end) } else { (end, start) };
        if matches(pattern, taken) {
            return left.to_owned();
        }
    }
    value.to_owned()
}

/// What bash makes of `a{b,c}`: `ab ac`.
fn braces(word: &Word) -> Vec<Word> {
    let mut words = vec![word.clone()];
    // Each round expands one pair of braces in every word.
    for _ in 0..3 {
        let more: Vec<Word> =
            words.iter().flat_map(|word| brace(word).unwrap_or_else(|| vec![word.clone()])).collect();
        if more.len() == words.len() || more.len() > MAX_BRACES {
            break;
        }
        words = more;
    }
    words
}

fn brace(word: &Word) -> Option<Vec<Word>> {
    let choices = |piece: &Piece| {
        let Piece::Text { text, quoted: false } = piece else { return None };
        let (before, rest) = text.split_once('{')?;
        let (inside, after) = rest.split_once('}')?;
        let choices: Vec<String> =
            inside.split(',').map(|choice| format!("{before}{choice}{after}")).collect();
        (choices.len() > 1).then_some(choices)
    };
    let (at, choices) = word.0.iter().enumerate().find_map(|(at, piece)| Some((at, choices(piece)?)))?;
    let with = |text: String| {
        let mut word = word.clone();
        word.0[at] = Piece::Text { text, quoted: false };
        word
    };
    Some(choices.into_iter().take(MAX_BRACES + 1).map(with).collect())
}

/// Fields while they are put together.
#[derive(Default)]
struct Fields {
    done: Vec<(String, bool)>,
    open: Option<String>,
    pattern: bool,
    /// `"$@"` without arguments is no field.
    vanishes: bool,
}

impl Fields {
    fn push(&mut self, text: &str) {
        let open = self.open.get_or_insert_default();
        if open.len() + text.len() <= MAX_VALUE {
            open.push_str(text);
        } else if !open.ends_with(UNKNOWN) {
            open.push(UNKNOWN);
        }
    }

    fn close(&mut self) {
        if let Some(field) = self.open.take().filter(|field| !field.is_empty() || !self.vanishes)
            && self.done.len() < MAX_NAMES
        {
            self.done.push((field, self.pattern));
        }
        self.pattern = false;
    }

    /// Text whose blanks part fields.
    fn split(&mut self, text: &str) {
        self.pattern |= text.contains(['*', '?', '[']);
        for (index, part) in text.split([' ', '\t', '\n']).enumerate() {
            if index > 0 {
                self.close();
                self.pattern = text.contains(['*', '?', '[']);
            }
            if !part.is_empty() {
                self.push(part);
            }
        }
    }
}

impl Tracer<'_> {
    /// The fields that words become.
    pub(super) fn fields(&mut self, words: &[Word], state: &mut State) -> Vec<String> {
        let mut all = Vec::new();
        for word in words.iter().flat_map(braces) {
            let mut fields = Fields::default();
            for piece in &word.0 {
                match piece {
                    Piece::Text { text, quoted } => {
                        fields.pattern |= !quoted && text.contains(['*', '?', '[']);
                        fields.push(text);
                    }
                    Piece::Variable { name, change: None, .. } if name == "@" || name == "*" => {
                        fields.vanishes = state.arguments.is_empty();
                        for (index, argument) in state.arguments.clone().iter().enumerate() {
                            if index > 0 {
                                fields.close();
                            }
                            fields.push(argument);
                        }
                    }
                    Piece::Variable { quoted: true, .. } | Piece::Substitution { quoted: true, .. } => {
                        let text = self.value(piece, state);
                        fields.push(&text);
                    }
                    piece => {
                        let text = self.value(piece, state);
                        fields.split(&text);
                    }
                }
            }
            fields.close();
            for (field, pattern) in fields.done {
                let names = if pattern && known(&field) && known(&state.directory) {
                    self.spend(field.len() as u32);
                    names(self.tree, &state.directory, &field)
                } else {
                    Vec::new()
                };
                if names.is_empty() {
                    all.push(field)
                } else {
                    all.extend(names)
                }
                if all.len() > MAX_NAMES {
                    self.complete = false;
                    return all;
                }
            }
        }
        all
    }

    /// The text that a word becomes where it is not split.
    pub(super) fn text(&mut self, word: &Word, state: &mut State) -> String {
        let mut all = String::new();
        for piece in &word.0 {
            let text = self.value(piece, state);
            if all.len() + text.len() > MAX_VALUE {
                return UNKNOWN.to_string();
            }
            all.push_str(&text);
        }
        all
    }

    fn value(&mut self, piece: &Piece, state: &mut State) -> String {
        match piece {
            Piece::Text { text, .. } => text.clone(),
            Piece::Unknown => UNKNOWN.to_string(),
            Piece::Substitution { list, .. } => self.substitution(list, state),
            Piece::Variable { name, change, .. } => {
                let value = state.get(name);
                let Some((change, word)) = change else { return value.unwrap_or_default() };
                let set = value.as_deref().is_some_and(|value| !value.is_empty());
                match change {
                    Change::Default if set => value.unwrap_or_default(),
                    Change::Default => self.text(word, state),
                    Change::Assign if set => value.unwrap_or_default(),
                    Change::Assign => {
                        let text = self.text(word, state);
                        state.set(name, text.clone());
                        text
                    }
                    Change::Alternative if set => self.text(word, state),
                    Change::Alternative => String::new(),
                    Change::RemovePrefix { .. } | Change::RemoveSuffix { .. } => {
                        let pattern = self.text(word, state);
                        self.spend(64);
                        trim(&value.unwrap_or_default(), &pattern, *change)
                    }
                }
            }
        }
    }
}
