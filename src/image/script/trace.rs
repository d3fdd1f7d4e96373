//! Control flow: which commands of a script run, in what order, and how sure that is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::call::Call;
use super::expand::{MAX_VALUE, absolute, known, matches};
use super::syntax::{Command, List, parse};
use super::{Action, Again, Event, MAX_TEXT, Trace, UNKNOWN};
use crate::tree::Tree;

/// So much work is done for one script; a step is a command, a branch or a lookup.
const BUDGET: u32 = 100_000;
/// Commands, functions and scripts nest this deep.
const MAX_DEPTH: u32 = 60;
/// More events than any boot script has.
const MAX_EVENTS: usize = 4096;
/// More variables than any boot script sets.
const MAX_VARIABLES: usize = 512;

/// Whether a command succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    Failure,
    Unknown,
}

impl Status {
    pub(super) const fn of(success: bool) -> Self {
        if success { Self::Success } else { Self::Failure }
    }

    const fn not(self) -> Self {
        match self {
            Self::Success => Self::Failure,
            Self::Failure => Self::Success,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// What runs after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
    Return,
    /// The script ends.
    Exit,
}

/// What is in a pipe.
#[derive(Debug, Clone, Default)]
pub(super) enum Stream {
    #[default]
    Nothing,
    Text(String),
    /// A tar or cpio archive of files.
    Archive {
        sources: Vec<String>,
        excluded: Vec<String>,
        by: &'static str,
    },
    /// The content of a file of the image, or what it unpacks to.
    File(String),
}

/// What a shell keeps.
#[derive(Clone)]
pub(super) struct State {
    variables: BTreeMap<String, String>,
    exported: BTreeSet<String>,
    /// `$1` and so on.
    pub arguments: Vec<String>,
    /// The script, `$0`.
    pub script: String,
    pub directory: String,
    /// Where pivot_root put the root.
    pub root: String,
    /// Whether it is uncertain that this runs at all.
    pub uncertain: bool,
    /// Whether this is another process than the script's own.
    pub child: bool,
    pub input: Stream,
    pub output: Stream,
    /// Whether anybody reads `output`.
    pub piped: bool,
}

impl State {
    pub(super) fn get(&self, name: &str) -> Option<String> {
        match name {
            "0" => Some(self.script.clone()),
            "#" => Some(self.arguments.len().to_string()),
            "@" | "*" => Some(self.arguments.join(" ")),
            "?" | "$" | "!" | "-" => Some(UNKNOWN.to_string()),
            name => match name.parse::<usize>() {
                Ok(number) => number.checked_sub(1).and_then(|at| self.arguments.get(at).cloned()),
                Err(_) => self.variables.get(name).cloned(),
            },
        }
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        if self.variables.len() < MAX_VARIABLES || self.variables.contains_key(name) {
            self.variables.insert(name.to_owned(), value);
        }
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
        self.exported.remove(name);
    }

    pub(super) fn export(&mut self, name: &str) {
        if self.exported.len() < MAX_VARIABLES {
            self.exported.insert(name.to_owned());
        }
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let value = |name: &String| Some((name.clone(), self.variables.get(name)?.clone()));
        self.exported.iter().filter_map(value).collect()
    }

    /// After a branch that may not have run: what was known before counts, what was not known may come from the branch.
    fn merge(&mut self, branch: Self) {
        for (name, value) in branch.variables {
            let open = self.variables.get(&name).is_none_or(|old| old.is_empty() || !known(old));
            if open {
                self.set(&name, value);
            }
        }
        self.exported.extend(branch.exported);
    }

    /// Bytes of the text that is in the pipe.
    fn unread(&self) -> usize {
        match &self.input {
            Stream::Text(text) => text.len(),
            _ => 0,
        }
    }

    /// Takes a line from the pipe, where its text is known.
    pub(super) fn line(&mut self) -> Option<String> {
        let Stream::Text(text) = &mut self.input else { return None };
        if text.is_empty() || !known(text) {
            return None;
        }
        let end = text.find('\n').map_or(text.len(), |end| end + 1);
        Some(text.drain(..end).collect::<String>().trim_end_matches('\n').to_owned())
    }

    pub(super) fn emit(&mut self, text: &str) {
        if !self.piped {
            return;
        }
        match &mut self.output {
            Stream::Text(all) if all.len() + text.len() <= MAX_VALUE => all.push_str(text),
            Stream::Text(all) if all.ends_with(UNKNOWN) => {}
            Stream::Text(all) => all.push(UNKNOWN),
            output => *output = Stream::Text(text.to_owned()),
        }
    }
}

/// Follows scripts of one tree.
pub(super) struct Tracer<'t> {
    pub tree: &'t Tree,
    pub events: Vec<Event>,
    pub complete: bool,
    budget: u32,
    depth: u32,
    functions: BTreeMap<String, Rc<List>>,
    called: BTreeSet<String>,
    /// Mount points so far, and directories that are copies of the root.
    pub mounted: BTreeSet<String>,
    pub copies: BTreeSet<String>,
    /// Directories that are another place of an existing one, with that one.
    pub binds: BTreeMap<String, String>,
    /// Files and directories that the script makes, and that an earlier one made.
    made: BTreeSet<String>,
    pub made_before: BTreeSet<String>,
}

impl<'t> Tracer<'t> {
    pub(super) fn run(tree: &'t Tree, path: &str, text: &str, again: &Again) -> Trace {
        let mut tracer = Self {
            tree,
            events: Vec::new(),
            complete: true,
            budget: BUDGET,
            depth: 0,
            functions: BTreeMap::new(),
            called: BTreeSet::new(),
            mounted: BTreeSet::new(),
            copies: BTreeSet::new(),
            binds: BTreeMap::new(),
            made: BTreeSet::new(),
            made_before: again.made.clone(),
        };
        let mut state = State {
            variables: BTreeMap::from([("PATH".into(), "/sbin:/usr/sbin:/bin:/usr/bin".into())]),
            exported: BTreeSet::new(),
            arguments: again.arguments.clone(),
            script: path.to_owned(),
            directory: "/".into(),
            root: "/".into(),
            uncertain: false,
            child: false,
            input: Stream::Nothing,
            output: Stream::Nothing,
            piped: false,
        };
        for (name, value) in &again.environment {
            state.set(name, value.clone());
            state.export(name);
        }
        tracer.list(&parse(text), &mut state);
        tracer.uncalled(&mut state);
        Trace { events: tracer.events, made: tracer.made, complete: tracer.complete }
    }

