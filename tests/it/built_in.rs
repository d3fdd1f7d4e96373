//! The built-in front-end, booted.
