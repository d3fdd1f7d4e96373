//! Shell text → commands: the part of the POSIX shell grammar (XCU 2.10) that boot scripts are written in.
//!
//! A script that is damaged or not shell at all gives fewer commands, never an error: the reader takes what it
//! understands and goes on at the next line. Time and memory are bounded by the length of the text.

use std::rc::Rc;

/// Compound commands and substitutions nest this deep; the text below is skipped.
pub(super) const MAX_DEPTH: usize = 40;

/// Commands, one after the other.
pub(super) type List = Vec<Command>;

/// A word before expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word(pub Vec<Piece>);

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands; quoted text is neither split nor matched against file names.
    Text { text: String, quoted: bool },
    /// `$name` or `${name…}`.
    Variable { name: String, change: Option<(Change, Word)>, quoted: bool },
    /// `$(…)` or backquotes.
    Substitution { list: List, quoted: bool },
    /// Something whose value is not known, such as arithmetic.
    Unknown,
}

/// What `${name…}` does with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// `:-`, `-`
    Default,
    /// `:=`, `=`
    Assign,
    /// `:+`, `+`
    Alternative,
    /// `#`, `##`
    RemovePrefix { longest: bool },
    /// `%`, `%%`
    RemoveSuffix { longest: bool },
}

/// A command with its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub assignments: Vec<(String, Word)>,
    pub words: Vec<Word>,
    /// Operator, such as `<` or `2>`, and its target.
    pub redirections: Vec<(String, Word)>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Simple(Simple),
    Pipeline {
        commands: List,
        negated: bool,
    },
    /// The first command, then each with whether it follows `&&` (or else `||`).
    AndOr {
        first: Box<Self>,
        rest: Vec<(bool, Self)>,
    },
    Subshell(List),
    Group(List),
    If {
        branches: Vec<(List, List)>,
        otherwise: List,
    },
    For {
        name: String,
        words: Option<Vec<Word>>,
        body: List,
    },
    While {
        condition: List,
        until: bool,
        body: List,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
    Function {
        name: String,
        body: Rc<List>,
    },
}

/// Reads a script.
pub(super) fn parse(text: &str) -> List {
    let mut parser = Parser::new(text, 0);
    let mut all = Vec::new();
    while parser.at < parser.text.len() {
        let start = parser.at;
        all.extend(parser.list(&[]));
        // A word out of place, such as a `fi` too many.
        if parser.at == start {
            parser.at += 1;
        }
    }
    all
}

/// Where a script is read.
pub(super) struct Parser {
    pub text: Vec<char>,
    pub at: usize,
    pub depth: usize,
    /// Ends of the here-documents that begin after this line.
    pub documents: Vec<String>,
}

const RESERVED: [&str; 11] = ["then", "else", "elif", "fi", "do", "done", "esac", "}", ")", ";;", ";&"];

pub(super) const fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}

