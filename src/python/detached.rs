//! Long work: without the GIL, and with its panics as errors.

use pyo3::prelude::*;

use crate::error::Result;
use crate::guard::guarded;

/// Work on input, without the GIL; a panic in it is an error.
pub(super) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    py.detach(|| guarded(work))
}
