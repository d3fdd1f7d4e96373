//! The command line: one struct a subcommand.

use std::path::PathBuf;

use btrsquash::codec::Compression;
use btrsquash::contract::{Overlay, RuntimeFormat};
use btrsquash::convert::{FrontEndChoice, Goal, Layout};
use btrsquash::ram::DEFAULT_CPUS;
use btrsquash::report::Format;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use regex::bytes::Regex;

use super::show::{MaxGrowth, Show};
use super::sizes::{BlockSize, block_size, mebibytes, memory, size};

/// The commit and its date, if samples/build built this.
const COMMIT: Option<&str> = option_env!("BTRSQUASH_COMMIT");

fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    COMMIT.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

/// Turns a monolithic initrd into a live image that needs much less RAM.
#[derive(Debug, Parser)]
#[command(
    name = "btrsquash",
    version = version(),
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Convert a monolithic initrd into a btrfs-in-squashfs live image
    Convert(Box<Convert>),
    /// Boot an image in QEMU and watch its console; find the minimum RAM it boots with, or measure what it uses
    Boot(Box<Boot>),
    /// Show what an initrd, converted or not, is made of and the RAM it needs
    Inspect(Inspect),
    /// Compare two images: monolith, converted image or bare squashfs
    Diff(Diff),
    /// Prove that a converted image holds what the kernel would have unpacked from the old one
    Verify(Verify),
    /// Show what each package costs in an image
    Packages(super::packages::PackagesOptions),
    /// Write down which files packages have, for images that do not say so (packages --package-map)
    PackageMap(super::packages::PackageMapOptions),
    /// List the files of an image, through all its layers
    Ls(super::ls::Ls),
    /// Print a file of an image
    Cat(super::cat::Cat),
    /// Extract files of an image into a directory or a tar archive, without root
    Extract(super::extract::Extract),
    /// Append files to an image, so that the system that boots has them
    Append(super::append::AppendOptions),
    /// Show a saved JSON result again in any format, without reading an image
    Report(super::report::ReportOptions),
    /// Show size and minimum RAM over time, with the packages that changed them
    History(super::history::HistoryOptions),
    /// Print the JSON schema of a result
    Schema {
        /// Which one
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(btrsquash::report::SCHEMAS.map(|(name, _)| name)))]
        name: String,
    },
    /// Write shell completions
    Completions {
        /// The shell to write them for
        shell: clap_complete::Shell,
    },
    /// Write the manual pages: the main page to stdout, or all of them to a directory
    Man {
        /// Directory for the pages, one for each subcommand
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

impl Command {
    /// Whether the result is printed as JSON; errors are then printed so, too.
    #[must_use]
    pub fn json(&self) -> bool {
        match self {
            Self::Convert(options) => options.show.format() == Format::Json,
            Self::Inspect(options) => options.show.format() == Format::Json,
            Self::Diff(options) => options.show.format() == Format::Json,
            Self::Verify(options) => options.show.format() == Format::Json,
            Self::Boot(options) => options.json,
            Self::Packages(options) => options.json,
            Self::Ls(options) => options.json,
            Self::Report(options) => options.to.format == Format::Json,
            Self::History(options) => options.to.format == Format::Json,
            _ => false,
        }
    }
}

/// Limits on what is read.
#[derive(Debug, Args)]
pub struct Limits {
    /// Refuse images that unpack to more than SIZE, such as 16GiB
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = size)]
    pub max_unpacked: u64,
}

/// Budgets that a result has to keep.
#[derive(Debug, Args)]
pub struct Budgets {
    /// Fail (exit 1) if the image is larger than SIZE: bytes, or with a unit such as 60MB or 512MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Fail (exit 1) if the minimum RAM is more than SIZE, such as 256MiB: the measured one if it is known, else the computed one
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub max_ram: Option<u64>,
}

