//! The command line as it is shown: its definitions with examples, and the manual pages.

use std::fmt::Write as _;
use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Cli;

/// What a command is called with, each with what that does.
type Examples = &'static [(&'static str, &'static str)];

const EXAMPLES: &[(&str, Examples)] = &[
    (
        "convert",
        &[
            (
                "Convert an installer with the built-in boot initramfs",
                "btrsquash convert initrd.gz --front-end built-in",
            ),
            (
                "Take modules that the image lacks from its kernel's package",
                "btrsquash convert initrd.gz --modules linux-image.deb",
            ),
            (
                "Make the boot initramfs with the dracut of another root, here for arm64: mmdebstrap --arch=arm64 \
                 --include=dracut-core,dracut-live,kmod,cpio,dmsetup bookworm arm64-root",
                "btrsquash convert initrd.gz --modules linux-image.deb --dracut-root arm64-root",
            ),
            ("See what would be done, without writing anything", "btrsquash convert initrd.gz --dry-run"),
            (
                "Leave the runtime on the CD, and write the boot part alone into the initrd",
                "btrsquash convert initrd.gz --runtime-from media:LABEL=INSTALL --drivers storage",
            ),
        ],
    ),
    (
        "boot",
        &[
            (
                "Boot with 256 MiB and wait for a text",
                "btrsquash boot new.img --kernel vmlinuz -m 256 --expect 'Select a language'",
            ),
            (
                "Find the minimum RAM in steps of 8 MiB",
                "btrsquash boot new.img --kernel vmlinuz --expect login: --find-min --step 8",
            ),
        ],
    ),
    (
        "inspect",
        &[
            ("Show what an initrd is made of", "btrsquash inspect initrd.gz"),
            (
                "Fail if it grew by more than both limits",
                "btrsquash inspect initrd.gz --baseline last.json --max-growth 2%,1MB",
            ),
        ],
    ),
    (
        "diff",
        &[
            ("Compare two releases", "btrsquash diff old.img new.img"),
            (
                "Only kernel modules, as a web page",
                "btrsquash diff old.img new.img --only 'lib/modules/**' --html modules.html",
            ),
        ],
    ),
    (
        "verify",
        &[
            ("Prove that nothing was lost", "btrsquash verify initrd.gz initrd.btrsquash.img"),
            (
                "An image with a preseed file appended",
                "btrsquash verify initrd.gz new.img --allow preseed.cfg",
            ),
        ],
    ),
    (
        "packages",
        &[
            ("Show what each package costs", "btrsquash packages initrd.gz"),
            (
                "An image without file lists, with a map of its packages",
                "btrsquash packages initrd.gz --package-map udebs.json",
            ),
        ],
    ),
    (
        "package-map",
        &[(
            "Make the map of Debian's installer",
            "btrsquash package-map -o udebs.json base.udeb kernel.udeb",
        )],
    ),
    (
        "ls",
        &[
            ("The largest files", "btrsquash ls -l --sort size new.img"),
            ("Some files", "btrsquash ls new.img 'lib/modules/**/*.ko'"),
        ],
    ),
    ("cat", &[("Print a file", "btrsquash cat new.img etc/os-release")]),
    (
        "extract",
        &[
            ("Extract /etc into a new directory", "btrsquash extract new.img -C directory etc"),
            ("As a tar archive, with owners and devices", "btrsquash extract new.img --tar new.tar"),
        ],
    ),
    (
        "append",
        &[
            ("Preseed an installer", "btrsquash append initrd.img preseed.cfg -o new.img"),
            ("Replace a file of the system", "btrsquash append initrd.img motd --at /etc/motd -o new.img"),
        ],
    ),
    ("report", &[("Make a web page of a saved result", "btrsquash report result.json --html result.html")]),
    ("history", &[("Sizes over time, as a web page", "btrsquash history results --html history.html")]),
    ("schema", &[("What convert --json prints", "btrsquash schema conversion")]),
    ("completions", &[("For bash, in this shell", "btrsquash completions bash")]),
    ("man", &[("All pages into a directory", "btrsquash man --out man1")]),
];

/// Exit codes, as error.rs assigns them.
const EXIT_CODES: [(&str, &str); 6] = [
    ("0", "Done."),
    ("1", "A comparison, a budget or a boot failed, or nothing matches a pattern."),
    ("2", "Wrong usage."),
    ("3", "The input is unsupported or damaged."),
    ("4", "A tool or a kernel module is missing."),
    ("5", "Reading or writing failed: a device error, no space, a limit of the system."),
];

/// When the text of the manual pages last changed.
const DATE: &str = "2026-11-27";