    pub(super) fn made(&mut self, path: &str) {
        if self.made.len() < 256 && known(path) {
            self.made.insert(path.to_owned());
        }
    }

    /// The directory itself, for a path below another place of it.
    pub(super) fn unbound(&self, path: String) -> String {
        let bound = |(place, source): (&String, &String)| {
            let rest =
                path.strip_prefix(place.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some(absolute(source, rest.trim_start_matches('/')))
        };
        self.binds.iter().find_map(bound).unwrap_or(path)
    }

    /// Functions that no call was seen of, where the script does not end otherwise: they may be called by names that
    /// are put together.
    fn uncalled(&mut self, state: &mut State) {
        // A shell for the administrator, or a reboot, is what comes when everything else failed.
        let rescue = |program: &str| {
            let name = program.rsplit('/').next().unwrap_or_default();
            ["sh", "ash", "bash", "dash", "busybox", "reboot", "poweroff", "halt"].contains(&name)
        };
        let ends = |event: &Event| {
            event.certain
                && matches!(&event.action, Action::Start(start) if start.tool.is_some() || !rescue(&start.program))
        };
        if self.events.iter().any(ends) {
            return;
        }
        state.uncertain = true;
        let functions: Vec<_> = self.functions.clone().into_iter().collect();
        for (name, body) in functions {
            if !self.called.contains(&name) {
                self.list(&body, &mut state.clone());
            }
        }
    }

    /// Takes from the budget; whether there is any left.
    pub(super) fn spend(&mut self, steps: u32) -> bool {
        self.budget = self.budget.saturating_sub(steps);
        self.complete &= self.budget > 0;
        self.budget > 0
    }

    pub(super) fn event(&mut self, action: Action, state: &State) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(Event { action, certain: !state.uncertain });
        } else {
            self.complete = false;
        }
    }

    pub(super) fn function(&mut self, name: &str) -> Option<Rc<List>> {
        let body = Rc::clone(self.functions.get(name)?);
        self.called.insert(name.to_owned());
        Some(body)
    }

    pub(super) fn list(&mut self, list: &[Command], state: &mut State) -> (Status, Flow) {
        let mut status = Status::Success;
        for command in list {
            let flow;
            (status, flow) = self.command(command, state);
            if flow != Flow::Next {
                return (status, flow);
            }
        }
        (status, Flow::Next)
    }