/// `btrsquash convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The monolithic initrd, or several in boot order: an initrd, a unified kernel image, a uImage, a FIT image, a kernel
    /// with a built-in initramfs, or - for standard input
    #[arg(required = true)]
    pub old: Vec<PathBuf>,
    /// The new image, or - for standard output [default: OLD's name with the extension .btrsquash.img, in the current
    /// directory]; with --each an existing directory
    #[arg(short, long, value_name = "NEW")]
    pub output: Option<PathBuf>,
    /// Convert each OLD for itself, not as the parts of one image, into the directory that --output names, and show a table
    /// with one row an image. One that fails does not stop the others, and the exit code is the highest of all
    #[arg(long, requires = "output", conflicts_with = "measured")]
    pub each: bool,
    /// Where to find kernel modules that the image lacks: a directory, a .deb or an .rpm; may be repeated
    #[arg(long, value_name = "PATH")]
    pub modules: Vec<PathBuf>,
    /// The kernel that boots the image, if its version cannot be read from the image
    #[arg(long, value_name = "VMLINUZ")]
    pub kernel: Option<PathBuf>,
    /// Choose what is not given for the least RAM, the smallest image or the fastest boot
    #[arg(long, value_name = "ram|size|speed", hide_possible_values = true, value_parser = one_of(&["ram", "size", "speed"], goal))]
    pub optimize: Option<Goal>,
    /// How the squashfs is compressed [default: xz, or zstd with --optimize speed]
    #[arg(long, value_parser = one_of(&Compression::ALL.map(Compression::name), compression))]
    pub compression: Option<Compression>,
    /// Block size of the squashfs: a power of two from 4K to 1M, or auto, the one with the lowest minimum RAM for --cpus
    #[arg(long, value_name = "auto|SIZE", default_value = "auto", value_parser = block_size)]
    pub block_size: BlockSize,
    /// Possible CPUs (present ones and those that can be added) of the machines that the image is meant for
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CPUS, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub cpus: u32,
    /// What makes the runtime writable [default: dm if the kernel has dm-snapshot, else overlayfs]
    #[arg(long, value_parser = one_of(&["dm", "overlayfs"], overlay))]
    pub overlay: Option<Overlay>,
    /// The file system of the runtime: btrfs inside the squashfs, or the squashfs itself under overlayfs
    /// [default: btrfs, or squashfs if the kernel was built without btrfs]
    #[arg(long, value_parser = one_of(&["btrfs", "squashfs"], runtime_format))]
    pub runtime_format: Option<RuntimeFormat>,
    /// Store compressed kernel modules (.ko.xz, .ko.zst, .ko.gz) unpacked under their names: the image gets smaller
    #[arg(long)]
    pub expand_modules: bool,
    /// Free space in the runtime's btrfs file system (sparse: it uses no memory until it is written)
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub free_space: u64,
    /// The boot initramfs: the host's dracut, btrsquash's own (built-in), a ready-made initramfs FILE, or dracut if it is
    /// installed and else built-in (auto), which also fetches a runtime by http or tftp
    #[arg(
        long,
        value_name = "auto|dracut|built-in|FILE",
        default_value = "auto",
        hide_possible_values = true,
        value_parser = Completed(&["auto", "dracut", "built-in"], front_end as fn(&str) -> _)
    )]
    pub front_end: FrontEndChoice,
    /// Run the dracut of another root directory: the only option that runs code other than the host's. If the root is for
    /// another architecture, QEMU has to run its programs: install qemu-user-static and binfmt-support
    #[arg(long, value_name = "DIR")]
    pub dracut_root: Option<PathBuf>,
    /// One file, or the boot initramfs and squashfs.img separately [default: split if --runtime-from names a network or a
    /// medium, else combined]
    #[arg(long, value_parser = one_of(&["combined", "split"], layout))]
    pub layout: Option<Layout>,
    /// Where the boot initramfs finds the runtime: initramfs, retained, an http:// or tftp:// address (https://, ftp:// and nfs:
    /// with dracut), media:LABEL=NAME or media:UUID=ID
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "initramfs",
        hide_possible_values = true,
        value_parser = Completed(
            &["initramfs", "retained", "http://", "ftp://", "tftp://", "nfs:", "media:LABEL=", "media:UUID="],
            any as fn(&str) -> _,
        )
    )]
    pub runtime_from: String,
    /// Drivers for the boot initramfs: net, storage, or modules by name; may be repeated. The default is net for a runtime on a
    /// network, storage for one on a disk
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub drivers: Vec<String>,
    /// Arguments to add to the image's own command line (/etc/cmdline.d)
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub cmdline: String,
    /// Convert an image even if it looks like an ordinary boot initramfs
    #[arg(long)]
    pub assume_monolith: bool,
    /// Convert an image even if Linux stops unpacking it before its end: what it unpacks until then is taken
    #[arg(long, alias = "accept-what-linux-unpacks")]
    pub accept_partial: bool,
    /// Start this program of the runtime, by its absolute path, instead of the old init: for an init that copies the
    /// image before it starts the system
    #[arg(long, value_name = "PATH")]
    pub init: Option<String>,
    /// Also write the report to this .json, .txt, .md or .html file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Also write the report as a web page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Add figures that `boot --measure --json` or `boot --find-min --json` printed to the report: old=FILE or new=FILE
    #[arg(long, value_name = "old|new=FILE")]
    pub measured: Vec<String>,
    /// The files of packages whose lists the image does not have, as package-map writes them
    #[arg(long, value_name = "FILE")]
    pub package_map: Option<PathBuf>,
    /// How the result is printed.
    #[command(flatten)]
    pub show: Show,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// Compare every path of the new image with the old one, as the command verify does, before the new one gets its name
    #[arg(long, conflicts_with = "dry_run")]
    pub verify: bool,
    /// Do not read back what was written: normally every block of the new image is read and its checksum verified before
    /// the image gets its name
    #[arg(long)]
    pub no_verify_write: bool,
    /// Threads [default: one for each core]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Print no report and no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Make all checks and report what would be done, but write no image: its size and RAM are not known then
    #[arg(long, conflicts_with_all = ["max_size", "max_ram", "measured"])]
    pub dry_run: bool,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
    /// Budgets.
    #[command(flatten)]
    pub budgets: Budgets,
}

