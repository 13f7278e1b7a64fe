//! The one conversion of errors: the classes live in `pvops.errors`, one for each [`ErrorKind`].

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{Error, ErrorKind};

fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "InputError",
        ErrorKind::Image => "ImageError",
        ErrorKind::Table => "TableError",
        ErrorKind::Ops => "OpsError",
        ErrorKind::Memory => "DumpError",
        ErrorKind::Bug => "KernelBug",
        ErrorKind::Execution => "ExecutionError",
        ErrorKind::Lock => "LockError",
        ErrorKind::Internal => "InternalError",
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        Python::attach(|py| raised(py, &error).unwrap_or_else(|failure| failure))
    }
}

fn raised(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let place = &error.place;
    let details = PyDict::new(py);
    details.set_item("reason", &error.reason)?;
    details.set_item("file", &place.file)?;
    details.set_item("section", &place.section)?;
    details.set_item("row", place.row)?;
    details.set_item("address", place.address)?;
    details.set_item("offset", place.offset)?;
    let class = py.import("pvops.errors")?.getattr(class(error.kind))?;
    Ok(PyErr::from_value(class.call((error.to_string(),), Some(&details))?))
}
