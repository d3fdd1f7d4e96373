//! `btrsquash convert`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::args::Convert;
use anyhow::Context;
use btrsquash::contract::RuntimeFrom;
use btrsquash::convert::{FrontEndChoice, Layout, Request, Stage};
use btrsquash::error::Error;
use btrsquash::initrd;
use btrsquash::output::{self, OutputFile};
use btrsquash::report::document::visible;
use btrsquash::report::{self, Format, Report, WrittenFile, budget, from};

use super::output::{ReportFiles, note, print_to, write};
use super::progress::Progress;

/// Converts an image and reports.
///
/// # Errors
/// Those of the conversion, and broken budgets.
pub fn convert(options: &Convert) -> anyhow::Result<()> {
    let start = Instant::now();
    let request = request(options)?;
    let inputs: Vec<&Path> = request.inputs().collect();
    let files = ReportFiles::new(
        &options.report,
        options.html.as_deref(),
        options.force,
        &inputs,
        &request.outputs(),
    )?;
    let measured = options.measured.iter().map(|text| measured(text)).collect::<Result<Vec<_>, _>>()?;

    let progress = Progress::new(options.quiet);
    let (result, mut outputs) = btrsquash::convert::convert(&request, &|stage, done, total| {
        progress.bytes(name(stage), done, total)
    })?;
    drop(progress);

    let mut conversion = from::conversion(&result);
    for (side, found) in &measured {
        let ram = if *side == Which::Old {
            Some(&mut conversion.ram_before)
        } else {
            conversion.ram_after.as_mut()
        };
        if let Some(ram) = ram {
            found.put_into(ram);
        }
    }
    let limits = budget::Limits { max_size: options.budgets.max_size, max_ram: options.budgets.max_ram };
    if let Some(new) = &conversion.new {
        conversion.budgets = limits.judge(new.size, conversion.ram_after.as_ref());
    }
    for file in &mut outputs {
        let (bytes, sha256) = file.sha256()?;
        conversion.files.push(WrittenFile { path: file.path().display().to_string(), bytes, sha256 });
    }
    let report = Report::Conversion(&conversion);
    // Everything that can fail comes before the files get their names, which they get together.
    outputs.extend(files.write(&report)?);
    for file in &mut outputs {
        file.sync()?;
    }
    let image_on_stdout = outputs.iter().any(OutputFile::is_stdout);
    let text = options.show.format() == Format::Text;
    if !text || !options.quiet {
        print_to(&report, options.show, image_on_stdout)?;
    }
    output::commit(outputs)?;
    if text && !options.quiet {
        let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(line) = report::written(&conversion, milliseconds) {
            if image_on_stdout { note(&line) } else { write(&format!("{}\n", visible(&line)))? }
        }
    }
    Ok(budget::check(&conversion.budgets)?)
}

const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Read => "reading the image",
        Stage::Modules => "looking for kernel modules",
        Stage::Layout => "laying out btrfs",
        Stage::Compress => "compressing the squashfs",
        Stage::Write => "writing the new image",
        Stage::ReadBack => "reading it back",
        Stage::Verify => "verifying",
    }
}

fn request(options: &Convert) -> anyhow::Result<Request> {
    let Some(old) = options.old.first().cloned() else {
        return Err(Error::usage("no image is given").into());
    };
    let runtime = runtime(&options.runtime_from)?;
    let apart = matches!(runtime, RuntimeFrom::Network(_) | RuntimeFrom::Label(_) | RuntimeFrom::Uuid(_));
    let layout = match options.layout {
        Some(layout) => layout,
        None if apart => Layout::Split,
        None => Layout::Combined,
    };
    if !options.drivers.is_empty() && matches!(options.front_end, FrontEndChoice::File(_)) {
        return Err(Error::usage("a ready-made front-end is taken as it is: no drivers are added to it")
            .hint("leave --drivers out, and make the front-end with them")
            .into());
    }
    if apart && layout == Layout::Combined {
        return Err(Error::usage("the runtime comes from elsewhere, so it cannot be in the image")
            .hint("leave --layout out, or say --runtime-from initramfs")
            .into());
    }
    if options.verify && layout == Layout::Split {
        return Err(Error::usage("--verify compares one image, and this conversion writes two files")
            .hint("leave --verify out, and run: btrsquash verify OLD RUNTIME")
            .into());
    }
    if runtime == RuntimeFrom::Retained && layout == Layout::Split {
        return Err(Error::usage(
            "a retained runtime is read at its place in the image, so it has to be in it",
        )
        .hint("leave --layout out")
        .into());
    }
    let front_end = match (&options.front_end, &options.dracut_root) {
        (choice, None) => choice.clone(),
        (FrontEndChoice::Auto | FrontEndChoice::Dracut { .. }, root) => {
            FrontEndChoice::Dracut { root: root.clone() }
        }
        (_, Some(_)) => {
            return Err(Error::usage("--dracut-root goes with --front-end dracut only").into());
        }
    };
    Ok(Request {
        new: options.output.clone().unwrap_or_else(|| default_output(&old)),
        old,
        more: options.old.get(1..).unwrap_or_default().to_vec(),
        modules: options.modules.clone(),
        kernel: options.kernel.clone(),
        optimize: options.optimize,
        compression: options.compression,
        block_size: options.block_size.0,
        cpus: options.cpus,
        overlay: options.overlay,
        format: options.runtime_format,
        expand_modules: options.expand_modules,
        free_space: options.free_space,
        front_end,
        layout,
        runtime,
        drivers: options.drivers.clone(),
        cmdline: options.cmdline.trim().to_owned(),
        init: options.init.clone(),
        assume_monolith: options.assume_monolith,
        force: options.force,
        read_back: !options.no_verify_write,
        verify: options.verify,
        threads: options.jobs.map_or(0, usize::from),
        dry_run: options.dry_run,
        limits: initrd::Limits {
            max_unpacked: options.limits.max_unpacked,
            accept_partial: options.accept_partial,
        },
        source_date_epoch: epoch()?,
    })
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>
fn epoch() -> anyhow::Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => match text.parse::<u32>() {
            Ok(seconds) => Ok(Some(seconds.into())),
            Err(_) => Err(Error::usage(format!(
                "SOURCE_DATE_EPOCH is '{text}', not a number of seconds since 1970"
            ))
            .into()),
        },
        _ => Ok(None),
    }
}