/// `btrsquash boot`.
#[derive(Debug, Args)]
pub struct Boot {
    /// The image to boot
    pub image: PathBuf,
    /// The kernel to boot it with
    #[arg(long, value_name = "VMLINUZ")]
    pub kernel: PathBuf,
    /// Memory of the machine: MiB, or with a unit such as 1G
    #[arg(short, long, value_name = "SIZE", default_value = "1024", value_parser = mebibytes)]
    pub memory: u64,
    /// The boot succeeds when this appears on the console
    #[arg(long, value_name = "REGEX")]
    pub expect: Option<Regex>,
    /// The boot fails when this appears on the console
    #[arg(long, value_name = "REGEX")]
    pub fail: Option<Regex>,
    /// Arguments to add to the kernel's command line
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// Give up after this many seconds
    #[arg(long, value_name = "S", default_value_t = 300)]
    pub timeout: u64,
    /// Write all console output to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// CPUs of the machine, and how many there can be at most: N or N,maxcpus=M
    #[arg(long, value_name = "N[,maxcpus=M]", default_value = "1", value_parser = cpus)]
    pub cpus: Cpus,
    /// Add an argument to QEMU's command line, such as a drive; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu: Vec<String>,
    /// Find the minimum RAM with which --expect shows
    #[arg(long, requires = "expect", conflicts_with = "measure")]
    pub find_min: bool,
    /// Smallest RAM to try with --find-min [default: from the RAM model]
    #[arg(long, value_name = "MIB", requires = "find_min")]
    pub from: Option<u64>,
    /// Largest RAM to try with --find-min [default: from the RAM model]
    #[arg(long, value_name = "MIB", requires = "find_min")]
    pub to: Option<u64>,
    /// Step of --find-min
    #[arg(long, value_name = "MIB", default_value_t = 16, requires = "find_min", value_parser = clap::value_parser!(u64).range(1..))]
    pub step: u64,
    /// Record memory in use from the start to the expected screen
    #[arg(long, requires = "expect")]
    pub measure: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Print the whole report as text, with more lines of the console of a failed boot
    #[arg(long)]
    pub full: bool,
    /// Print no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `btrsquash inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The image. Of several, a table with one row an image is shown; one that cannot be read does not stop the others, and
    /// the exit code is the highest of all
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// The kernel that boots the image, for the RAM model
    #[arg(long, value_name = "VMLINUZ")]
    pub kernel: Option<PathBuf>,
    /// Possible CPUs (present ones and those that can be added) of the machine, for the RAM model
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CPUS, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub cpus: u32,
    /// Levels of the table of directories
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub depth: usize,
    /// How the result is printed.
    #[command(flatten)]
    pub show: Show,
    /// Also write the result as a web page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// Compare sizes with those in FILE, which inspect --json or convert --json wrote
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Growth since the baseline.
    #[command(flatten)]
    pub growth: MaxGrowth,
    /// The files of packages whose lists the image does not have, as package-map writes them
    #[arg(long, value_name = "FILE")]
    pub package_map: Option<PathBuf>,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
    /// Budgets.
    #[command(flatten)]
    pub budgets: Budgets,
}

