//! One column of the sites of an image, which Python and Arrow read where it is.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::python::arrow;
use crate::sites::columns;

/// Where the numbers of a column are.
#[derive(Clone, Copy)]
pub(super) enum Numbers {
    U8(fn(&columns::Columns) -> &Vec<u8>),
    U32(fn(&columns::Columns) -> &Vec<u32>),
    U64(fn(&columns::Columns) -> &Vec<u64>),
}

/// One column: read-only numbers, through the buffer protocol, without a copy.
#[pyclass(frozen, module = "pvops._core")]
pub struct Column {
    pub(super) columns: Arc<columns::Columns>,
    pub(super) what: Numbers,
}

impl arrow::Kept for Column {
    fn start(&self) -> *const c_void {
        self.parts().0
    }
}

impl Column {
    /// Where the numbers start, how many there are, how many bytes one has, and its letter in the `struct` module.
    fn parts(&self) -> (*const c_void, usize, usize, &'static std::ffi::CStr) {
        match self.what {
            Numbers::U8(of) => (of(&self.columns).as_ptr().cast(), of(&self.columns).len(), 1, c"B"),
            Numbers::U32(of) => (of(&self.columns).as_ptr().cast(), of(&self.columns).len(), 4, c"I"),
            Numbers::U64(of) => (of(&self.columns).as_ptr().cast(), of(&self.columns).len(), 8, c"Q"),
        }
    }
}

#[pymethods]
impl Column {
    /// # Safety
    ///
    /// As `bf_getbuffer`: `view` points to a `Py_buffer` that may be written, or is null.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        // SAFETY: `view` is not null, and Python gives one that may be written; `obj` has to be null where this fails.
        unsafe { (*view).obj = ptr::null_mut() };
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a column can only be read"));
        }
        let (start, len, size, format) = slf.get().parts();
        // One dimension: its shape and stride live as long as the view, which owns them until it is released.
        let shape = Box::into_raw(Box::new([len as ffi::Py_ssize_t, size as ffi::Py_ssize_t]));
        // SAFETY: as above. What the fields point to lives until the view is released: the numbers as long as the column,
        // of which the view holds a reference, and which never change; shape and stride until `__releasebuffer__` frees
        // them; the format for ever.
        unsafe {
            (*view).buf = start.cast_mut();
            (*view).len = (len * size) as ffi::Py_ssize_t;
            (*view).readonly = 1;
            (*view).itemsize = size as ffi::Py_ssize_t;
            (*view).format = if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                format.as_ptr().cast_mut()
            } else {
                ptr::null_mut()
            };
            (*view).ndim = 1;
            (*view).shape = if flags & ffi::PyBUF_ND == ffi::PyBUF_ND { shape.cast() } else { ptr::null_mut() };
            (*view).strides = if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                shape.cast::<ffi::Py_ssize_t>().add(1)
            } else {
                ptr::null_mut()
            };
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = shape.cast();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As `bf_releasebuffer`: `view` is one that `__getbuffer__` filled, released once.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `internal` is the box that `__getbuffer__` made for this view, and this is the only place that frees it.
        drop(unsafe { Box::from_raw((*view).internal.cast::<[ffi::Py_ssize_t; 2]>()) });
    }
}
