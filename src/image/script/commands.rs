//! What single commands do: the shell's own, and the programs that boot scripts use to mount, copy and hand over.

use super::arguments::{self, Tar};
use super::call::{Call, base, multicall};
use super::expand::{absolute, known};
use super::syntax::Simple;
use super::trace::{Flow, State, Status, Stream, Tracer};
use super::{Action, Copied, Mount, Start, Tool, UNKNOWN};

/// Programs that are taken to succeed, since a boot goes no further where they do not.
const SUCCEED: [&str; 22] = [
    ":",
    "true",
    "echo",
    "printf",
    "mkdir",
    "mount",
    "cp",
    "mv",
    "tar",
    "cpio",
    "rsync",
    "chmod",
    "chown",
    "mknod",
    "ln",
    "rm",
    "rmdir",
    "umount",
    "sleep",
    "pivot_root",
    "set",
    "unset",
];

/// Programs without any effect on what comes after the script.
const HARMLESS: [&str; 39] = [
    ":",
    "true",
    "false",
    "echo",
    "printf",
    "test",
    "[",
    "[[",
    "sleep",
    "grep",
    "egrep",
    "fgrep",
    "cut",
    "tr",
    "head",
    "tail",
    "uname",
    "id",
    "date",
    "stty",
    "clear",
    "reset",
    "dmesg",
    "wc",
    "sort",
    "uniq",
    "awk",
    "expr",
    "free",
    "ps",
    "read",
    "wait",
    "trap",
    "umask",
    "set",
    "sync",
    "seq",
    "let",
    "mountpoint",
];

