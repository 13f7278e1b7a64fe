//! Parameters that are refused.

use std::fmt::Display;

use crate::error::Error;

/// The error of a parameter, which its message begins with.
pub(super) fn wrong(parameter: &str, reason: impl Display) -> Error {
    Error::lock(format!("{parameter}: {reason}"))
}
