//! `pvops._core.hear`: the kernel's own data beside its text.

use pyo3::prelude::*;

use crate::error::Error;
use crate::memory;
use crate::python::memory::Location;
use crate::python::report::{Changed, Report, changed};
use crate::python::verify::KernelInfo;
use crate::verify as core;

/// What the data of a kernel say.
#[pyclass(frozen, module = "pvops._core")]
pub struct Heard(core::Heard);

/// (size, wrong bytes, first address, end, start and end of what the kernel writes at boot).
type Rodata = (u64, u64, u64, u64, (u64, u64));

#[pymethods]
impl Heard {
    /// (kind, how many were heard).
    #[getter]
    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.0.counts.clone()
    }

    /// (kind, address, which, what the text says, what the data say).
    #[getter]
    fn disagreements(&self) -> Vec<(&'static str, u64, u64, u64, u64)> {
        self.0.disagreements.iter().map(|d| (d.what, d.address, d.which, d.expected, d.found)).collect()
    }

    /// Static keys of which nothing tells but their text and their count.
    #[getter]
    fn alone(&self) -> Vec<u64> {
        self.0.alone.iter().copied().collect()
    }

    /// What could not be heard, and why.
    #[getter]
    fn unheard(&self) -> Vec<String> {
        self.0.unheard.clone()
    }

    /// `.rodata` held to the file; None where it is not.
    #[getter]
    fn rodata(&self) -> Option<Rodata> {
        let rodata = self.0.rodata.as_ref().ok()?;
        let written = (rodata.written.start, rodata.written.end);
        Some((rodata.size, rodata.wrong, rodata.range.start, rodata.range.end, written))
    }

    /// Why `.rodata` is not judged.
    #[getter]
    fn why(&self) -> Option<&str> {
        self.0.rodata.as_ref().err().map(String::as_str)
    }

    /// Sections elsewhere that were held to the file, and how many pointers in what is written at boot were looked at.
    #[getter]
    fn tables(&self) -> (Vec<String>, u64) {
        self.0.rodata.as_ref().map_or_else(|_| (Vec::new(), 0), |rodata| (rodata.tables.clone(), rodata.pointers))
    }

    /// (start, end) of what of the constants is written at boot and was held to the file: tables, by their rows, and vDSOs.
    #[getter]
    fn held(&self) -> Vec<(u64, u64)> {
        self.0.held.iter().map(|table| (table.start, table.end)).collect()
    }

    /// (start, end) of all that was held to the file, what boot writes of `.rodata` included.
    #[getter]
    fn judged(&self) -> Vec<(u64, u64)> {
        self.0.rodata.iter().flat_map(|rodata| &rodata.judged).map(|part| (part.start, part.end)).collect()
    }

    /// Where `.rodata` differs from the file.
    fn changed<'py>(&self, py: Python<'py>) -> Vec<Changed<'py>> {
        changed(py, self.0.rodata.iter().flat_map(|rodata| &rodata.changed))
    }

    /// (start, end) of what of `.rodata` could not be read.
    #[getter]
    fn unread(&self) -> Vec<(u64, u64)> {
        self.0.rodata.iter().flat_map(|rodata| &rodata.unread).map(|gap| (gap.start, gap.end)).collect()
    }
}

/// (owner, where text is changed, what is called then or 0, where that branches or 0 or None), at run time.
type Entry = (&'static str, u64, u64, Option<u64>);
/// (code made for a tracer or 0, what it calls, for whom, what it traces or None for all), at run time.
type Tracers = Option<Vec<(u64, u64, &'static str, Option<Vec<u64>>)>>;
/// (function of a dispatcher, where it goes), at run time.
type Dispatchers = Option<Vec<(u64, u64)>>;
/// (what the tracer's code calls, whether that goes to the graph tracer); None where the image does not name it.
type Tracing = (Option<u64>, Option<bool>);
/// The entries, tracers, dispatchers, what is traced with, where probes are by entries in the lists of other addresses, which
/// functions of modules are traced by records alone, whose lists were read, and (owner, why) of what was not.
type Registered =
    (Vec<Entry>, Tracers, Dispatchers, Tracing, Vec<u64>, Vec<u64>, Vec<&'static str>, Vec<(&'static str, String)>);

/// Who has registered with the kernel to change its text.
#[pyfunction]
pub fn registered(py: Python<'_>, found: &Location) -> PyResult<Registered> {
    let all = found.guarded(py, memory::registered)?;
    let entries = all.entries.iter().map(|e| (e.owner.name(), e.address, e.handler, e.branch)).collect();
    let tracer = |t: memory::Tracer| (t.trampoline, t.function, t.owner.name(), t.places);
    let tracers = all.tracers.map(|all| all.into_iter().map(tracer).collect());
    let dispatchers = all.dispatchers.map(|all| all.iter().map(|d| (d.function, d.target)).collect());
    let read = all.read.iter().map(|owner| owner.name()).collect();
    let unread = all.unread.into_iter().map(|(owner, why)| (owner.name(), why)).collect();
    let tracing = (all.tracing.function, all.tracing.graph);
    Ok((entries, tracers, dispatchers, tracing, all.misplaced, all.idle, read, unread))
}

/// Hears the data of a kernel whose text was judged; None where memory has none. `slots` are where the ops' slots are.
#[pyfunction]
pub fn hear(
    py: Python<'_>,
    report: &Report,
    info: &KernelInfo,
    slots: Vec<u64>,
    found: &Location,
) -> PyResult<Option<Heard>> {
    if found.is_text() {
        return Ok(None);
    }
    let slots = core::Slots { addresses: slots };
    let loaded = |modules: &[memory::LoadedModule]| modules.iter().map(|module| module.text).collect::<Vec<_>>();
    let modules = report.loaded.as_ref().map(|modules| loaded(modules));
    let modules = modules.as_deref().map_err(|why| why.as_str());
    let heard = found.guarded(py, |memory, found, image| {
        core::hear(&report.report, &info.0.backends, &slots, (memory, found, image), modules)
            .map_err(|error: Error| error.in_file(memory.name()))
    })?;
    Ok(Some(Heard(heard)))
}
