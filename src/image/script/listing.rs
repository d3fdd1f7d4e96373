//! Programs that list files and run others with what they list: find and xargs.

use super::UNKNOWN;
use super::expand::{absolute, known};
use super::trace::{State, Stream, Tracer};
use crate::tree::display;

/// More names are not passed on.
const MAX_NAMES: usize = 4096;

/// What `find` is asked for.
#[derive(Default)]
struct Search<'w> {
    roots: Vec<&'w str>,
    /// `-mindepth 1`: the names in the roots, not the roots themselves.
    inside: bool,
    /// Patterns of `! -name` and `! -path`, and of what is pruned.
    excluded: Vec<&'w str>,
    /// Whether only some files are found, and which is not known.
    chosen: bool,
    /// The command of `-exec`.
    command: Vec<&'w str>,
}

impl<'w> Search<'w> {
    fn of(words: &'w [String]) -> Self {
        let mut search = Self::default();
        let expression =
            words.iter().position(|word| word.starts_with(['-', '(', '!'])).unwrap_or(words.len());
        let (roots, expression) = words.split_at(expression);
        search.roots.extend(roots.iter().map(String::as_str));
        let mut words = expression.iter().map(String::as_str).peekable();
        let mut negated = false;
        while let Some(word) = words.next() {
            match word {
                "!" | "-not" => {
                    negated = !negated;
                    continue;
                }
                "-mindepth" => search.inside = words.next().is_some_and(|depth| depth != "0"),
                "-maxdepth" => drop(words.next()),
                "-name" | "-path" | "-wholename" => {
                    let pattern = words.next().unwrap_or_default();
                    if negated || words.peek() == Some(&"-prune") {
                        search.excluded.push(pattern);
                    } else {
                        search.chosen = true;
                    }
                }
                "-type" => search.chosen |= words.next().is_some_and(|kind| (kind == "f") == negated),
                "-exec" | "-execdir" | "-ok" => {
                    search.command = words.by_ref().take_while(|word| *word != ";" && *word != "+").collect();
                }
                "-iname" | "-ipath" | "-regex" | "-newer" | "-perm" | "-user" | "-size" | "-mtime"
                | "-mmin" => {
                    search.chosen = true;
                    words.next();
                }
                _ => {}
            }
            negated = false;
        }
        search
    }

    fn excludes(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        self.excluded.iter().any(|pattern| *pattern == name || pattern.trim_start_matches('.') == path)
    }
}

impl Tracer<'_> {
    pub(super) fn find(&mut self, words: &[String], state: &mut State) {
        let search = Search::of(words);
        let found = self.found(&search, state);
        if search.command.is_empty() {
            let text: String = found.iter().map(|path| format!("{path}\n")).collect();
            return state.emit(if text.is_empty() { "." } else { &text });
        }
        let words = replaced(search.command.iter().copied(), "{}", &found);
        self.run_for(words, state);
    }

    fn found(&mut self, search: &Search<'_>, state: &State) -> Vec<String> {
        if search.chosen {
            return vec![UNKNOWN.to_string()];
        }
        let roots = if search.roots.is_empty() { vec!["."] } else { search.roots.clone() };
        if !search.inside {
            return roots.into_iter().map(str::to_owned).collect();
        }
        let mut found = Vec::new();
        for root in roots.into_iter().filter(|root| known(root)) {
            let directory = absolute(&state.directory, root);
            let names = self.tree.resolve(&directory).and_then(|id| self.tree.names(id));
            let paths = names.into_iter().flatten().map(|(name, _)| absolute(&directory, &display(name)));
            found.extend(paths.filter(|path| !search.excludes(path)).take(MAX_NAMES));
            self.spend(found.len() as u32);
        }
        found
    }

    /// Runs a command with the names that it reads.
    pub(super) fn xargs(&mut self, words: &[String], state: &mut State) {
        let Stream::Text(text) = std::mem::take(&mut state.input) else { return };
        let names: Vec<String> = text
            .split(['\n', ' ', '\t'])
            .filter(|name| !name.is_empty())
            .take(MAX_NAMES)
            .map(str::to_owned)
            .collect();
        self.spend(names.len() as u32);
        let mut place = None;
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next_if(|word| word.starts_with('-')) {
            match word {
                "-I" | "--replace" => place = words.next(),
                "-i" => place = Some("{}"),
                "-n" | "-P" | "-L" | "-s" | "-d" | "-E" => drop(words.next()),
                word if word.starts_with("-I") => place = word.get(2..),
                _ => {}
            }
        }
        let command: Vec<&str> = words.collect();
        let words = match place.filter(|place| !place.is_empty()) {
            Some(place) => replaced(command.into_iter(), place, &names),
            None => command.into_iter().map(str::to_owned).chain(names).collect(),
        };
        self.run_for(words, state);
    }
}

/// `words`, each that contains `place` once for every name. Programs that copy take any number of names, so that one
/// call stands for all.
fn replaced<'w>(words: impl Iterator<Item = &'w str>, place: &str, names: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for word in words {
        if word.contains(place) {
            all.extend(names.iter().map(|name| word.replace(place, name)));
        } else {
            all.push(word.to_owned());
        }
    }
    all.truncate(2 * MAX_NAMES);
    all
}