/// `btrsquash diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The image to compare from
    pub old: PathBuf,
    /// The image to compare to
    pub new: PathBuf,
    /// Show what changed inside text files
    #[arg(long)]
    pub text: bool,
    /// What is compared.
    #[command(flatten)]
    pub what: super::diff::What,
    /// How the result is printed.
    #[command(flatten)]
    pub show: Show,
    /// Also write the result as a web page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with 1 if the images differ, as git does
    #[arg(long)]
    pub exit_code: bool,
    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
    /// Compare an image even if Linux stops unpacking it before its end: what it unpacks until then is taken
    #[arg(long, alias = "accept-what-linux-unpacks")]
    pub accept_partial: bool,
    /// Growth from OLD to NEW.
    #[command(flatten)]
    pub growth: MaxGrowth,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
    /// Budgets.
    #[command(flatten)]
    pub budgets: Budgets,
}

/// `btrsquash verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The old image
    pub old: PathBuf,
    /// The converted image
    pub new: PathBuf,
    /// Allow added and replaced files whose path matches, such as an appended preseed.cfg; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub allow: Vec<String>,
    /// How the result is printed.
    #[command(flatten)]
    pub show: Show,
    /// Compare an image even if Linux stops unpacking it before its end: what it unpacks until then is taken
    #[arg(long, alias = "accept-what-linux-unpacks")]
    pub accept_partial: bool,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
}

fn front_end(text: &str) -> Result<FrontEndChoice, String> {
    Ok(match text {
        "auto" => FrontEndChoice::Auto,
        "dracut" => FrontEndChoice::Dracut { root: None },
        "built-in" => FrontEndChoice::BuiltIn,
        file if std::path::Path::new(file).is_file() => FrontEndChoice::File(file.into()),
        other => return Err(format!("'{other}' is not auto, dracut or built-in, and there is no such file")),
    })
}

/// CPUs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    /// Those present.
    pub present: u32,
    /// Those that there can be.
    pub possible: u32,
}

fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || format!("'{text}' is not a number of CPUs: write N or N,maxcpus=M, with M from N to 255");
    let (present, possible) = match text.split_once(",maxcpus=") {
        Some((present, possible)) => (present, possible),
        None => (text, text),
    };
    let (present, possible) = (present.parse().ok(), possible.parse().ok());
    match present.zip(possible) {
        Some((present @ 1.., possible)) if present <= possible && possible <= 255 => {
            Ok(Cpus { present, possible })
        }
        _ => Err(wrong()),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    text.parse().map_err(|e: btrsquash::error::Error| e.to_string())
}

fn goal(text: &str) -> Result<Goal, String> {
    let goals = [Goal::Ram, Goal::Size, Goal::Speed];
    goals.into_iter().find(|goal| goal.name() == text).ok_or_else(|| "expected ram, size or speed".into())
}

fn overlay(text: &str) -> Result<Overlay, String> {
    match text {
        "dm" => Ok(Overlay::DeviceMapper),
        "overlayfs" => Ok(Overlay::Overlayfs),
        _ => Err("expected dm or overlayfs".into()),
    }
}

fn runtime_format(text: &str) -> Result<RuntimeFormat, String> {
    match text {
        "btrfs" => Ok(RuntimeFormat::Btrfs),
        "squashfs" => Ok(RuntimeFormat::Squashfs),
        _ => Err("expected btrfs or squashfs".into()),
    }
}

fn layout(text: &str) -> Result<Layout, String> {
    match text {
        "combined" => Ok(Layout::Combined),
        "split" => Ok(Layout::Split),
        _ => Err("expected combined or split".into()),
    }
}

fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Parses a value that may be anything, and has shells complete some.
#[derive(Clone)]
struct Completed<T: 'static>(&'static [&'static str], fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Completed<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        self.1.parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// Takes one of `names`, which clap shows in the help and in completions, and parses it.
pub fn one_of<T: Clone + Send + Sync + 'static>(
    names: &[&'static str],
    parse: fn(&str) -> Result<T, String>,
) -> impl TypedValueParser<Value = T> + use<T> {
    PossibleValuesParser::new(names.to_vec()).try_map(move |name| parse(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_of_cpus() {
        assert_eq!(cpus("2"), Ok(Cpus { present: 2, possible: 2 }));
        assert_eq!(cpus("2,maxcpus=128"), Ok(Cpus { present: 2, possible: 128 }));
        for wrong in ["0", "4,maxcpus=2", "1,maxcpus=256", "x", "2,sockets=1"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }
}
