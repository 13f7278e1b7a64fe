//! `pvops._core.Memory` and what is found in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyAttributeError, PyException, PyNameError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::boot::Tables;
use super::detached::detached;
use super::image::Image;
use super::lent::Lent;
use crate::error::{Error, Result};
use crate::memory;

/// Where an exception of a callback waits until the core is back.
type Raised = Arc<Mutex<Option<PyErr>>>;

/// Memory of a running kernel.
#[pyclass(frozen, module = "pvops._core")]
pub struct Memory {
    memory: Arc<memory::Memory>,
    raised: Raised,
}

/// An image found in memory.
#[pyclass(frozen, module = "pvops._core")]
pub struct Location {
    pub(super) memory: Arc<memory::Memory>,
    pub(super) image: Arc<crate::image::Image>,
    pub(super) found: memory::Location,
    raised: Raised,
}

/// A Python callable as reader of virtual memory.
struct Callable {
    call: Py<PyAny>,
    complaint: Mutex<Option<String>>,
    raised: Raised,
}

impl memory::Reader for Callable {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        Python::attach(|py| {
            let answer = self.call.bind(py).call1((address, buffer.len()));
            let copied = answer.and_then(|answer| {
                let bytes = PyBuffer::<u8>::get(&answer)?;
                let fits = bytes.item_count() == buffer.len();
                if fits {
                    bytes.copy_to_slice(py, buffer)?;
                }
                Ok(fits)
            });
            copied.or_else(|error| {
                // Each library says in its own way that an address is not there; what no reader means is a slip.
                let slip = !error.is_instance_of::<PyException>(py)
                    || error.is_instance_of::<PyTypeError>(py)
                    || error.is_instance_of::<PyAttributeError>(py)
                    || error.is_instance_of::<PyNameError>(py);
                if slip {
                    return Err(keep(&self.raised, error));
                }
                if let Ok(mut complaint) = self.complaint.lock() {
                    complaint.get_or_insert_with(|| error.to_string().replace('\n', " "));
                }
                Ok(false)
            })
        })
    }

    fn complaint(&self) -> Option<String> {
        self.complaint.lock().ok()?.clone()
    }
}

/// Puts an exception aside; the error that stands for it never reaches the user.
fn keep(raised: &Raised, error: PyErr) -> Error {
    let reason = error.to_string();
    if let Ok(mut raised) = raised.lock() {
        raised.get_or_insert(error);
    }
    Error::memory(reason)
}

/// The exception that was put aside, or the error.
fn raise(raised: &Raised, error: Error) -> PyErr {
    raised.lock().ok().and_then(|mut raised| raised.take()).unwrap_or_else(|| error.into())
}

impl Memory {
    fn opened(py: Python<'_>, open: impl FnOnce() -> Result<memory::Memory> + Send) -> PyResult<Memory> {
        Ok(Memory { memory: Arc::new(detached(py, open)?), raised: Raised::default() })
    }
}

#[pymethods]
impl Memory {
    /// Opens a dump; it is read where needed. `name` is for error messages, where the path means nothing to anybody.
    #[staticmethod]
    #[pyo3(signature = (path, name = None))]
    fn open(py: Python<'_>, path: PathBuf, name: Option<&str>) -> PyResult<Memory> {
        Memory::opened(py, || match name {
            Some(name) => memory::Memory::open_as(&path, name),
            None => memory::Memory::open(&path),
        })
    }

