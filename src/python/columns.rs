//! `pvops._core.Columns`: the sites of an image as columns, and what is written from them.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::panic::resume_unwind;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyMemoryView};

use crate::error::{Error, Result};
use crate::image;
use crate::python::arrow::{self, Column as Arrow};
use crate::python::boot::Tables;
use crate::python::column::{Column, Numbers};
use crate::sites::document::{CSV_COLUMNS, Form, Writer};
use crate::sites::rows::TABLES;
use crate::sites::{self, columns};

/// The sites of an image, one entry a row and column; rows of one site lie together.
#[pyclass(frozen, module = "pvops._core")]
pub struct Columns {
    image: Arc<image::Image>,
    columns: Arc<columns::Columns>,
    ops: Arc<Vec<String>>,
    constants: Arc<Vec<String>>,
}

/// (rows of each table, sites in each section, sites of each op, sites of several tables): each (name, how many).
type Counts = (Vec<(String, usize)>, Vec<(String, usize)>, Vec<(String, usize)>, Vec<(String, usize)>);

/// (table, index, length, type, op, clobbers, feature, inverted, direct call, key, target, constant) of a row.
type Row = (
    &'static str,
    u32,
    u32,
    Option<u32>,
    Option<String>,
    Option<u32>,
    Option<u32>,
    Option<bool>,
    Option<bool>,
    Option<u64>,
    Option<u64>,
    Option<String>,
);

impl Columns {
    fn op(&self, number: u32) -> String {
        self.ops.get(number as usize).cloned().unwrap_or_else(|| format!("type {number}"))
    }

    fn checked(&self, site: usize) -> Result<usize> {
        if site < self.columns.sites() {
            Ok(site)
        } else {
            Err(Error::table(format!("no site {site} of {}", self.columns.sites())))
        }
    }

    fn chosen(&self, sites: Option<Vec<u32>>) -> Result<Vec<u32>> {
        let sites = sites.unwrap_or_else(|| (0..self.columns.sites() as u32).collect());
        for &site in &sites {
            self.checked(site as usize)?;
        }
        Ok(sites)
    }
}

#[pymethods]
impl Columns {
    /// The columns of some tables; `tables_in_order` is the order of rows within a site, `ops` names the ops by number, `slots`
    /// says which op lies at an address; with `low` and `high` those of the sites that touch [low, high), and perhaps others
    /// near.
    #[new]
    #[pyo3(signature = (tables, tables_in_order, ops, slots, low = 0, high = None))]
    fn new(
        py: Python<'_>,
        tables: &Tables,
        tables_in_order: Vec<String>,
        ops: Vec<String>,
        slots: HashMap<u64, u32>,
        low: u64,
        high: Option<u64>,
    ) -> PyResult<Columns> {
        let image = tables.image.clone();
        let constants = tables.tables.constants.iter().map(|c| c.table.section.clone()).collect();
        let names: Vec<&str> = tables_in_order.iter().map(String::as_str).collect();
        let of = || {
            columns::Columns::among(
                Arc::clone(&image),
                Arc::clone(&tables.tables),
                &names,
                slots,
                low..high.unwrap_or(u64::MAX),
            )
        };
        let columns = py.detach(of).map_err(|e| e.in_file(image.name()))?;
        Ok(Columns { image, columns: Arc::new(columns), ops: Arc::new(ops), constants: Arc::new(constants) })
    }

    /// How many sites there are.
    fn __len__(&self) -> usize {
        self.columns.sites()
    }

    fn __repr__(&self) -> String {
        format!("<Columns of {}: {} sites, {} rows>", self.image.name(), self.columns.sites(), self.columns.rows())
    }

    /// How many rows there are.
    #[getter]
    fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// A column by name: read-only numbers, without a copy.
    fn column<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyMemoryView>> {
        let c = &slf.get().columns;
        let what = match name {
            "address" => Numbers::U64(columns::Columns::address),
            "len" => Numbers::U32(columns::Columns::len),
            "table" => Numbers::U8(columns::Columns::table),
            "index" => Numbers::U32(columns::Columns::index),
            "type" => Numbers::U32(columns::Columns::op_type),
            "clobbers" => Numbers::U32(columns::Columns::clobbers),
            "feature" => Numbers::U32(columns::Columns::feature),
            "inverted" => Numbers::U8(columns::Columns::inverted),
            "direct_call" => Numbers::U8(columns::Columns::direct_call),
            "key" => Numbers::U64(columns::Columns::key),
            "target" => Numbers::U64(columns::Columns::target),
            "constant" => Numbers::U8(columns::Columns::constant),
            "first" => Numbers::U32(columns::Columns::first),
            _ => return Err(Error::ops(format!("no column {name:?}")).into()),
        };
        PyMemoryView::from(Bound::new(slf.py(), Column { columns: c.clone(), what })?.as_any())
    }

