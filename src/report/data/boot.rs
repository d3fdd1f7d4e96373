//! The reports of `boot`.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Figure, Tool};
use crate::ram::Phase;

/// Memory at one moment of a boot, from /proc/meminfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// The phase that ends; `null` for the moment at which the least memory was available.
    #[serde(alias = "name", deserialize_with = "phase")]
    pub phase: Option<Phase>,
    /// Milliseconds since the kernel's start, for the moment at which the least memory was available.
    #[serde(default)]
    pub milliseconds: Option<u64>,
    /// Memory in use that cannot be reclaimed.
    pub used: Figure,
    /// `MemAvailable`.
    pub available: Figure,
}

/// What `boot` saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootReport {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image.
    pub image: String,
    /// The kernel.
    pub kernel: String,
    /// `kvm` or `tcg`, and why.
    pub accelerator: String,
    /// Memory of the machine in MiB.
    pub ram_mib: u64,
    /// Whether it reached what was expected.
    pub booted: bool,
    /// What ended the boot: the expected line, the panic, …
    pub outcome: String,
    /// Wall time until then.
    pub milliseconds: u64,
    /// The last lines of the console.
    pub console: Vec<String>,
    /// What the probe reported, if requested; in the order of time.
    pub moments: Vec<Moment>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// One try of `boot --find-min`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Try {
    /// Memory of the machine in MiB.
    pub ram_mib: u64,
    /// Whether it reached what was expected.
    pub booted: bool,
    /// Why it failed: `out of memory`, `timed out`, …; empty if it booted.
    pub why: String,
    /// Wall time.
    pub milliseconds: u64,
}

/// What `boot --find-min` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinReport {
    /// [`crate::report::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who wrote this.
    pub tool: Tool,
    /// The image.
    pub image: String,
    /// The kernel.
    pub kernel: String,
    /// `kvm` or `tcg`, and why.
    pub accelerator: String,
    /// Smallest machine to be tried, MiB.
    pub from_mib: u64,
    /// Largest machine to be tried, MiB.
    pub to_mib: u64,
    /// Step, MiB.
    pub step_mib: u64,
    /// The minimum memory of a machine that booted.
    #[serde(alias = "least")]
    pub minimum: Option<Figure>,
    /// Why less fails.
    pub why_less_fails: String,
    /// What the model says.
    pub computed: Option<Figure>,
    /// Every try, in the order of memory.
    pub tries: Vec<Try>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// A phase by its name; `None` for the name that the moment with the least available memory had.
fn phase<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Phase>, D::Error> {
    use serde::de::{Error, IntoDeserializer};
    match Option::<String>::deserialize(from)? {
        Some(name) if !name.starts_with("least available") => {
            let name: serde::de::value::StrDeserializer<'_, D::Error> = name.as_str().into_deserializer();
            Phase::deserialize(name).map(Some).map_err(D::Error::custom)
        }
        _ => Ok(None),
    }
}
