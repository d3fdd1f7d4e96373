//! The shell's own commands, and programs that only answer a question.

use super::UNKNOWN;
use super::call::Call;
use super::expand::{absolute, known};
use super::trace::{Flow, State, Status, Stream, Tracer};

/// Directories whose content is not the image's.
const NOT_OF_THE_IMAGE: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var"];

impl Tracer<'_> {
    pub(super) fn builtin(&mut self, call: &Call, state: &mut State) -> Option<(Status, Flow)> {
        let words = &call.words[1..];
        let first = words.first().map_or("", String::as_str);
        let mut flow = Flow::Next;
        let status = match call.name.as_str() {
            ":" | "true" => Status::Success,
            "false" => Status::Failure,
            "cd" => {
                let to = if first.is_empty() { "/" } else { first };
                state.directory = if known(to) { absolute(&state.directory, to) } else { to.to_owned() };
                Status::Success
            }
            "pwd" => {
                let directory = state.directory.clone();
                state.emit(&directory);
                Status::Success
            }
            "export" | "readonly" | "local" | "declare" | "typeset" => {
                for word in words.iter().filter(|word| !word.starts_with('-')) {
                    let (name, value) =
                        word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
                    if let Some(value) = value {
                        state.set(name, value.to_owned());
                    }
                    if call.name == "export" {
                        state.export(name);
                    }
                }
                Status::Success
            }
            "unset" => {
                words.iter().for_each(|name| state.unset(name));
                Status::Success
            }
            "set" => {
                if first == "--" {
                    state.arguments = words[1..].to_vec();
                }
                Status::Success
            }
            "shift" => {
                let count = first.parse().unwrap_or(1).min(state.arguments.len());
                state.arguments.drain(..count);
                Status::Success
            }
            "read" => self.read(words, state),
            "trap" => {
                // Runs at a signal, or never.
                let mut later = state.clone();
                later.uncertain = true;
                self.source(first, &mut later);
                Status::Success
            }
            "return" | "exit" | "break" | "continue" => {
                flow = match call.name.as_str() {
                    "return" => Flow::Return,
                    "exit" => Flow::Exit,
                    "break" => Flow::Break,
                    _ => Flow::Continue,
                };
                match first {
                    "" => Status::Unknown,
                    "0" => Status::Success,
                    _ => Status::Failure,
                }
            }
            "eval" => return Some(self.source(&words.join(" "), state)),
            "." | "source" => {
                let path = absolute(&state.directory, first);
                let found = self.lookup(first, state).unwrap_or(path);
                let Some(text) = self.file(&found) else { return Some((Status::Unknown, Flow::Next)) };
                let (status, flow) = self.source(&text, state);
                return Some((status, if flow == Flow::Return { Flow::Next } else { flow }));
            }
            "test" | "[" | "[[" => self.test(words, state),
            _ => return self.answer(call, state).map(|status| (status, Flow::Next)),
        };
        Some((status, flow))
    }

    fn read(&mut self, words: &[String], state: &mut State) -> Status {
        let names = words.iter().filter(|word| !word.starts_with('-'));
        let line = match &state.input {
            Stream::Text(text) if text.is_empty() => return Status::Failure,
            _ => state.line(),
        };
        self.spend(1);
        match line {
            Some(line) => {
                let mut rest = line.trim();
                let names: Vec<_> = names.collect();
                for (at, name) in names.iter().enumerate() {
                    let (value, more) = match rest.split_once([' ', '\t']) {
                        Some((value, more)) if at + 1 < names.len() => (value, more.trim_start()),
                        _ => (rest, ""),
                    };
                    state.set(name, value.to_owned());
                    rest = more;
                }
                Status::Success
            }
            None => {
                names.for_each(|name| state.set(name, UNKNOWN.to_string()));
                Status::Unknown
            }
        }
    }

    /// Programs whose output is often substituted.
    fn answer(&mut self, call: &Call, state: &mut State) -> Option<Status> {
        let words = &call.words[1..];
        let operand = words.iter().find(|word| !word.starts_with('-')).map_or("", String::as_str);
        match call.name.as_str() {
            "echo" => {
                let mut rest = words;
                while rest
                    .first()
                    .is_some_and(|word| ["-n", "-e", "-E", "-ne", "-en"].contains(&word.as_str()))
                {
                    rest = &rest[1..];
                }
                state.emit(&format!("{}\n", rest.join(" ")));
            }
            "printf" if words.len() == 1 && !operand.contains('%') => state.emit(operand),
            "printf" if words.len() == 2 && ["%s", "%s\\n"].contains(&operand) => state.emit(&words[1]),
            "basename" => {
                let name = operand.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                state.emit(name);
            }
            "dirname" => {
                let parent = operand.trim_end_matches('/').rsplit_once('/');
                state.emit(parent.map_or(".", |(parent, _)| if parent.is_empty() { "/" } else { parent }));
            }
            "readlink" | "realpath" if known(operand) => {
                let real = self.tree.real_path(absolute(&state.directory, operand));
                let real = real
                    .map_or_else(|| UNKNOWN.to_string(), |real| format!("/{}", crate::tree::display(&real)));
                state.emit(&real);
            }
            "which" | "type" | "command" | "whereis" if known(operand) => {
                let found = self.lookup(operand, state);
                if let Some(path) = &found {
                    state.emit(path);
                }
                return Some(Status::of(found.is_some() || self.function(operand).is_some()));
            }
            "ls" => {
                let directory = absolute(&state.directory, operand);
                let id = self.tree.resolve(&directory);
                let names: Vec<String> = id
                    .and_then(|id| self.tree.names(id))
                    .into_iter()
                    .flatten()
                    .take(4096)
                    .map(|(name, _)| crate::tree::display(name))
                    .collect();
                self.spend(names.len() as u32);
                state.emit(&format!("{}\n", names.join("\n")));
            }
            "mktemp" => state.emit(if known(operand) && operand.starts_with('/') {
                operand
            } else {
                "/tmp/tmp.XXXXXX"
            }),
            "cut" => {
                let text = cut(words, &state.input);
                state.emit(&text);
            }
            "mountpoint" => {
                let mounted = self.mounted.contains(&absolute(&state.directory, operand));
                return Some(Status::of(mounted));
            }
            _ => return None,
        }
        Some(Status::Success)
    }

    fn test(&mut self, words: &[String], state: &State) -> Status {
        let end = words.iter().position(|word| word == "]" || word == "]]").unwrap_or(words.len());
        self.spend(1 + end as u32);
        let words: Vec<&str> = words[..end].iter().map(String::as_str).collect();
        let any = |mut list: Vec<Status>, wins: Status| {
            if list.contains(&wins) {
                return wins;
            }
            list.retain(|status| *status == Status::Unknown);
            list.first().copied().unwrap_or(if wins == Status::Success {
                Status::Failure
            } else {
                Status::Success
            })
        };
        let or: Vec<Status> = words
            .split(|word| *word == "-o" || *word == "||")
            .map(|part| {
                let and = part.split(|word| *word == "-a" || *word == "&&");
                any(and.map(|one| self.primary(one, state)).collect(), Status::Failure)
            })
            .collect();
        any(or, Status::Success)
    }

    fn primary(&mut self, words: &[&str], state: &State) -> Status {
        match words {
            [] => Status::Failure,
            ["!", rest @ ..] => match self.primary(rest, state) {
                Status::Success => Status::Failure,
                Status::Failure => Status::Success,
                Status::Unknown => Status::Unknown,
            },
            words if words.iter().any(|word| !known(word)) => Status::Unknown,
            ["-z", text] => Status::of(text.is_empty()),
            ["-n", text] | [text] => Status::of(!text.is_empty()),
            [operator, path] if operator.len() == 2 && operator.starts_with('-') => self.exists(path, state),
            [a, "=" | "==", b] => Status::of(a == b),
            [a, "!=", b] => Status::of(a != b),
            [a, operator, b] => match (a.parse::<i64>(), b.parse::<i64>()) {
                (Ok(a), Ok(b)) => match *operator {
                    "-eq" => Status::of(a == b),
                    "-ne" => Status::of(a != b),
                    "-lt" => Status::of(a < b),
                    "-le" => Status::of(a <= b),
                    "-gt" => Status::of(a > b),
                    "-ge" => Status::of(a >= b),
                    _ => Status::Unknown,
                },
                _ => Status::Unknown,
            },
            _ => Status::Unknown,
        }
    }

    fn exists(&mut self, path: &str, state: &State) -> Status {
        let path = absolute(&state.directory, path);
        let below =
            |top: &str| path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
        if let Some(copy) = self.copies.iter().find(|copy| copy.len() > 1 && below(copy)) {
            let inside = &path[copy.len()..];
            return if self.tree.resolve(inside).is_some() { Status::Success } else { Status::Unknown };
        }
        let changed = NOT_OF_THE_IMAGE.iter().any(|top| below(top))
            || self.mounted.iter().any(|top| top.len() > 1 && below(top));
        if self.tree.resolve(&path).is_some() || self.made_before.contains(&path) {
            return Status::Success;
        }
        if changed { Status::Unknown } else { Status::Failure }
    }
}

/// `cut -d C -f N` of one line.
fn cut(words: &[String], input: &Stream) -> String {
    let option = |letter: &str| {
        let at = words.iter().position(|word| word.starts_with(letter))?;
        let attached = &words[at][2..];
        if attached.is_empty() { words.get(at + 1).cloned() } else { Some(attached.to_owned()) }
    };
    let field = option("-f").and_then(|field| field.parse::<usize>().ok());
    match (option("-d").and_then(|text| text.chars().next()), field, input) {
        (Some(separator), Some(field), Stream::Text(text)) if field > 0 && known(text) => {
            let line = text.lines().next().unwrap_or_default();
            line.split(separator).nth(field - 1).unwrap_or_default().to_owned()
        }
        _ => UNKNOWN.to_string(),
    }
}