    /// (address, bytes as built, rows) of a site.
    fn site(&self, site: usize) -> PyResult<(u64, &[u8], Vec<Row>)> {
        let c = &self.columns;
        let site = self.checked(site)?;
        let rows = c.rows_of(site).map(|number| {
            let row = c.row(number);
            (
                TABLES[usize::from(c.table_of(number))],
                row.index,
                row.len.into(),
                row.op_type,
                row.op_type.map(|op| self.op(op)),
                row.clobbers.map(u32::from),
                row.feature.map(u32::from),
                row.inverted,
                row.direct_call.filter(|&direct| direct),
                row.key,
                row.target,
                row.constant.and_then(|constant| self.constants.get(usize::from(constant)).cloned()),
            )
        });
        Ok((c.site_address(site), c.bytes_of(site), rows.collect()))
    }

    /// The sites that touch [low, high), by address.
    fn within(&self, low: u64, high: u64) -> Vec<u32> {
        self.columns.within(low, high)
    }

    /// The site at this very address, or None.
    fn at(&self, address: u64) -> Option<u32> {
        self.columns.at(address)
    }

    /// The site whose address is nearest; None where there is no site.
    fn nearest(&self, address: u64) -> Option<u32> {
        self.columns.nearest(address)
    }

    /// The sites of the op of this name, in order.
    fn of_op(&self, op: &str) -> Vec<u32> {
        match self.ops.iter().position(|name| name == op) {
            Some(number) => self.columns.of_op(number as u32),
            None => Vec::new(),
        }
    }

    /// Counts of all sites, or of some.
    #[pyo3(signature = (sites = None))]
    fn counts(&self, py: Python<'_>, sites: Option<Vec<u32>>) -> PyResult<Counts> {
        let of = |sites: &mut dyn Iterator<Item = u32>| sites::Counts::of(&self.columns, &self.image, sites);
        let counts = match sites {
            None => py.detach(|| of(&mut (0..self.columns.sites() as u32))),
            some => {
                let sites = self.chosen(some)?;
                py.detach(|| of(&mut sites.into_iter()))
            }
        };
        Ok((
            counts.rows.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            counts.sections.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            counts.ops.into_iter().map(|(op, n)| (self.op(op), n)).collect(),
            counts.shared.into_iter().map(|(tables, n)| (tables.join(" + "), n)).collect(),
        ))
    }

    /// All sites, or some, written piece by piece in UTF-8: an iterator of bytes. `form` is `json`, `jsonl`, `csv` or `text`.
    #[pyo3(signature = (form, sites = None, *, names = true, slide = 0, jobs = 1))]
    fn written(
        &self,
        py: Python<'_>,
        form: &str,
        sites: Option<Vec<u32>>,
        names: bool,
        slide: u64,
        jobs: usize,
    ) -> PyResult<Written> {
        let form = match form {
            "json" => Form::Json,
            "jsonl" => Form::JsonLines,
            "csv" => Form::Csv,
            "text" => Form::Text,
            _ => return Err(Error::ops(format!("sites are written as json, jsonl, csv or text, not {form:?}")).into()),
        };
        let names = names && py.detach(|| self.image.symbols())?.is_some();
        Ok(Written {
            image: self.image.clone(),
            columns: self.columns.clone(),
            ops: self.ops.clone(),
            constants: self.constants.clone(),
            sites: self.chosen(sites)?,
            form,
            names,
            slide,
            jobs: jobs.clamp(1, 64),
            next: 0,
            made: VecDeque::new(),
        })
    }

