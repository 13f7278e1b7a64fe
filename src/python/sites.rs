//! `pvops._core.ParavirtSites`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::image;
use crate::python::detached::detached;
use crate::python::image::{Image, namer};
use crate::sites::{ParavirtTable, Site, listing};

/// The rows of `.parainstructions`.
#[pyclass(frozen, module = "pvops._core")]
pub struct ParavirtSites {
    pub(super) image: Arc<image::Image>,
    pub(super) table: ParavirtTable,
}

/// (address, section, type, length, clobbers, bytes) of a row.
type Row<'py> = (u64, String, u8, u8, Option<u16>, Bound<'py, PyBytes>);

impl ParavirtSites {
    pub(super) fn bytes(&self, site: &Site) -> &[u8] {
        &self.image.bytes()[site.offset as usize..][..usize::from(site.len)]
    }
}

#[pymethods]
impl ParavirtSites {
    /// Reads the table of an image; None where it has none.
    #[staticmethod]
    fn read(py: Python<'_>, image: &Image) -> PyResult<Option<ParavirtSites>> {
        let table = detached(py, || ParavirtTable::read(&image.0))?;
        Ok(table.map(|table| ParavirtSites { image: image.0.clone(), table }))
    }

    fn __repr__(&self) -> String {
        format!("<ParavirtSites of {}: {} rows>", self.image.name(), self.table.sites.len())
    }

    fn __len__(&self) -> usize {
        self.table.sites.len()
    }

    #[getter]
    fn layout(&self) -> String {
        self.table.layout.describe()
    }

    /// The one address of the ops that every row agrees on.
    fn ops_address(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| self.table.ops_address(self.image.bits())).map_err(|e| e.in_file(self.image.name()).into())
    }

    /// Every row, in table order.
    fn rows<'py>(&self, py: Python<'py>) -> Vec<Row<'py>> {
        let row = |site: &Site| {
            let section = self.image.sections()[usize::from(site.section)].name.clone();
            (site.address, section, site.op_type, site.len, site.clobbers, PyBytes::new(py, self.bytes(site)))
        };
        self.table.sites.iter().map(row).collect()
    }

    /// (section, how many sites), most first.
    fn by_section(&self) -> Vec<(String, usize)> {
        self.count(|site| usize::from(site.section))
            .into_iter()
            .map(|(section, n)| (self.image.sections()[section].name.clone(), n))
            .collect()
    }

    /// (type, how many sites), most first.
    fn by_type(&self) -> Vec<(usize, usize)> {
        self.count(|site| usize::from(site.op_type))
    }

    /// One line per site, in table order.
    #[pyo3(signature = (ops, names = true))]
    fn listing(&self, py: Python<'_>, ops: Vec<String>, names: bool) -> PyResult<String> {
        Ok(py.detach(|| {
            let sites = &self.table.sites;
            if names {
                namer(&self.image).map(|namer| listing::listing(&self.image, sites, &ops, &namer))
            } else {
                Ok(listing::listing(&self.image, sites, &ops, &|_| None))
            }
        })?)
    }
}

impl ParavirtSites {
    fn count(&self, key: impl Fn(&Site) -> usize) -> Vec<(usize, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for site in &self.table.sites {
            *counts.entry(key(site)).or_insert(0) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts
    }
}