    fn command(&mut self, command: &Command, state: &mut State) -> (Status, Flow) {
        if self.depth >= MAX_DEPTH || !self.spend(1) {
            self.complete = false;
            return (Status::Unknown, Flow::Exit);
        }
        self.depth += 1;
        let result = match command {
            Command::Simple(simple) => self.simple(simple, state),
            Command::Pipeline { commands, negated } => self.pipeline(commands, *negated, state),
            Command::AndOr { first, rest } => self.and_or(first, rest, state),
            Command::Subshell(list) => self.subshell(list, state),
            Command::Group(list) => self.list(list, state),
            Command::If { branches, otherwise } => self.conditions(branches, otherwise, state),
            Command::For { name, words, body } => self.for_loop(name, words.as_deref(), body, state),
            Command::While { condition, until, body } => self.while_loop(condition, *until, body, state),
            Command::Case { word, arms } => {
                let word = self.text(word, state);
                self.case(&word, arms, state)
            }
            Command::Function { name, body } => {
                if self.functions.len() < MAX_VARIABLES {
                    self.functions.insert(name.clone(), Rc::clone(body));
                }
                (Status::Success, Flow::Next)
            }
        };
        self.depth -= 1;
        result
    }

    /// Runs `list` where it is not known whether it runs.
    fn maybe(&mut self, list: &[Command], state: &mut State) -> Flow {
        if !self.spend(1 + state.variables.len() as u32 / 8) {
            return Flow::Next;
        }
        let mut branch = state.clone();
        branch.uncertain = true;
        let (_, flow) = self.list(list, &mut branch);
        if state.piped {
            state.output = std::mem::take(&mut branch.output);
        }
        if flow == Flow::Next {
            state.merge(branch);
        }
        flow
    }

    pub(super) fn child(&mut self, state: &State) -> State {
        self.spend(1 + state.variables.len() as u32 / 8);
        State { output: Stream::Nothing, child: true, ..state.clone() }
    }

    fn subshell(&mut self, list: &[Command], state: &mut State) -> (Status, Flow) {
        let mut child = self.child(state);
        let (status, _) = self.list(list, &mut child);
        if state.piped {
            state.output = child.output;
        }
        (status, Flow::Next)
    }

    pub(super) fn substitution(&mut self, list: &[Command], state: &mut State) -> String {
        if self.depth >= MAX_DEPTH {
            return UNKNOWN.to_string();
        }
        let mut child = self.child(state);
        child.piped = true;
        self.depth += 1;
        self.list(list, &mut child);
        self.depth -= 1;
        match child.output {
            Stream::Text(text) => text.trim_end_matches('\n').to_owned(),
            Stream::Nothing => String::new(),
            Stream::Archive { .. } | Stream::File(_) => UNKNOWN.to_string(),
        }
    }

    fn pipeline(&mut self, commands: &[Command], negated: bool, state: &mut State) -> (Status, Flow) {
        if let [command] = commands {
            let (status, flow) = self.command(command, state);
            return (if negated { status.not() } else { status }, flow);
        }
        let mut stream = std::mem::take(&mut state.input);
        let mut status = Status::Success;
        for (index, command) in commands.iter().enumerate() {
            let mut child = self.child(state);
            child.input = stream;
            child.piped = state.piped || index + 1 < commands.len();
            (status, _) = self.command(command, &mut child);
            stream = child.output;
        }
        if state.piped {
            state.output = stream;
        }
        (if negated { status.not() } else { status }, Flow::Next)
    }

    fn and_or(&mut self, first: &Command, rest: &[(bool, Command)], state: &mut State) -> (Status, Flow) {
        let (mut status, mut flow) = self.command(first, state);
        for (and, command) in rest {
            if flow != Flow::Next {
                break;
            }
            match (status, and) {
                (Status::Failure, true) | (Status::Success, false) => {}
                (Status::Unknown, _) => {
                    // What may end the script may also not.
                    self.maybe(std::slice::from_ref(command), state);
                }
                _ => (status, flow) = self.command(command, state),
            }
        }
        (status, flow)
    }