/// OLD's name with `.btrsquash.img` in place of its ending, in the current directory. What follows the last point of
/// `initrd.img-6.1.0-50-amd64` is no ending.
fn default_output(old: &Path) -> PathBuf {
    if old.as_os_str() == "-" {
        return "stdin.btrsquash.img".into();
    }
    let efi = old.extension().is_some_and(|ending| ending == "efi");
    if efi {
        return old.with_extension("btrsquash.efi").file_name().unwrap_or_default().into();
    }
    let endings = ["img", "cpio", "gz", "xz", "zst", "lz4", "lzma", "bz2", "lzo"];
    let known = old.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known));
    let mut name = if known { old.file_stem() } else { old.file_name() }.unwrap_or_default().to_owned();
    name.push(".btrsquash.img");
    name.into()
}

fn runtime(text: &str) -> Result<RuntimeFrom, Error> {
    let unknown = || {
        Error::usage(format!("'{text}' is no place for a runtime")).hint(
            "initramfs, retained, http://…, https://…, ftp://…, tftp://…, nfs:…, media:LABEL=NAME or media:UUID=ID",
        )
    };
    let address = ["http://", "https://", "ftp://", "tftp://", "nfs:"];
    match text {
        "initramfs" => Ok(RuntimeFrom::Initramfs),
        "retained" => Ok(RuntimeFrom::Retained),
        _ if address.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) => {
            Ok(RuntimeFrom::Network(text.to_owned()))
        }
        _ => match text.strip_prefix("media:").and_then(|place| place.split_once('=')) {
            Some(("LABEL", label)) if !label.is_empty() => Ok(RuntimeFrom::Label(label.to_owned())),
            Some(("UUID", uuid)) if !uuid.is_empty() => Ok(RuntimeFrom::Uuid(uuid.to_owned())),
            _ => Err(unknown()),
        },
    }
}

/// Which image figures belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Old,
    New,
}

/// Figures of a machine that ran.
enum Measured {
    Minimum(Box<report::MinReport>),
    Moments(Box<report::BootReport>),
}

impl Measured {
    fn put_into(&self, ram: &mut report::Ram) {
        match self {
            Self::Minimum(found) => ram.measured = found.minimum.or(ram.measured),
            Self::Moments(found) => {
                for phase in &mut ram.phases {
                    let moment = found.moments.iter().find(|moment| moment.phase == Some(phase.phase));
                    // A figure that the measured boot had to compute does not count as measured.
                    let seen = moment.map(|m| m.used).filter(|used| used.origin == report::Origin::Measured);
                    phase.measured = seen.or(phase.measured);
                }
            }
        }
    }
}

/// `old=FILE` or `new=FILE`.
fn measured(text: &str) -> anyhow::Result<(Which, Measured)> {
    let (side, file) = match text.split_once('=') {
        Some(("old", file)) => (Which::Old, file),
        Some(("new", file)) => (Which::New, file),
        _ => return Err(Error::usage(format!("--measured '{text}': write old=FILE or new=FILE")).into()),
    };
    let json = report::read_report(Path::new(file))
        .map_err(|e| Error::unreadable(e).file(file))
        .context("reading measured figures")?;
    let nothing = |what: &str, hint: &str| Err(Error::usage(what).file(file).hint(hint).into());
    if let Ok(found) = serde_json::from_str::<Box<report::MinReport>>(&json) {
        let Some(minimum) = found.minimum else {
            return nothing("has no figures: the image did not boot", "see the file for the reason");
        };
        if !found.tries.iter().any(|attempt| !attempt.booted && attempt.ram_mib << 20 < minimum.value) {
            return nothing(
                "has no minimum: nothing below it was tried",
                "give boot --find-min a smaller --from",
            );
        }
        return Ok((side, Measured::Minimum(found)));
    }
    match serde_json::from_str::<Box<report::BootReport>>(&json) {
        Ok(found) if found.moments.is_empty() => {
            nothing("has no figures: memory was not recorded", "use boot --measure")
        }
        Ok(found) => Ok((side, Measured::Moments(found))),
        Err(e) => Err(Error::usage("has no figures")
            .caused_by(e)
            .file(file)
            .hint("boot --find-min --json or boot --measure --json writes them")
            .into()),
    }
}
