//! Options and operands of the programs that mount, copy and hand over.

use super::Tool;
use super::expand::absolute;

/// The tool that a program of this name is, and its words.
pub(super) fn tool<'w>(name: &str, words: &'w [String]) -> Option<(Tool, &'w [String])> {
    let tool = match name {
        "switch_root" | "switchroot" | "new_root" => Tool::SwitchRoot,
        "run-init" => Tool::RunInit,
        "pivot_root" => Tool::PivotRoot,
        "chroot" => Tool::Chroot,
        "systemctl" => {
            let at = words.iter().position(|word| word == "switch-root")?;
            return Some((Tool::SwitchRoot, &words[at + 1..]));
        }
        _ => return None,
    };
    Some((tool, words))
}

/// The operands of a tool: the root, the program and its arguments.
pub(super) fn operands(tool: Tool, words: &[String]) -> Vec<String> {
    // -c of busybox and klibc, -d of klibc, -b … of Alpine's busybox.
    let valued = |word: &str| tool != Tool::Chroot && ["-c", "-d"].contains(&word);
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-') && word.len() > 1) {
        at += 1 + usize::from(valued(word));
        if word == "--" {
            break;
        }
    }
    words.get(at..).unwrap_or_default().to_vec()
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MountArguments {
    pub kind: String,
    pub options: String,
    pub moved: bool,
    pub operands: Vec<String>,
}

impl MountArguments {
    fn add(&mut self, options: &str) {
        self.options = [self.options.as_str(), options].join(",").trim_matches(',').to_owned();
    }

    /// Short options, several in one word perhaps: `-nt tmpfs`, `-ttmpfs`.
    fn letters<'w>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'w String>) {
        for (at, letter) in letters.char_indices() {
            let mut value = || {
                let attached = letters.get(at + 1..).filter(|rest| !rest.is_empty());
                attached.map(str::to_owned).or_else(|| words.next().cloned()).unwrap_or_default()
            };
            match letter {
                't' => self.kind = value(),
                'o' => self.add(&value()),
                'L' | 'U' => self.operands.insert(0, value()),
                'M' | 'B' | 'R' => {
                    self.moved = true;
                    continue;
                }
                _ => continue,
            }
            return;
        }
    }
}

pub(super) fn mount(words: &[String]) -> MountArguments {
    let mut parsed = MountArguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix('-').filter(|option| !option.is_empty()) else {
            parsed.operands.push(word.clone());
            continue;
        };
        let Some(long) = option.strip_prefix('-') else {
            parsed.letters(option, &mut words);
            continue;
        };
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let mut value = || value.map(str::to_owned).or_else(|| words.next().cloned()).unwrap_or_default();
        match name {
            "types" => parsed.kind = value(),
            "options" => parsed.add(&value()),
            "move" | "bind" | "rbind" => parsed.moved = true,
            "source" | "label" | "uuid" => parsed.operands.insert(0, value()),
            "target" => parsed.operands.push(value()),
            _ => {}
        }
    }
    let moving = ["move", "bind", "rbind"];
    parsed.moved |= parsed.options.split(',').any(|option| moving.contains(&option));
    if let [only] = &parsed.operands[..]
        && !only.contains('/')
    {
        parsed.operands = vec![only.clone(), format!("/{only}")];
    }
    parsed
}

/// Operands of cp, mv and rsync, the target of `-t`, and what is excluded.
pub(super) fn copy(words: &[String]) -> (Vec<String>, Option<String>, Vec<String>) {
    let (mut operands, mut target, mut excluded) = (Vec::new(), None, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "-t" || word == "--target-directory" {
            target = words.next().cloned();
        } else if let Some(path) = word.strip_prefix("--target-directory=") {
            target = Some(path.to_owned());
        } else if word == "--exclude" {
            excluded.extend(words.next().cloned());
        } else if let Some(path) = word.strip_prefix("--exclude=") {
            excluded.push(path.to_owned());
        } else if word == "--" || !word.starts_with('-') {
            operands.extend((word != "--").then(|| word.clone()));
        }
    }
    (operands, target, excluded)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tar {
    pub create: bool,
    pub extract: bool,
    /// The archive, where it is not a pipe.
    pub file: Option<String>,
    pub directory: String,
    pub excluded: Vec<String>,
    /// Absolute paths of what goes into the archive.
    pub members: Vec<String>,
}

pub(super) fn tar(words: &[String], directory: &str) -> Tar {
    let mut tar = Tar { directory: directory.to_owned(), ..Tar::default() };
    let mut words = words.iter();
    let mut first = true;
    while let Some(word) = words.next() {
        let bundle = match word.strip_prefix('-') {
            Some(letters) if !letters.starts_with('-') && !letters.is_empty() => Some((letters, true)),
            None if first => Some((word.as_str(), false)),
            _ => None,
        };
        if let Some((letters, dashed)) = bundle {
            self::letters(&mut tar, letters, dashed, &mut words, directory);
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let mut value = || value.map(str::to_owned).or_else(|| words.next().cloned()).unwrap_or_default();
            match name {
                "create" => tar.create = true,
                "extract" | "get" => tar.extract = true,
                "directory" => tar.directory = absolute(directory, &value()),
                "exclude" => tar.excluded.push(value()),
                "file" => tar.file = Some(value()),
                _ => {}
            }
        } else if word != "-" {
            tar.members.push(absolute(&tar.directory, word));
        }
        first = false;
    }
    tar.file = tar.file.filter(|file| file != "-" && file != "/dev/stdin" && file != "/dev/stdout");
    tar
}

fn letters<'w>(
    tar: &mut Tar,
    letters: &str,
    dashed: bool,
    words: &mut impl Iterator<Item = &'w String>,
    directory: &str,
) {
    for (at, letter) in letters.char_indices() {
        let mut value = || {
            let attached = letters.get(at + 1..).filter(|rest| dashed && !rest.is_empty());
            attached.map(str::to_owned).or_else(|| words.next().cloned()).unwrap_or_default()
        };
        match letter {
            'c' => tar.create = true,
            'x' => tar.extract = true,
            'f' => tar.file = Some(value()),
            'C' => tar.directory = absolute(directory, &value()),
            'X' | 'T' | 'b' | 'K' | 'N' => drop(value()),
            _ => continue,
        }
        if dashed && matches!(letter, 'f' | 'C' | 'X' | 'T' | 'b' | 'K' | 'N') {
            return;
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cpio {
    pub create: bool,
    pub pass: bool,
    pub target: String,
}

pub(super) fn cpio(words: &[String], directory: &str) -> Cpio {
    let mut cpio = Cpio { target: directory.to_owned(), ..Cpio::default() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-D" | "--directory" => {
                cpio.target = absolute(directory, words.next().map_or("", String::as_str));
            }
            "-H" | "-F" | "-R" => drop(words.next()),
            "--create" => cpio.create = true,
            "--pass-through" => cpio.pass = true,
            word if word.starts_with("--") => {}
            word if word.starts_with('-') => {
                cpio.create |= word.contains('o');
                cpio.pass |= word.contains('p');
            }
            word => cpio.target = absolute(directory, word),
        }
    }
    cpio
}
