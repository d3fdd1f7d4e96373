//! `btrsquash append`.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use btrsquash::append::{self, Effect, Request};
use btrsquash::initrd;
use btrsquash::output::{Options, OutputFile, check_distinct, commit};
use btrsquash::report::units::{count, size};
use btrsquash::tree::display;
use clap::Args;

use super::args::Limits;
use super::output;

/// `btrsquash append`.
#[derive(Debug, Args)]
pub struct AppendOptions {
    /// The initrd, converted or not
    pub image: PathBuf,
    /// Files to append, and directories with all that is in them; in the image they belong to root
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Where they arrive in the system: a directory, or the path of the file itself if there is one FILE, PATH does not end
    /// with / and is not a directory of the system [default: /]
    #[arg(long, value_name = "PATH")]
    pub at: Option<std::ffi::OsString>,
    /// The new image; - is standard output
    #[arg(short, long, value_name = "NEW")]
    pub output: PathBuf,
    /// Replace NEW if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Print nothing
    #[arg(short, long)]
    pub quiet: bool,
    /// Limits on what is read.
    #[command(flatten)]
    pub limits: Limits,
}

/// Appends files to an image.
///
/// # Errors
/// Those of [`append::append`]; [`btrsquash::error::Kind::Usage`] if the output exists.
pub fn append(options: &AppendOptions) -> anyhow::Result<()> {
    let inputs = options.files.iter().chain([&options.image]).map(PathBuf::as_path);
    check_distinct([options.output.as_path()], inputs)?;
    let made = Options::new(options.force).no_more_readable_than(&options.image);
    let mut out = OutputFile::create(&options.output, made)?;
    let to_stdout = out.is_stdout();
    let request = Request {
        image: options.image.clone(),
        files: options.files.clone(),
        at: options.at.clone().map(OsStringExt::into_vec),
        limits: initrd::Limits { max_unpacked: options.limits.max_unpacked, ..initrd::Limits::default() },
    };
    let done = append::append(&request, &mut out)?;
    commit(vec![out])?;
    if options.quiet {
        return Ok(());
    }
    let mut text = format!(
        "{}: {}, {} appended\n",
        options.output.display(),
        count(done.entries.len() as u64, "path"),
        size(done.bytes)
    );
    for (path, effect) in &done.entries {
        let what = match effect {
            Effect::Added if done.apart => "appended; the runtime, a separate file, may have it too",
            Effect::Added => "new",
            Effect::Replaced => "replaces what was there",
            Effect::Kept => "directory that exists",
        };
        text.push_str(&format!("  /{}: {what}\n", display(path)));
    }
    if to_stdout {
        output::note(text.trim_end());
        return Ok(());
    }
    output::write(&text)
}