fn is_name(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Parser {
    pub(super) fn new(text: &str, depth: usize) -> Self {
        Self { text: text.chars().collect(), at: 0, depth, documents: Vec::new() }
    }

    /// What is still to be read.
    fn rest(&self) -> &[char] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.starts(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    /// Blanks, continued lines and comments.
    fn blanks(&mut self) {
        loop {
            match self.peek(0) {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.peek(1) == Some('\n') => self.at += 2,
                Some('#') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn newline(&mut self) {
        self.at += 1;
        for end in std::mem::take(&mut self.documents) {
            while self.at < self.text.len() {
                let stop = self.rest().iter().position(|&c| c == '\n');
                let stop = stop.map_or(self.text.len(), |stop| self.at + stop);
                let line: String = self.text[self.at..stop].iter().collect();
                self.at = (stop + 1).min(self.text.len());
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
    }

    fn separators(&mut self) {
        loop {
            self.blanks();
            match self.peek(0) {
                Some('\n') => self.newline(),
                Some(';') if !matches!(self.peek(1), Some(';' | '&')) => self.at += 1,
                Some('&') if self.peek(1) != Some('&') => self.at += 1,
                _ => return,
            }
        }
    }

    /// The unquoted word that stands here, as far as it is one.
    fn bare(&self) -> String {
        self.rest().iter().take(64).take_while(|c| !ends_word(**c)).collect()
    }

    fn at_reserved(&self, words: &[&str]) -> bool {
        let bare = self.bare();
        words.iter().any(|word| if bare.is_empty() { self.starts(word) } else { bare == *word })
    }

    /// Commands up to one of the words `ends`, which stays, to another reserved word, or to the end.
    pub(super) fn list(&mut self, ends: &[&str]) -> List {
        let mut list = Vec::new();
        self.depth += 1;
        while self.at < self.text.len() {
            self.separators();
            if self.at >= self.text.len() || self.at_reserved(ends) || self.at_reserved(&RESERVED) {
                break;
            }
            let start = self.at;
            list.extend(self.and_or());
            if self.at == start {
                self.at += 1;
            }
        }
        self.depth -= 1;
        list
    }

    /// As [`Parser::list`]; the word at its end is taken.
    pub(super) fn list_to(&mut self, end: &str) -> List {
        let list = self.list(&[end]);
        self.eat(end);
        list
    }

    fn and_or(&mut self) -> Option<Command> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let and = self.starts("&&");
            if !and && !self.starts("||") {
                break;
            }
            self.at += 2;
            self.separators();
            let Some(next) = self.pipeline() else { break };
            rest.push((and, next));
        }
        Some(if rest.is_empty() { first } else { Command::AndOr { first: Box::new(first), rest } })
    }

    fn pipeline(&mut self) -> Option<Command> {
        self.blanks();
        let mut negated = false;
        while self.bare() == "!" {
            self.at += 1;
            negated = !negated;
            self.blanks();
        }
        let mut commands = vec![self.command()?];
        loop {
            self.blanks();
            if self.peek(0) != Some('|') || self.peek(1) == Some('|') {
                break;
            }
            self.at += 1;
            self.eat("&");
            while self.peek(0).is_some_and(|c| c.is_ascii_whitespace()) {
                if self.peek(0) == Some('\n') {
                    self.newline();
                } else {
                    self.at += 1;
                }
            }
            let Some(next) = self.command() else { break };
            commands.push(next);
        }
        if commands.len() == 1 && !negated {
            return commands.pop();
        }
        Some(Command::Pipeline { commands, negated })
    }

    fn command(&mut self) -> Option<Command> {
        self.blanks();
        if self.depth > MAX_DEPTH {
            return None;
        }
        let compound = if self.arithmetic() {
            // Its value is not known.
            let name = Piece::Text { text: "let".into(), quoted: true };
            Some(Command::Simple(Simple { words: vec![Word(vec![name])], ..Simple::default() }))
        } else if self.eat("(") {
            Some(Command::Subshell(self.list_to(")")))
        } else {
            self.compound()
        };
        match compound {
            Some(command) => {
                while self.redirection().is_some() {}
                Some(command)
            }
            None => self.function().or_else(|| self.simple()),
        }
    }

    /// Passes over `((…))`, which is arithmetic where it ends so; else it is a subshell in another.
    fn arithmetic(&mut self) -> bool {
        if !self.starts("((") {
            return false;
        }
        let (mut open, mut last) = (0, ' ');
        for (at, c) in self.rest().iter().take(4096).enumerate() {
            open += i32::from(*c == '(') - i32::from(*c == ')');
            if open == 0 {
                let found = last == ')';
                self.at += if found { at + 1 } else { 0 };
                return found;
            }
            last = *c;
        }
        false
    }

    fn compound(&mut self) -> Option<Command> {
        let word = self.bare();
        let take = |parser: &mut Self| parser.at += word.chars().count();
        match word.as_str() {
            "{" => {
                take(self);
                Some(Command::Group(self.list_to("}")))
            }
            "if" => {
                take(self);
                Some(self.conditions())
            }
            "while" | "until" => {
                take(self);
                let condition = self.list_to("do");
                Some(Command::While { condition, until: word == "until", body: self.list_to("done") })
            }
            "for" => {
                take(self);
                Some(self.for_loop())
            }
            "case" => {
                take(self);
                Some(self.case())
            }
            _ => None,
        }
    }

    fn conditions(&mut self) -> Command {
        let (mut branches, mut otherwise) = (Vec::new(), Vec::new());
        loop {
            let condition = self.list_to("then");
            let body = self.list(&["elif", "else", "fi"]);
            branches.push((condition, body));
            if self.at_reserved(&["elif"]) && branches.len() < 1000 {
                self.at += 4;
                continue;
            }
            if self.at_reserved(&["else"]) {
                self.at += 4;
                otherwise = self.list(&["fi"]);
            }
            self.eat("fi");
            return Command::If { branches, otherwise };
        }
    }

    fn for_loop(&mut self) -> Command {
        self.blanks();
        let name = self.bare();
        self.at += name.chars().count();
        self.separators();
        let mut words = None;
        if self.arithmetic() {
            words = Some(vec![Word(vec![Piece::Unknown])]);
        } else if self.bare() == "in" {
            self.at += 2;
            let mut list = Vec::new();
            loop {
                self.blanks();
                match self.word() {
                    Some(word) => list.push(word),
                    None => break,
                }
            }
            words = Some(list);
        }
        self.separators();
        let brace = self.bare() == "{";
        self.eat(if brace { "{" } else { "do" });
        Command::For { name, words, body: self.list_to(if brace { "}" } else { "done" }) }
    }

    fn case(&mut self) -> Command {
        self.blanks();
        let word = self.word().unwrap_or_default();
        self.separators();
        self.eat("in");
        let mut arms = Vec::new();
        while self.at < self.text.len() {
            self.separators();
            if self.at_reserved(&["esac"]) {
                break;
            }
            let start = self.at;
            self.eat("(");
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                patterns.extend(self.word());
                self.blanks();
                if !self.eat("|") {
                    break;
                }
            }
            self.eat(")");
            let body = self.list(&[";;", "esac"]);
            if self.starts(";;") || self.starts(";&") {
                self.at += 2;
            }
            arms.push((patterns, body));
            if self.at == start {
                break;
            }
        }
        self.eat("esac");
        Command::Case { word, arms }
    }

    fn function(&mut self) -> Option<Command> {
        let start = self.at;
        let mut name = self.bare();
        self.at += name.chars().count();
        let keyword = name == "function";
        if keyword {
            self.blanks();
            name = self.bare();
            self.at += name.chars().count();
        }
        self.blanks();
        let mut found = keyword;
        if !name.is_empty() && self.eat("(") {
            self.blanks();
            found = self.eat(")");
        }
        if !found || name.is_empty() || name.contains(['$', '"', '\'', '=', '`']) {
            self.at = start;
            return None;
        }
        self.separators();
        self.depth += 1;
        let body = self.command().into_iter().collect();
        self.depth -= 1;
        Some(Command::Function { name, body: Rc::new(body) })
    }

    fn simple(&mut self) -> Option<Command> {
        let mut simple = Simple::default();
        loop {
            self.blanks();
            if let Some(redirection) = self.redirection() {
                simple.redirections.push(redirection);
                continue;
            }
            let Some(mut word) = self.word() else { break };
            if self.peek(0) == Some('(') && simple.words.is_empty() && assigns(&word) {
                self.array(&mut word);
            }
            match assignment(&word) {
                Some(assignment) if simple.words.is_empty() => simple.assignments.push(assignment),
                _ => simple.words.push(word),
            }
        }
        let empty =
            simple.words.is_empty() && simple.assignments.is_empty() && simple.redirections.is_empty();
        (!empty).then_some(Command::Simple(simple))
    }

    /// The values of `name=(…)`, with blanks between them.
    fn array(&mut self, word: &mut Word) {
        self.at += 1;
        while self.at < self.text.len() {
            self.separators();
            let Some(mut value) = self.word() else { break };
            word.0.append(&mut value.0);
            word.0.push(Piece::Text { text: " ".into(), quoted: false });
        }
        self.eat(")");
    }

    fn redirection(&mut self) -> Option<(String, Word)> {
        self.blanks();
        let digits = self.rest().iter().take(4).take_while(|c| c.is_ascii_digit()).count();
        if !matches!(self.peek(digits), Some('<' | '>')) {
            return None;
        }
        let mut operator: String = self.text[self.at..self.at + digits].iter().collect();
        self.at += digits;
        while let Some(c @ ('<' | '>' | '&' | '|' | '-')) = self.peek(0) {
            // `>-` is a file name, `<<-` and `>&-` are not.
            if operator.len() > digits + 2 || (c == '-' && operator.len() < digits + 2) {
                break;
            }
            operator.push(c);
            self.at += 1;
        }
        self.blanks();
        let word = self.word().unwrap_or_default();
        let plain = operator.trim_start_matches(|c: char| c.is_ascii_digit());
        // `<<<` is followed by the text itself.
        if plain.starts_with("<<") && !plain.starts_with("<<<") {
            let end: String = word
                .0
                .iter()
                .map(|piece| match piece {
                    Piece::Text { text, .. } => text.as_str(),
                    _ => "",
                })
                .collect();
            if self.documents.len() < 64 {
                self.documents.push(end);
            }
        }
        Some((operator, word))
    }
}

/// Whether a word is `name=` and no more.
fn assigns(word: &Word) -> bool {
    let [Piece::Text { text, quoted: false }] = &word.0[..] else { return false };
    text.strip_suffix('=').is_some_and(|name| is_name(name.trim_end_matches('+')))
}

/// `name=value`, where the name is not quoted.
fn assignment(word: &Word) -> Option<(String, Word)> {
    let Some(Piece::Text { text, quoted: false }) = word.0.first() else { return None };
    let (name, value) = text.split_once('=')?;
    if !is_name(name) {
        return None;
    }
    let mut pieces = word.0.clone();
    pieces[0] = Piece::Text { text: value.to_owned(), quoted: false };
    Some((name.to_owned(), Word(pieces)))
}