    fn conditions(
        &mut self,
        branches: &[(List, List)],
        otherwise: &[Command],
        state: &mut State,
    ) -> (Status, Flow) {
        let mut flows = Vec::new();
        for (condition, body) in branches {
            let (status, flow) = self.list(condition, state);
            if flow != Flow::Next {
                return (status, flow);
            }
            match status {
                Status::Failure => {}
                Status::Success if flows.is_empty() => return self.list(body, state),
                Status::Success => {
                    flows.push(self.maybe(body, state));
                    return (Status::Unknown, together(&flows));
                }
                Status::Unknown => flows.push(self.maybe(body, state)),
            }
        }
        if flows.is_empty() {
            return self.list(otherwise, state);
        }
        flows.push(self.maybe(otherwise, state));
        (Status::Unknown, together(&flows))
    }

    fn for_loop(
        &mut self,
        name: &str,
        words: Option<&[super::syntax::Word]>,
        body: &[Command],
        state: &mut State,
    ) -> (Status, Flow) {
        let values = match words {
            Some(words) => self.fields(words, state),
            None => state.arguments.clone(),
        };
        for value in values {
            if !self.spend(1) {
                break;
            }
            let sure = known(&value);
            state.set(name, value);
            let flow = if sure { self.list(body, state).1 } else { self.maybe(body, state) };
            match flow {
                Flow::Return | Flow::Exit if sure => return (Status::Unknown, flow),
                Flow::Break if sure => break,
                _ => {}
            }
        }
        (Status::Unknown, Flow::Next)
    }

    fn while_loop(
        &mut self,
        condition: &[Command],
        until: bool,
        body: &[Command],
        state: &mut State,
    ) -> (Status, Flow) {
        // Once; again as long as it reads from a pipe whose text is known.
        loop {
            let before = state.unread();
            let (status, flow) = self.list(condition, state);
            if flow != Flow::Next {
                return (status, flow);
            }
            match if until { status.not() } else { status } {
                Status::Failure => break,
                Status::Success => {
                    let (_, flow) = self.list(body, state);
                    if matches!(flow, Flow::Return | Flow::Exit) {
                        return (Status::Unknown, flow);
                    }
                    if flow == Flow::Break || state.unread() == before {
                        break;
                    }
                }
                Status::Unknown => {
                    self.maybe(body, state);
                    break;
                }
            }
        }
        (Status::Unknown, Flow::Next)
    }

    fn case(
        &mut self,
        word: &str,
        arms: &[(Vec<super::syntax::Word>, List)],
        state: &mut State,
    ) -> (Status, Flow) {
        let mut flows = Vec::new();
        let mut all = false;
        for (patterns, body) in arms {
            self.spend(1 + word.len() as u32 / 64);
            let patterns: Vec<String> = patterns.iter().map(|pattern| self.text(pattern, state)).collect();
            let any = patterns.iter().any(|pattern| pattern == "*");
            let sure = known(word) && patterns.iter().all(|pattern| known(pattern));
            if sure {
                let fits = word.len() <= 1024 && patterns.iter().any(|p| p.len() <= 1024 && matches(p, word));
                if fits && flows.is_empty() {
                    return self.list(body, state);
                }
                if !fits {
                    continue;
                }
            }
            flows.push(self.maybe(body, state));
            all |= any;
        }
        (Status::Unknown, if all { together(&flows) } else { Flow::Next })
    }

    /// Runs the commands of another text in the same shell.
    pub(super) fn source(&mut self, text: &str, state: &mut State) -> (Status, Flow) {
        if !self.spend(1 + text.len() as u32 / 256) || self.depth >= MAX_DEPTH {
            return (Status::Unknown, Flow::Next);
        }
        self.depth += 1;
        let (status, flow) = self.list(&parse(text), state);
        self.depth -= 1;
        (status, if flow == Flow::Exit { Flow::Exit } else { Flow::Next })
    }

    /// Runs a command for another one, as find and xargs do: no deeper than the shell goes itself.
    pub(super) fn run_for(&mut self, words: Vec<String>, state: &mut State) {
        if self.depth >= MAX_DEPTH || !self.spend(1) {
            self.complete = false;
            return;
        }
        self.depth += 1;
        self.call(&Call::new(words), state);
        self.depth -= 1;
    }

    /// The text of a file of the image.
    pub(super) fn file(&mut self, path: &str) -> Option<String> {
        self.spend(4);
        let id = self.tree.resolve(path)?;
        let bytes = self.tree.read(id, MAX_TEXT).ok()??;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What follows when one of several branches ran.
fn together(flows: &[Flow]) -> Flow {
    let first = flows.first().copied().unwrap_or(Flow::Next);
    if flows.iter().all(|flow| *flow == first) { first } else { Flow::Next }
}
