//! Figures of a machine that ran, which are put into the report of an image.

use std::path::Path;

use super::data::Budget;
use super::{BootReport, MinReport, Origin, Ram, Saved, read_report};
use crate::error::Error;

/// Which of two images figures belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The old one.
    Old,
    /// The new one.
    New,
}

/// Figures of a machine that ran.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// The minimum RAM.
    Minimum(Box<MinReport>),
    /// Memory in use over a boot.
    Moments(Box<BootReport>),
}

impl Measured {
    /// Reads what `boot --find-min --json` or `boot --measure --json` printed.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the file cannot be read or has no figures.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let json = read_report(file).map_err(|e| Error::unreadable(e).file(file))?;
        let found = match serde_json::from_str::<Box<MinReport>>(&json) {
            Ok(found) => Self::Minimum(found),
            Err(_) => Self::Moments(serde_json::from_str(&json).map_err(|e| {
                Error::usage("has no figures")
                    .caused_by(e)
                    .file(file)
                    .hint("boot --find-min --json or boot --measure --json writes them")
            })?),
        };
        found.check().map_err(|e| e.file(file))?;
        Ok(found)
    }

    /// The figures of a boot in a report that was read already; `None` if it is one of another kind.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if it has no figures.
    pub fn of(report: Saved) -> Result<Option<Self>, Error> {
        let found = match report {
            Saved::Min(found) => Self::Minimum(found),
            Saved::Boot(found) => Self::Moments(found),
            _ => return Ok(None),
        };
        found.check()?;
        Ok(Some(found))
    }

    /// Fails if there is no figure in it.
    fn check(&self) -> Result<(), Error> {
        let nothing = |what: &str, hint: &str| Err(Error::usage(what).hint(hint));
        match self {
            Self::Minimum(found) => {
                let Some(minimum) = found.minimum else {
                    return nothing("has no figures: the image did not boot", "see the file for the reason");
                };
                let below = |ram_mib: u64| ram_mib << 20 < minimum.value;
                if !found.tries.iter().any(|attempt| !attempt.booted && below(attempt.ram_mib)) {
                    return nothing(
                        "has no minimum: nothing below it was tried",
                        "give boot --find-min a smaller --from",
                    );
                }
            }
            Self::Moments(found) if found.moments.is_empty() => {
                return nothing("has no figures: memory was not recorded", "use boot --measure");
            }
            Self::Moments(_) => {}
        }
        Ok(())
    }

    /// The image that ran, as the user named it.
    fn image(&self) -> &str {
        match self {
            Self::Minimum(found) => &found.image,
            Self::Moments(found) => &found.image,
        }
    }

    /// Puts the figures next to the computed ones.
    pub fn put_into(&self, ram: &mut Ram) {
        match self {
            Self::Minimum(found) => ram.measured = found.minimum.or(ram.measured),
            Self::Moments(found) => {
                for phase in &mut ram.phases {
                    let moment = found.moments.iter().find(|moment| moment.phase == Some(phase.phase));
                    // A figure that the measured boot had to compute does not count as measured.
                    let seen = moment.map(|m| m.used).filter(|used| used.origin == Origin::Measured);
                    phase.measured = seen.or(phase.measured);
                }
            }
        }
    }
}

/// An image of a report, with the memory that it needs.
struct Image<'a> {
    which: Which,
    path: &'a str,
    ram: Option<&'a mut Ram>,
}

impl Saved {
    /// Puts figures into the report: into those of the image that `which` says, or that has the name of the one that ran.
    /// A limit on memory is judged again.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if no image or more than one has that name, or its memory is not known.
    pub fn add(&mut self, figures: &Measured, which: Option<Which>) -> Result<(), Error> {
        let (mut images, budgets) = self.images();
        let name = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
        let is_it = |image: &Image, exact: bool| match which {
            Some(which) => image.which == which,
            None if exact => image.path == figures.image(),
            None => name(image.path) == name(figures.image()),
        };
        let exact = images.iter().any(|image| is_it(image, true));
        let mut found: Vec<&mut Image> = images.iter_mut().filter(|image| is_it(image, exact)).collect();
        let [image] = found.as_mut_slice() else {
            return Err(Error::usage(format!(
                "figures of {} are in none or in several of the images of the report",
                figures.image()
            ))
            .hint("say of which image they are: --measured old=FILE or --measured new=FILE"));
        };
        let is_new = image.which == Which::New;
        let Some(ram) = &mut image.ram else {
            return Err(Error::usage(format!("the report has no figures of the memory of {}", image.path)));
        };
        figures.put_into(ram);
        let minimum = ram.best().value;
        // Limits are about the new image.
        for budget in budgets.iter_mut().filter(|budget| is_new && budget.what == "ram") {
            budget.actual = minimum;
            budget.kept = minimum <= budget.limit;
        }
        Ok(())
    }

    /// The limits that the report judges.
    pub fn budgets(&mut self) -> &[Budget] {
        self.images().1
    }

    /// The images of the report, and the limits on the new one.
    fn images(&mut self) -> (Vec<Image<'_>>, &mut [Budget]) {
        match self {
            Self::Conversion(report) => {
                let old =
                    Image { which: Which::Old, path: &report.old.path, ram: Some(&mut report.ram_before) };
                let new = report.new.as_ref().map(|new| Image {
                    which: Which::New,
                    path: &new.path,
                    ram: report.ram_after.as_mut(),
                });
                (std::iter::once(old).chain(new).collect(), &mut report.budgets)
            }
            Self::Inspection(report) => {
                let image = Image { which: Which::New, path: &report.image.path, ram: report.ram.as_mut() };
                (vec![image], &mut report.budgets)
            }
            Self::Difference(report) => {
                let old =
                    Image { which: Which::Old, path: &report.old.image.path, ram: report.old.ram.as_mut() };
                let new =
                    Image { which: Which::New, path: &report.new.image.path, ram: report.new.ram.as_mut() };
                (vec![old, new], &mut report.budgets)
            }
            _ => (Vec::new(), &mut []),
        }
    }
}