    /// All rows, or those of some sites, as Arrow's C stream interface has them; without sites no number is copied.
    #[pyo3(signature = (sites = None))]
    fn arrow<'py>(&self, py: Python<'py>, sites: Option<Vec<u32>>) -> PyResult<Bound<'py, PyCapsule>> {
        let columns = match sites {
            None => self.columns.clone(),
            Some(sites) => {
                for &site in &sites {
                    self.checked(site as usize)?;
                }
                Arc::new(self.columns.of_sites(&sites))
            }
        };
        let (c, n) = (&columns, columns.rows());
        let of = |what: Numbers| Column { columns: columns.clone(), what };
        let some_32 = |values: &'_ [u32]| values.iter().map(|&value| value != columns::NONE_32).collect::<Vec<_>>();
        let some_64 = |values: &'_ [u64]| values.iter().map(|&value| value != columns::NONE_64).collect::<Vec<_>>();
        let some_8 = |values: &'_ [u8]| values.iter().map(|&value| value != columns::NONE_8).collect::<Vec<_>>();
        let op =
            Arrow::u32("op", n, of(Numbers::U32(columns::Columns::op_type))).with(some_32(c.op_type()).into_iter());
        // What nothing names has its number for a name.
        let highest = c.op_type().iter().filter(|&&op| op != columns::NONE_32).max().map_or(0, |&op| op + 1);
        let names: Vec<String> = (0..highest.max(self.ops.len() as u32)).map(|op| self.op(op)).collect();
        let stream = vec![
            Arrow::u64("address", n, of(Numbers::U64(columns::Columns::address))),
            Arrow::u32("len", n, of(Numbers::U32(columns::Columns::len))),
            Arrow::u8("table", n, of(Numbers::U8(columns::Columns::table))).numbering(TABLES.into_iter()),
            Arrow::u32("index", n, of(Numbers::U32(columns::Columns::index))),
            Arrow::u32("type", n, of(Numbers::U32(columns::Columns::op_type))).with(some_32(c.op_type()).into_iter()),
            op.numbering(names.iter()),
            Arrow::u32("clobbers", n, of(Numbers::U32(columns::Columns::clobbers)))
                .with(some_32(c.clobbers()).into_iter()),
            Arrow::u32("feature", n, of(Numbers::U32(columns::Columns::feature)))
                .with(some_32(c.feature()).into_iter()),
            Arrow::u8("inverted", n, of(Numbers::U8(columns::Columns::inverted)))
                .with(some_8(c.inverted()).into_iter()),
            Arrow::u8("direct_call", n, of(Numbers::U8(columns::Columns::direct_call)))
                .with(some_8(c.direct_call()).into_iter()),
            Arrow::u64("key", n, of(Numbers::U64(columns::Columns::key))).with(some_64(c.key()).into_iter()),
            Arrow::u64("target", n, of(Numbers::U64(columns::Columns::target))).with(some_64(c.target()).into_iter()),
            Arrow::u8("constant", n, of(Numbers::U8(columns::Columns::constant)))
                .with(some_8(c.constant()).into_iter())
                .numbering(self.constants.iter()),
        ];
        arrow::stream(py, stream)
    }

    /// The columns of CSV in order.
    #[staticmethod]
    fn csv_columns() -> Vec<&'static str> {
        CSV_COLUMNS.to_vec()
    }
}

/// Sites on their way out: an iterator of bytes.
#[pyclass(module = "pvops._core")]
pub struct Written {
    image: Arc<image::Image>,
    columns: Arc<columns::Columns>,
    ops: Arc<Vec<String>>,
    constants: Arc<Vec<String>>,
    sites: Vec<u32>,
    form: Form,
    names: bool,
    slide: u64,
    jobs: usize,
    next: usize,
    /// Pieces that were made and are not out yet.
    made: VecDeque<Vec<u8>>,
}

/// Sites that one thread writes at a time.
const BATCH: usize = 4096;

impl Written {
    fn some(&self, from: usize) -> Vec<u8> {
        let sites = &self.sites[from..self.sites.len().min(from + BATCH)];
        let writer = Writer {
            image: &self.image,
            columns: &self.columns,
            ops: &self.ops,
            constants: &self.constants,
            names: self.names,
            slide: self.slide,
            last: Cell::default(),
        };
        let mut out = Vec::with_capacity(sites.len() * 320);
        writer.write(&mut out, self.form, sites, from == 0);
        out
    }
}

#[pymethods]
impl Written {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        if self.made.is_empty() && self.next < self.sites.len() {
            let starts: Vec<usize> = (self.next..self.sites.len()).step_by(BATCH).take(self.jobs).collect();
            self.next = self.sites.len().min(self.next + starts.len() * BATCH);
            let this = &*self;
            self.made = py.detach(|| match starts.as_slice() {
                [one] => [this.some(*one)].into(),
                several => std::thread::scope(|scope| {
                    let threads: Vec<_> = several.iter().map(|&from| scope.spawn(move || this.some(from))).collect();
                    // A panic of a thread is one of this call.
                    let made = threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| resume_unwind(panic)));
                    made.collect()
                }),
            });
        }
        self.made.pop_front().map(|piece| PyBytes::new(py, &piece))
    }
}
