//! `pvops._core.Tables`: every table of an image, row by row.

use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::python::image::Image;
use crate::sites::{self, AddressTable};

/// All tables of an image.
#[pyclass(frozen, module = "pvops._core")]
pub struct Tables(pub(super) sites::Tables);

/// (address, length, replacement, its length, feature, inverted, direct call, padding) of a row.
type Alternative = (u64, u8, u64, u8, u16, bool, bool, u8);

impl Tables {
    fn table(&self, name: &str) -> Result<&AddressTable> {
        Ok(match name {
            "retpolines" => &self.0.retpolines,
            "returns" => &self.0.returns,
            "call_sites" => &self.0.call_sites,
            "ibt" => &self.0.ibt,
            "smp_locks" => &self.0.smp_locks,
            _ => return Err(Error::ops(format!("no table of addresses {name:?}"))),
        })
    }
}

#[pymethods]
impl Tables {
    /// Reads every table; the first malformed row of any is the error.
    #[staticmethod]
    fn read(py: Python<'_>, image: &Image) -> PyResult<Tables> {
        Ok(Tables(py.detach(|| sites::Tables::read(&image.0))?))
    }

    /// Layout of `.altinstructions`; None where the image has no such table.
    #[getter]
    fn alternatives_layout(&self) -> Option<&'static str> {
        self.0.alternatives.as_ref().map(|table| table.layout.name)
    }

    /// Rows of `.altinstructions`, in table order.
    fn alternatives(&self) -> Vec<Alternative> {
        let rows = self.0.alternatives.as_ref().map_or(&[][..], |table| &table.rows);
        rows.iter()
            .map(|r| {
                let replacement = (r.replacement, r.replacement_len);
                (r.address, r.len, replacement.0, replacement.1, r.feature, r.inverted, r.direct_call, r.pad)
            })
            .collect()
    }

    /// (row, address) of `retpolines`, `returns`, `call_sites`, `ibt` or `smp_locks`; rows that name no site are left out.
    fn addresses(&self, table: &str) -> PyResult<Vec<(u32, u64)>> {
        Ok(self.table(table)?.rows().collect())
    }

    /// Addresses of `__mcount_loc`.
    fn mcount(&self) -> Vec<u64> {
        self.0.mcount.clone()
    }

    /// (address, length, target, key, whether it jumps where the key is off) of each row of `__jump_table`.
    fn jump_labels(&self) -> Vec<(u64, u8, u64, u64, bool)> {
        self.0.jump_labels.iter().map(|l| (l.address, l.len, l.target, l.key, l.branch)).collect()
    }

    /// (address, key, whether it is a tail jump) of each static call site.
    fn static_calls(&self) -> Vec<(u64, u64, bool)> {
        self.0.static_calls.iter().map(|s| (s.address, s.key, s.tail)).collect()
    }

    /// (address, key if the image names it) of each static call's trampoline.
    fn trampolines(&self) -> Vec<(u64, Option<u64>)> {
        self.0.trampolines.iter().map(|t| (t.address, t.key)).collect()
    }

    /// (section, bytes at each site, addresses) of each run-time constant.
    fn constants(&self) -> Vec<(String, u8, Vec<u64>)> {
        self.0.constants.iter().map(|c| (c.table.section.clone(), c.width, c.table.sites.clone())).collect()
    }
}
