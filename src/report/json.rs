//! JSON, as the schemas in `src/report/schema` describe it.

use super::{Exporter, Report};
use crate::error::Error;

/// The JSON schemas of all results, by name.
pub const SCHEMAS: [(&str, &str); 11] = [
    ("boot", include_str!("schema/boot.json")),
    ("conversion", include_str!("schema/conversion.json")),
    ("difference", include_str!("schema/difference.json")),
    ("error", include_str!("schema/error.json")),
    ("history", include_str!("schema/history.json")),
    ("inspection", include_str!("schema/inspection.json")),
    ("listing", include_str!("schema/listing.json")),
    ("matrix", include_str!("schema/matrix.json")),
    ("min", include_str!("schema/min.json")),
    ("packages", include_str!("schema/packages.json")),
    ("verification", include_str!("schema/verification.json")),
];

/// Pretty-printed JSON with the fields in a fixed order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Exporter for Json {
    fn export(&self, report: &Report) -> Result<String, Error> {
        let text = match report {
            Report::Conversion(report) => serde_json::to_string_pretty(report),
            Report::Inspection(report) => serde_json::to_string_pretty(report),
            Report::Difference(report) => serde_json::to_string_pretty(report),
            Report::Verification(report) => serde_json::to_string_pretty(report),
            Report::Boot(report) => serde_json::to_string_pretty(report),
            Report::Min(report) => serde_json::to_string_pretty(report),
            Report::History(report) => serde_json::to_string_pretty(report),
            Report::Matrix(report) => serde_json::to_string_pretty(report),
            Report::Packages { report, .. } => serde_json::to_string_pretty(report),
        };
        text.map(|text| text + "\n")
            .map_err(|e| Error::failed("the report cannot be written as JSON").caused_by(e))
    }
}
