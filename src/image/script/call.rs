//! A command's words, without the programs that only run another program.

/// Programs that run the program they are given: name and how many operands come before it.
const WRAPPERS: [(&str, usize); 19] = [
    ("env", 0),
    ("command", 0),
    ("builtin", 0),
    ("nohup", 0),
    ("setsid", 0),
    ("cttyhack", 0),
    ("nice", 0),
    ("ionice", 0),
    ("time", 0),
    ("timeout", 1),
    ("chrt", 1),
    ("openvt", 0),
    ("linux32", 0),
    ("linux64", 0),
    ("setarch", 1),
    ("taskset", 1),
    ("unshare", 0),
    ("stdbuf", 0),
    ("strace", 0),
];

/// A command while it is looked at.
pub(super) struct Call {
    pub name: String,
    pub words: Vec<String>,
    /// Whether it takes the shell's place.
    pub exec: bool,
    /// Whether its environment starts empty.
    pub cleared: bool,
    pub environment: Vec<(String, String)>,
    pub busybox: bool,
}

pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether a program of this name takes the name of an applet as its first argument: busybox and toybox go by the start
/// of their own name (busybox.static).
pub(super) fn multicall(name: &str) -> bool {
    name.starts_with("busybox") || name.starts_with("toybox")
}

/// Whether this is the dynamic loader, which runs the program that it is given.
fn loader(name: &str) -> bool {
    ["ld-linux", "ld-musl", "ld.so", "ld64.so"].iter().any(|start| name.starts_with(start))
}

/// How many operands come before the program that `name` runs; `None` if it runs none.
fn operands(name: &str) -> Option<usize> {
    if name == "exec" || multicall(name) || loader(name) {
        return Some(0);
    }
    WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name).map(|(_, operands)| *operands)
}

impl Call {
    /// Takes off what only runs another program.
    pub(super) fn new(words: Vec<String>) -> Self {
        let mut call = Self {
            name: String::new(),
            words,
            exec: false,
            cleared: false,
            environment: Vec::new(),
            busybox: false,
        };
        loop {
            let Some(name) = call.words.first().map(|word| base(word).to_owned()) else { return call };
            let Some(skipped) = operands(&name) else {
                call.name = name;
                return call;
            };
            // `command -v` asks, `busybox` alone lists.
            let asks = name == "command" && call.words.get(1).is_some_and(|word| word.starts_with("-v"));
            if asks || (call.words.len() < 2 && name != "exec") {
                call.name = name;
                return call;
            }
            call.exec |= name == "exec";
            call.busybox |= multicall(&name);
            call.unwrap(&name, skipped);
        }
    }

    fn unwrap(&mut self, name: &str, operands: usize) {
        let name = if loader(name) { "ld.so" } else { name };
        let mut words = std::mem::take(&mut self.words).into_iter().skip(1).peekable();
        while let Some(word) = words.next_if(|word| word.starts_with('-') && word.len() > 1) {
            self.cleared |= name == "env" && (word == "-i" || word == "--ignore-environment");
            let valued = match name {
                "env" => word == "-u",
                "exec" => word == "-a",
                "nice" => word == "-n",
                "openvt" | "ionice" => word == "-c",
                "ld.so" => ["--library-path", "--preload", "--argv0"].contains(&word.as_str()),
                _ => false,
            };
            if valued {
                words.next();
            }
            if word == "--" {
                break;
            }
        }
        if name == "env" {
            while let Some(word) = words.next_if(|word| word.contains('=')) {
                if let Some((key, value)) = word.split_once('=') {
                    self.environment.push((key.to_owned(), value.to_owned()));
                }
            }
        }
        self.words = words.skip(operands).collect();
    }
}
