//! `btrsquash convert`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::cli::args::Convert;
use anyhow::Context;
use btrsquash::contract::RuntimeFrom;
use btrsquash::convert::{FrontEndChoice, Layout, Request, Stage};
use btrsquash::error::Error;
use btrsquash::initrd;
use btrsquash::output::{self, OutputFile};
use btrsquash::packages::PackageMap;
use btrsquash::report::document::visible;
use btrsquash::report::{
    self, Conversion, Format, Matrix, MatrixRow, Measured, Report, Which, WrittenFile, budget, from,
};

use super::inspect::failed;
use super::output::{ReportFiles, note, print_to, write};
use super::progress::Progress;

/// Converts an image and reports, or each of several.
///
/// # Errors
/// Those of the conversion, and broken budgets.
pub fn convert(options: &Convert) -> anyhow::Result<ExitCode> {
    if options.each {
        return each(options);
    }
    let start = Instant::now();
    let request = request(options, &options.old, options.output.clone())?;
    let inputs: Vec<&Path> = request.inputs().collect();
    let files = ReportFiles::new(
        &options.report,
        options.html.as_deref(),
        options.force,
        &inputs,
        &request.outputs(),
    )?;
    let measured = options.measured.iter().map(|text| measured(text)).collect::<Result<Vec<_>, _>>()?;
    let (conversion, mut outputs) = run(options, &request, &measured)?;
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
    if text
        && !options.quiet
        && let Some(line) = report::written(&conversion, milliseconds(start))
    {
        if image_on_stdout { note(&line) } else { write(&format!("{}\n", visible(&line)))? }
    }
    budget::check(&conversion.budgets)?;
    Ok(ExitCode::SUCCESS)
}

fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Converts one image: the report, and its files, which have no names yet.
fn run(
    options: &Convert,
    request: &Request,
    measured: &[(Which, Measured)],
) -> anyhow::Result<(Conversion, Vec<OutputFile>)> {
    let progress = Progress::new(options.quiet);
    let (result, mut outputs) =
        btrsquash::convert::convert(request, &|stage, done, total| progress.bytes(name(stage), done, total))?;
    drop(progress);
    let mut conversion = from::conversion(&result);
    for (side, found) in measured {
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
    Ok((conversion, outputs))
}

/// Converts each image for itself into a directory.
fn each(options: &Convert) -> anyhow::Result<ExitCode> {
    let directory = options.output.clone().unwrap_or_default();
    if !directory.is_dir() {
        return Err(Error::usage("--each needs an existing directory for the new images")
            .file(&directory)
            .hint("make it with mkdir, and name it with --output")
            .into());
    }
    let requests = options
        .old
        .iter()
        .map(|old| request(options, std::slice::from_ref(old), Some(directory.join(default_output(old)))))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // Two images of one name would have one new image.
    let outputs: Vec<PathBuf> = requests.iter().flat_map(Request::outputs).collect();
    let inputs: Vec<&Path> = requests.iter().flat_map(Request::inputs).collect();
    let files = ReportFiles::new(&options.report, options.html.as_deref(), options.force, &inputs, &outputs)?;
    let mut rows = Vec::new();
    for (request, old) in requests.iter().zip(&options.old) {
        if !options.quiet {
            note(&format!("converting {}", old.display()));
        }
        rows.push(one_of_each(options, request).unwrap_or_else(|failure| failed(old, &failure)));
    }
    let matrix = Matrix::new(rows);
    let report = Report::Matrix(&matrix);
    let outputs = files.write(&report)?;
    if options.show.format() != Format::Text || !options.quiet {
        print_to(&report, options.show, false)?;
    }
    output::commit(outputs)?;
    Ok(ExitCode::from(matrix.exit_code()))
}

/// Converts one image of several. A broken budget leaves the image, as it does without --each.
fn one_of_each(options: &Convert, request: &Request) -> anyhow::Result<MatrixRow> {
    let start = Instant::now();
    let (conversion, mut outputs) = run(options, request, &[])?;
    for file in &mut outputs {
        file.sync()?;
    }
    output::commit(outputs)?;
    if let Some(line) = report::written(&conversion, milliseconds(start)).filter(|_| !options.quiet) {
        note(&line);
    }
    Ok(MatrixRow::from(&conversion).judged(budget::check(&conversion.budgets)))
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

/// Fails if a directory is to be the new image.
fn not_a_directory(output: Option<&Path>, several: bool) -> Result<(), Error> {
    let Some(directory) = output.filter(|output| output.is_dir()) else { return Ok(()) };
    let hint = if several {
        "with --each, each image is converted for itself into it; several images without --each are the parts of one, in \
         boot order, and --output names its file"
    } else {
        "name a file in it; or convert into it with --each"
    };
    Err(Error::usage("is a directory").file(directory).hint(hint))
}

/// The conversion of `old`, several files in boot order, to `output`.
fn request(options: &Convert, old: &[PathBuf], output: Option<PathBuf>) -> anyhow::Result<Request> {
    let Some((old, more)) = old.split_first() else {
        return Err(Error::usage("no image is given").into());
    };
    not_a_directory(output.as_deref(), !more.is_empty())?;
    let (old, more) = (old.clone(), more.to_vec());
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
        new: output.unwrap_or_else(|| default_output(&old)),
        old,
        more,
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
        package_map: options.package_map.as_deref().map(PackageMap::read).transpose()?,
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

/// `old=FILE` or `new=FILE`.
///
/// # Errors
/// If it is neither, or the file has no figures.
pub fn measured(text: &str) -> anyhow::Result<(Which, Measured)> {
    let (side, file) = match text.split_once('=') {
        Some(("old", file)) => (Which::Old, file),
        Some(("new", file)) => (Which::New, file),
        _ => return Err(Error::usage(format!("--measured '{text}': write old=FILE or new=FILE")).into()),
    };
    Ok((side, Measured::read(Path::new(file)).context("reading measured figures")?))
}
