//! Words of a shell script (XCU 2.2, 2.6): quotes, parameters and substitutions.

use super::syntax::{Change, MAX_DEPTH, Parser, Piece, Word, ends_word};

impl Parser {
    pub(super) fn word(&mut self) -> Option<Word> {
        let start = self.at;
        let mut pieces = Vec::new();
        while let Some(c) = self.peek(0) {
            if ends_word(c) {
                break;
            }
            self.piece(&mut pieces, false);
        }
        (self.at > start).then_some(Word(pieces))
    }

    /// Takes at least one character.
    fn piece(&mut self, pieces: &mut Vec<Piece>, quoted: bool) {
        let Some(c) = self.peek(0) else { return };
        match c {
            '\'' if !quoted => {
                self.at += 1;
                let text = self.until('\'');
                pieces.push(Piece::Text { text, quoted: true });
            }
            '"' if !quoted => {
                self.at += 1;
                push(pieces, "", true);
                while self.peek(0).is_some_and(|c| c != '"') {
                    self.piece(pieces, true);
                }
                self.eat("\"");
            }
            '\\' => {
                self.at += 1;
                let next = self.peek(0);
                self.at += usize::from(next.is_some());
                match next {
                    Some('\n') | None => {}
                    Some(c) if quoted && !matches!(c, '$' | '`' | '"' | '\\') => {
                        push(pieces, &format!("\\{c}"), true);
                    }
                    Some(c) => push(pieces, &c.to_string(), true),
                }
            }
            '`' => {
                self.at += 1;
                let inner = self.backquoted();
                let list = if self.depth < MAX_DEPTH {
                    let mut parser = Self::new(&inner, self.depth + 1);
                    parser.list(&[])
                } else {
                    Vec::new()
                };
                pieces.push(Piece::Substitution { list, quoted });
            }
            '$' => self.dollar(pieces, quoted),
            _ => {
                self.at += 1;
                push(pieces, c.encode_utf8(&mut [0; 4]), quoted);
            }
        }
    }

    fn until(&mut self, end: char) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c != end) {
            self.at += 1;
        }
        let text = self.text[start..self.at].iter().collect();
        self.at = (self.at + 1).min(self.text.len());
        text
    }

    fn backquoted(&mut self) -> String {
        let mut inner = String::new();
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '`' => break,
                '\\' if matches!(self.peek(0), Some('`' | '\\' | '$')) => {
                    inner.extend(self.peek(0));
                    self.at += 1;
                }
                c => inner.push(c),
            }
        }
        inner
    }

    fn dollar(&mut self, pieces: &mut Vec<Piece>, quoted: bool) {
        self.at += 1;
        if self.eat("((") {
            let mut open = 2;
            while let Some(c) = self.peek(0)
                && open > 0
            {
                open = match c {
                    '(' => open + 1,
                    ')' => open - 1,
                    _ => open,
                };
                self.at += 1;
            }
            pieces.push(Piece::Unknown);
            return;
        }
        if self.eat("(") {
            let outer = std::mem::take(&mut self.documents);
            let list = self.list_to(")");
            self.documents = outer;
            pieces.push(Piece::Substitution { list, quoted });
            return;
        }
        if self.eat("{") {
            let piece = self.parameter(quoted);
            pieces.push(piece);
            return;
        }
        let special = self.peek(0).filter(|c| c.is_ascii_digit() || "@*#?$!-".contains(*c));
        let name = match special {
            Some(c) => c.to_string(),
            None => self.name(),
        };
        if name.is_empty() {
            push(pieces, "$", quoted);
            return;
        }
        if special.is_some() {
            self.at += 1;
        }
        pieces.push(Piece::Variable { name, change: None, quoted });
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    /// After `${`.
    fn parameter(&mut self, quoted: bool) -> Piece {
        let mut name = self.name();
        if name.is_empty()
            && let Some(c) = self.peek(0).filter(|c| "@*#?$!-".contains(*c))
        {
            self.at += 1;
            name = c.to_string();
        }
        // All values of an array: they are kept as words.
        let all = self.eat("[@]") || self.eat("[*]");
        let quoted = quoted && !all;
        let change = match (self.peek(0), self.peek(1)) {
            (Some('}'), _) => {
                self.at += 1;
                // `${#}` and the like.
                return Piece::Variable { name, change: None, quoted };
            }
            (Some(':'), Some('-')) => Some((Change::Default, 2)),
            (Some('-'), _) => Some((Change::Default, 1)),
            (Some(':'), Some('=')) => Some((Change::Assign, 2)),
            (Some('='), _) => Some((Change::Assign, 1)),
            (Some(':'), Some('+')) => Some((Change::Alternative, 2)),
            (Some('+'), _) => Some((Change::Alternative, 1)),
            (Some('#'), Some('#')) => Some((Change::RemovePrefix { longest: true }, 2)),
            (Some('#'), _) => Some((Change::RemovePrefix { longest: false }, 1)),
            (Some('%'), Some('%')) => Some((Change::RemoveSuffix { longest: true }, 2)),
            (Some('%'), _) => Some((Change::RemoveSuffix { longest: false }, 1)),
            _ => None,
        };
        self.at += change.map_or(0, |(_, length)| length);
        let mut pieces = Vec::new();
        self.depth += 1;
        while self.peek(0).is_some_and(|c| c != '}') {
            if self.depth > MAX_DEPTH {
                self.at += 1;
            } else {
                self.piece(&mut pieces, false);
            }
        }
        self.depth -= 1;
        self.eat("}");
        match change {
            Some((change, _)) if name != "#" => {
                Piece::Variable { name, change: Some((change, Word(pieces))), quoted }
            }
            // Lengths, substrings, replacements.
            _ => Piece::Unknown,
        }
    }
}

fn push(pieces: &mut Vec<Piece>, more: &str, is_quoted: bool) {
    if let Some(Piece::Text { text, quoted }) = pieces.last_mut()
        && *quoted == is_quoted
    {
        text.push_str(more);
        return;
    }
    pieces.push(Piece::Text { text: more.to_owned(), quoted: is_quoted });
}