impl Tracer<'_> {
    pub(super) fn simple(&mut self, simple: &Simple, state: &mut State) -> (Status, Flow) {
        let mut assigned = Vec::new();
        for (name, word) in &simple.assignments {
            let value = self.text(word, state);
            assigned.push((name.clone(), value));
        }
        let words = self.fields(&simple.words, state);
        let mut piped = None;
        for (operator, word) in &simple.redirections {
            let target = self.text(word, state);
            if operator == "<" || operator == "0<" {
                let file = Stream::File(absolute(&state.directory, &target));
                piped = Some(std::mem::replace(&mut state.input, file));
            } else if operator.contains('>') && !operator.contains('&') && !words.is_empty() {
                self.writes(&target, state);
                if !operator.starts_with('2') {
                    state.output = Stream::Nothing;
                }
            }
        }
        if words.is_empty() {
            assigned.into_iter().for_each(|(name, value)| state.set(&name, value));
            return (Status::Success, Flow::Next);
        }
        let mut call = Call::new(words);
        if call.words.is_empty() {
            // `exec` with nothing but redirections.
            return (Status::Success, Flow::Next);
        }
        if !call.cleared {
            assigned.append(&mut call.environment);
        } else {
            assigned = std::mem::take(&mut call.environment);
        }
        call.environment = assigned;
        let result = self.call(&call, state);
        if let Some(piped) = piped {
            state.input = piped;
        }
        result
    }

    /// A file that is written: not a device, and not what is gone at the end.
    fn writes(&mut self, target: &str, state: &State) {
        let path = absolute(&state.directory, target);
        self.made(&path);
        let passing = ["/dev", "/proc", "/sys", "/run", "/tmp"].iter().any(|top| path.starts_with(top));
        if !passing && known(target) && !target.is_empty() {
            self.event(Action::Other(format!("write {path}")), state);
        }
    }

    pub(super) fn call(&mut self, call: &Call, state: &mut State) -> (Status, Flow) {
        if let Some(body) = self.function(&call.words[0]) {
            let saved = std::mem::replace(&mut state.arguments, call.words[1..].to_vec());
            let (status, flow) = self.list(&body, state);
            state.arguments = saved;
            return (status, if flow == Flow::Return { Flow::Next } else { flow });
        }
        if let Some(result) = self.builtin(call, state) {
            return result;
        }
        if let Some((tool, words)) = arguments::tool(&call.name, &call.words[1..]) {
            return self.hand_over(tool, words, call, state);
        }
        if call.words[0].contains(UNKNOWN) {
            return (Status::Unknown, if call.exec { Flow::Exit } else { Flow::Next });
        }
        if let Some(status) = self.program(call, state) {
            return (status, if call.exec { Flow::Exit } else { Flow::Next });
        }
        self.other(call, state)
    }

    /// A script of the image, or a program that is not known here.
    fn other(&mut self, call: &Call, state: &mut State) -> (Status, Flow) {
        let shell = ["sh", "bash", "ash", "dash", "hush"].contains(&call.name.as_str());
        let mut words = &call.words[..];
        if shell {
            if words.get(1).is_some_and(|word| word == "-c") {
                let text = words.get(2).cloned().unwrap_or_default();
                return self.script(call, "sh", &text, &[], state);
            }
            let operand = words.iter().skip(1).position(|word| !word.starts_with('-'));
            words = operand.map_or(words, |at| &words[at + 1..]);
        }
        // `busybox init` runs the applet, whatever the image has at /sbin/init.
        let applet = call.busybox && !shell;
        let path = if applet { None } else { self.lookup(&words[0], state) };
        let text = path.as_deref().and_then(|path| self.file(path)).filter(|text| {
            (text.starts_with("#!") && text.lines().next().is_some_and(|line| line.contains("sh")))
                || (shell && words.len() < call.words.len())
        });
        if let Some((path, text)) = path.as_ref().zip(text) {
            return self.script(call, path, &text, &words[1..], state);
        }
        if call.exec {
            let start = Start {
                tool: (state.root != "/").then_some(Tool::PivotRoot),
                busybox: call.busybox,
                root: state.root.clone(),
                program: path.unwrap_or_else(|| call.words[0].clone()),
                arguments: call.words[1..].to_vec(),
                environment: environment(call, state),
            };
            self.starts(start, state);
            return (Status::Unknown, Flow::Exit);
        }
        state.emit(&UNKNOWN.to_string());
        if !HARMLESS.contains(&call.name.as_str()) && !state.piped {
            let text: String = call.words.join(" ").chars().take(80).collect();
            self.event(Action::Other(text), state);
        }
        let status = if SUCCEED.contains(&call.name.as_str()) { Status::Success } else { Status::Unknown };
        (status, Flow::Next)
    }

    fn script(
        &mut self,
        call: &Call,
        path: &str,
        text: &str,
        arguments: &[String],
        state: &mut State,
    ) -> (Status, Flow) {
        let mut child = self.child(state);
        child.child = state.child || !call.exec;
        child.script = path.to_owned();
        child.arguments = arguments.to_vec();
        for (name, value) in &call.environment {
            child.set(name, value.clone());
            child.export(name);
        }
        self.source(text, &mut child);
        if state.piped {
            state.output = child.output;
        }
        (Status::Unknown, if call.exec { Flow::Exit } else { Flow::Next })
    }

    fn starts(&mut self, start: Start, state: &State) {
        if !state.child {
            self.event(Action::Start(start), state);
        }
    }

    fn hand_over(&mut self, tool: Tool, words: &[String], call: &Call, state: &mut State) -> (Status, Flow) {
        let operands = arguments::operands(tool, words);
        // A variable that is not set names no directory.
        let root = operands.first().map(|root| match root.as_str() {
            "" => UNKNOWN.to_string(),
            root => self.unbound(absolute(&state.directory, root)),
        });
        if tool == Tool::PivotRoot {
            if let Some(root) = root.filter(|root| known(root)) {
                state.root.clone_from(&root);
            }
            return (Status::Success, Flow::Next);
        }
        // After pivot_root, `.` and `/` are the new root.
        let pivoted = tool == Tool::Chroot && state.root != "/";
        let start = Start {
            tool: Some(if pivoted { Tool::PivotRoot } else { tool }),
            busybox: call.busybox
                || self.lookup(&call.words[0], state).is_some_and(|path| {
                    let real = self.tree.real_path(&path);
                    real.is_some_and(|real| multicall(base(&String::from_utf8_lossy(&real))))
                }),
            root: if pivoted { state.root.clone() } else { root.unwrap_or_default() },
            program: operands.get(1).cloned().unwrap_or_default(),
            arguments: operands.iter().skip(2).cloned().collect(),
            environment: environment(call, state),
        };
        let inits = ["init", "linuxrc", "systemd"];
        if tool == Tool::Chroot && !call.exec && !inits.contains(&base(&start.program)) {
            // A command in another root, not the end.
            self.event(Action::Other(call.words.join(" ").chars().take(80).collect()), state);
            return (Status::Unknown, Flow::Next);
        }
        // Neither switch_root nor run-init runs as another process than the first.
        self.starts(start, state);
        (Status::Unknown, Flow::Exit)
    }

    /// Where a command is found.
    pub(super) fn lookup(&mut self, word: &str, state: &State) -> Option<String> {
        self.spend(2);
        if word.contains('/') {
            let path = absolute(&state.directory, word);
            return self.tree.resolve(&path).map(|_| path);
        }
        let path = state.get("PATH").filter(|path| known(path) && path.len() < 4096).unwrap_or_default();
        let usual = "/sbin:/usr/sbin:/bin:/usr/bin";
        path.split(':').chain(usual.split(':')).filter(|dir| dir.starts_with('/')).take(64).find_map(|dir| {
            let path = absolute(dir, word);
            self.tree.resolve(&path).map(|_| path)
        })
    }

    /// A program whose effect matters, or that only asks.
    fn program(&mut self, call: &Call, state: &mut State) -> Option<Status> {
        let words = &call.words[1..];
        match call.name.as_str() {
            "mount" => self.mount(words, state),
            "umount" => {
                for path in words.iter().filter(|word| !word.starts_with('-')) {
                    self.event(Action::Unmount(absolute(&state.directory, path)), state);
                }
            }
            "cp" => self.copy("cp", words, state),
            "mv" => self.copy("mv", words, state),
            "rsync" => self.copy("rsync", words, state),
            "tar" | "bsdtar" | "gtar" => self.tar(words, state),
            "cpio" => self.cpio(words, state),
            "find" => self.find(words, state),
            "xargs" => self.xargs(words, state),
            "cat" | "zcat" | "gzip" | "gunzip" | "xz" | "unxz" | "xzcat" | "lzma" | "unlzma" | "zstd"
            | "unzstd" | "zstdcat" | "bzip2" | "bunzip2" | "bzcat" | "lz4" | "lz4cat" | "pv" | "buffer"
            | "dd" => {
                self.filter(&call.name, words, state);
            }
            "grep" | "egrep" | "fgrep" => return Some(self.grep(words, state)),
            "sort" | "uniq" | "tac" => state.output = std::mem::take(&mut state.input),
            "mkdir" | "touch" => {
                for path in words.iter().filter(|word| !word.starts_with('-')) {
                    self.made(&absolute(&state.directory, path));
                }
            }
            "rmdir" => {}
            _ => return None,
        }
        Some(Status::Success)
    }

    fn grep(&mut self, words: &[String], state: &mut State) -> Status {
        if words.iter().any(|word| word == "/proc/cmdline") {
            // Nothing unusual is asked for.
            return Status::Failure;
        }
        let kept = words.iter().any(|word| word == "-v") && matches!(state.input, Stream::Text(_));
        if kept {
            state.output = std::mem::take(&mut state.input)
        } else {
            state.emit(&UNKNOWN.to_string())
        }
        Status::Unknown
    }

    /// Passes on what it reads: a pipe, or a file.
    fn filter(&mut self, name: &str, words: &[String], state: &mut State) {
        let file = words
            .iter()
            .filter_map(|word| if name == "dd" { word.strip_prefix("if=") } else { Some(word.as_str()) })
            .find(|word| !word.starts_with('-'));
        let text = match file {
            Some(file) if name == "cat" && state.piped => self.file(&absolute(&state.directory, file)),
            _ => None,
        };
        match (file, text) {
            (_, Some(text)) if text.len() < 4096 => state.emit(&text),
            (Some(file), _) if state.piped => {
                state.output = Stream::File(absolute(&state.directory, file));
                if ["/proc", "/sys", "/dev"].iter().any(|top| file.starts_with(top)) {
                    state.output = Stream::Text(UNKNOWN.to_string());
                }
            }
            (Some(_), _) => {}
            (None, _) => state.output = std::mem::take(&mut state.input),
        }
    }

    fn mount(&mut self, words: &[String], state: &State) {
        if words.iter().any(|word| word == "-a") {
            let fstab = self.file("/etc/fstab").unwrap_or_default();
            for line in fstab.lines().filter(|line| !line.trim_start().starts_with('#')).take(64) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if let [source, target, kind, ..] = fields[..]
                    && target.starts_with('/')
                {
                    self.mounted(source, target, kind, "", false, state);
                }
            }
            return;
        }
        let parsed = arguments::mount(words);
        let [.., target] = &parsed.operands[..] else { return };
        let source = if parsed.operands.len() > 1 { parsed.operands[0].as_str() } else { "" };
        let target = absolute(&state.directory, target);
        if parsed.moved && source.starts_with('/') && target != "/" && self.binds.len() < 256 {
            let source = self.unbound(absolute("/", source));
            self.binds.insert(target.clone(), source);
        }
        self.mounted(source, &target, &parsed.kind, &parsed.options, parsed.moved, state);
    }

    fn mounted(&mut self, source: &str, target: &str, kind: &str, options: &str, moved: bool, state: &State) {
        if options.split(',').any(|option| option == "remount") {
            return;
        }
        if self.mounted.len() < 256 {
            self.mounted.insert(target.to_owned());
        }
        let mount = Mount {
            kind: kind.to_owned(),
            source: source.to_owned(),
            target: absolute("/", target),
            options: options.to_owned(),
            moved,
        };
        self.event(Action::Mount(mount), state);
    }

    fn copied(
        &mut self,
        sources: Vec<String>,
        excluded: Vec<String>,
        target: String,
        by: &'static str,
        state: &State,
    ) {
        if self.copies.len() < 256 {
            self.copies.insert(target.clone());
        }
        let sources = sources.into_iter().map(|source| self.unbound(source)).collect();
        self.event(Action::Copy(Copied { sources, excluded, target, by }), state);
    }

    fn copy(&mut self, by: &'static str, words: &[String], state: &State) {
        let (mut operands, target, excluded) = arguments::copy(words);
        let Some(target) = target.or_else(|| operands.pop()) else { return };
        let absolute = |path: &String| absolute(&state.directory, path);
        let sources: Vec<String> = operands.iter().map(absolute).collect();
        if !sources.is_empty() {
            let excluded = excluded.iter().map(absolute).collect();
            self.copied(sources, excluded, absolute(&target), by, state);
        }
    }

    fn tar(&mut self, words: &[String], state: &mut State) {
        let Tar { create, extract, file, directory, excluded, members } =
            arguments::tar(words, &state.directory);
        if create {
            let excluded = excluded.iter().map(|path| absolute(&directory, path)).collect();
            if file.is_none() {
                state.output = Stream::Archive { sources: members, excluded, by: "tar" };
            }
        } else if extract {
            match file {
                Some(file) => {
                    self.event(Action::Unpack { archive: absolute(&state.directory, &file) }, state);
                }
                None => self.extract(directory, state),
            }
        }
    }

    /// An archive from the pipe lands in `target`.
    fn extract(&mut self, target: String, state: &mut State) {
        match std::mem::take(&mut state.input) {
            Stream::Archive { sources, excluded, by } => self.copied(sources, excluded, target, by, state),
            Stream::File(archive) => self.event(Action::Unpack { archive }, state),
            Stream::Nothing | Stream::Text(_) => {}
        }
    }

    fn cpio(&mut self, words: &[String], state: &mut State) {
        let parsed = arguments::cpio(words, &state.directory);
        let names = |stream: Stream| match stream {
            Stream::Text(text) => text.lines().map(|line| absolute(&state.directory, line)).collect(),
            _ => Vec::new(),
        };
        if parsed.pass {
            let sources = names(std::mem::take(&mut state.input));
            self.copied(sources, Vec::new(), parsed.target, "cpio", state);
        } else if parsed.create {
            let sources = names(std::mem::take(&mut state.input));
            state.output = Stream::Archive { sources, excluded: Vec::new(), by: "cpio" };
        } else {
            self.extract(parsed.target, state);
        }
    }
}

fn environment(call: &Call, state: &State) -> Vec<(String, String)> {
    let mut all = if call.cleared { Vec::new() } else { state.environment() };
    all.extend(call.environment.iter().cloned());
    all
}