const ENVIRONMENT: [(&str, &str); 4] = [
    ("TMPDIR", "Directory for temporary files, instead of /tmp."),
    (
        "SOURCE_DATE_EPOCH",
        "Time, in seconds since 1970, that what btrsquash adds to an image gets. Without it, the newest time in the image.",
    ),
    ("NO_COLOR", "If set, nothing is colored."),
    ("TERM", "If dumb, nothing is colored."),
];

/// The command line, with the exit codes in its help and examples in that of each subcommand.
pub fn command() -> Command {
    let codes = EXIT_CODES.map(|(code, what)| format!("\n  {code}  {what}"));
    let mut command = Cli::command().after_help(format!("Exit codes:{}", codes.concat()));
    for (name, examples) in EXAMPLES {
        let mut help = String::from("Examples:");
        for (what, line) in *examples {
            let _ = write!(help, "\n  {what}:\n    {line}");
        }
        command = command.mut_subcommand(name, |sub| sub.after_help(help));
    }
    command
}

/// The name and text of each manual page.
///
/// # Errors
/// None that writing to memory does not give.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = command();
    command.build();
    let mut names = vec!["btrsquash".to_owned()];
    let mut pages = vec![("btrsquash".to_owned(), None, command.clone())];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("btrsquash-{}", sub.get_name());
        names.push(name.clone());
        let examples = EXAMPLES.iter().find(|(of, _)| *of == sub.get_name()).map(|(_, examples)| *examples);
        pages.push((name.clone(), examples, sub.clone().name(name)));
    }
    pages
        .into_iter()
        .map(|(name, examples, command)| {
            let text = page(&name, command, examples.unwrap_or_default(), &names)?;
            Ok((name, text))
        })
        .collect()
}

fn page(name: &str, command: Command, examples: Examples, names: &[String]) -> io::Result<Vec<u8>> {
    let main = command.has_subcommands();
    let version = concat!("btrsquash ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).date(DATE).source(version).manual("btrsquash manual");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if main {
        man.render_subcommands_section(&mut out)?;
    }
    let mut more = Roff::new();
    if !examples.is_empty() {
        more.control("SH", ["EXAMPLES"]);
        for (what, line) in examples {
            more.control("TP", []).text([roman(format!("{what}:"))]).text([bold(*line)]);
        }
    }
    section(&mut more, "EXIT STATUS", &EXIT_CODES);
    section(&mut more, "ENVIRONMENT", &ENVIRONMENT);
    more.control("SH", ["SEE ALSO"]);
    let mut others: Vec<String> =
        names.iter().filter(|other| *other != name).map(|other| format!("{other}(1)")).collect();
    others
        .extend(["cpio(1)", "dracut(8)", "dracut.cmdline(7)", "mksquashfs(1)", "qemu(1)"].map(String::from));
    more.text([roman(others.join(", "))]);
    more.to_writer(&mut out)?;
    // clap_mangen breaks the line before and after an empty one, which mandoc's lint finds superfluous.
    Ok(String::from_utf8_lossy(&out).replace(".br\n\n.br\n", ".sp\n").into_bytes())
}

fn section(roff: &mut Roff, title: &str, entries: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (name, what) in entries {
        roff.control("TP", []).text([bold(*name)]).text([roman(*what)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line as a shell would split it. Only single quotes are used in examples.
    fn words(line: &str) -> Vec<String> {
        let mut quoted = false;
        let split = |c: char| {
            quoted ^= c == '\'';
            c == ' ' && !quoted
        };
        line.split(split).map(|word| word.replace('\'', "")).collect()
    }

    #[test]
    fn every_example_is_accepted() {
        let mut command = command();
        command.build();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let examples = EXAMPLES.iter().find(|(name, _)| *name == sub.get_name());
            let (name, examples) = examples.unwrap_or_else(|| panic!("{} has no examples", sub.get_name()));
            for (_, line) in *examples {
                assert_eq!(words(line)[..2], ["btrsquash", name], "{line}");
                if let Err(error) = self::command().try_get_matches_from(words(line)) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn pages_have_the_usual_sections() {
        let pages = pages().unwrap();
        assert_eq!(pages.len(), EXAMPLES.len() + 1);
        for (name, text) in pages {
            let text = String::from_utf8(text).unwrap();
            let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
            let mut wanted = vec!["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"];
            wanted.push(if name == "btrsquash" { "SUBCOMMANDS" } else { "EXAMPLES" });
            wanted.extend(["\"EXIT STATUS\"", "ENVIRONMENT", "\"SEE ALSO\""]);
            assert_eq!(sections, wanted, "{name}");
        }
    }
}