    /// Opens a dump in memory, where it is; the name is for error messages.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, name: &str, data: &Bound<'_, PyAny>) -> PyResult<Memory> {
        let lent = Lent::of(data)?;
        Memory::opened(py, || memory::Memory::from_bytes(name, lent))
    }

    /// Refuses a stream by its beginning, where that tells: what it is that is not read, or that no memory begins so.
    #[staticmethod]
    fn refuse_by_start(py: Python<'_>, name: &str, start: &[u8]) -> PyResult<()> {
        Ok(detached(py, || memory::Memory::refuse_by_start(name, start))?)
    }

    /// How many bytes of a stream tell whether it may be memory.
    #[classattr]
    const TELLING: usize = memory::Memory::TELLING;

    /// Memory that (address, size) -> bytes reads; by physical addresses where (address, size) of what there is are given.
    #[staticmethod]
    #[pyo3(signature = (name, call, physical = Vec::new()))]
    fn from_reader(name: &str, call: Py<PyAny>, physical: Vec<(u64, u64)>) -> Memory {
        let raised = Raised::default();
        let reader = Callable { call, complaint: Mutex::default(), raised: Arc::clone(&raised) };
        Memory { memory: Arc::new(memory::Memory::from_physical_reader(name, Box::new(reader), &physical)), raised }
    }

    /// Opens the memory of the kernel this runs on.
    #[staticmethod]
    fn live(py: Python<'_>) -> PyResult<Memory> {
        Memory::opened(py, || memory::Memory::live(Path::new(memory::KCORE)))
    }

    #[getter]
    fn name(&self) -> &str {
        self.memory.name()
    }

    #[getter]
    fn kind(&self) -> String {
        self.memory.kind().to_string()
    }

    /// How many bytes of physical memory there are.
    #[getter]
    fn size(&self) -> u64 {
        self.memory.physical().size()
    }

    /// Finds an image; `progress` is called with (bytes done, bytes there are) where that takes long.
    #[pyo3(signature = (image, progress = None))]
    fn find(&self, py: Python<'_>, image: &Image, progress: Option<Py<PyAny>>) -> PyResult<Location> {
        let (memory, image, raised) = (Arc::clone(&self.memory), Arc::clone(&image.0), Arc::clone(&self.raised));
        let found = detached(py, || {
            memory.find(&image, &mut |done, total| {
                Python::attach(|py| {
                    py.check_signals()?;
                    progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (done, total)).map(drop))
                })
                .map_err(|error: PyErr| keep(&raised, error))
            })
        });
        let found = found.map_err(|error| raise(&raised, error))?;
        Ok(Location { memory, image, found, raised })
    }
}

/// The image that the running kernel was booted from.
#[pyfunction]
pub fn running_kernel() -> PyResult<String> {
    Ok(memory::running_kernel()?.display().to_string())
}

impl Location {
    /// Whether memory is `.text` alone.
    pub(super) fn is_text(&self) -> bool {
        self.found.is_text()
    }

    /// Runs this on what was found, without the GIL; an exception that a callback raised meanwhile is raised again.
    pub(super) fn guarded<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&memory::Memory, &memory::Location, &crate::image::Image) -> Result<T> + Send,
    ) -> PyResult<T> {
        let done = detached(py, || work(&self.memory, &self.found, &self.image));
        done.map_err(|error| raise(&self.raised, error))
    }
}

/// Bytes of linked addresses, what of them is unread, and which relocated fields are strays.
type LinkedBytes<'py> = (Bound<'py, PyBytes>, Vec<(u64, u64)>, Vec<(u64, usize)>);

#[pymethods]
impl Location {
    fn __repr__(&self) -> String {
        format!("<Location of {}: slide {:#x}>", self.image.name(), self.found.slide)
    }

    #[getter]
    fn slide(&self) -> u64 {
        self.found.slide
    }

    #[getter]
    fn physical(&self) -> Option<u64> {
        self.found.physical
    }

    #[getter]
    fn how(&self) -> Vec<String> {
        self.found.how.clone()
    }

    /// (bytes as if the kernel had not slid, (start, end) of what could not be read, (address, width) of the relocated
    /// fields that do not hold what relocation left there, which are raw).
    /// `tables` are the image's: what a replacement brought to its site is then as linked, too.
    #[pyo3(signature = (address, size, tables = None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        address: u64,
        size: u64,
        tables: Option<&Tables>,
    ) -> PyResult<LinkedBytes<'py>> {
        let end = address.checked_add(size).ok_or_else(|| Error::memory("the range leaves the address space"))?;
        let held = detached(py, || {
            let mut held = self.found.read(&self.memory, &self.image, address..end)?;
            if let Some(tables) = tables {
                crate::verify::unslide(&mut held, &self.image, &tables.tables, self.found.slide);
            }
            Ok(held)
        });
        let held = held.map_err(|error| raise(&self.raised, error))?;
        let unread = held.unread.iter().map(|gap| (gap.start, gap.end)).collect();
        let strays = held.strays.iter().map(|field| (field.address, field.kind.width())).collect();
        Ok((PyBytes::new(py, &held.bytes), unread, strays))
    }
}
