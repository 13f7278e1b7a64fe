//! `pvops._core.Image`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::Result;
use crate::image::{self, Bits};
use crate::insn;
use crate::python::detached::detached;
use crate::python::lent::Lent;
use crate::sites;

/// An opened kernel image.
#[pyclass(frozen, module = "pvops._core")]
pub struct Image(pub(super) Arc<image::Image>);

impl Image {
    fn opened(py: Python<'_>, open: impl FnOnce() -> Result<image::Image> + Send) -> PyResult<Image> {
        Ok(Image(Arc::new(detached(py, open)?)))
    }
}

/// Names an address by the image's symbols; the error, if any, has been raised by then.
pub(super) fn namer(image: &image::Image) -> Result<impl Fn(u64) -> Option<(String, u64)> + '_> {
    image.symbols()?;
    Ok(move |address| image.place(address).ok().flatten().map(|(name, offset)| (name.to_owned(), offset)))
}

#[pymethods]
impl Image {
    /// Opens a file, mapped and not read where it is not compressed.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Image> {
        Image::opened(py, || image::Image::open(&path))
    }

    /// Opens what standard input holds.
    #[staticmethod]
    fn from_stdin(py: Python<'_>) -> PyResult<Image> {
        Image::opened(py, || image::Image::from_reader("<stdin>", &mut std::io::stdin().lock()))
    }

    /// Opens bytes where they are; the name is for error messages.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, name: &str, data: &Bound<'_, PyAny>) -> PyResult<Image> {
        let lent = Lent::of(data)?;
        Image::opened(py, || image::Image::from_bytes(name, lent))
    }

    fn __repr__(&self) -> String {
        format!(
            "<Image {}: {}, {} bits>",
            self.0.name(),
            self.0.container(),
            if self.0.bits() == Bits::B32 { 32 } else { 64 }
        )
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn bits(&self) -> u32 {
        match self.0.bits() {
            Bits::B32 => 32,
            Bits::B64 => 64,
        }
    }

    #[getter]
    fn container(&self) -> String {
        self.0.container().to_string()
    }

    /// Whether it is a module, laid out where this package chose.
    #[getter]
    fn is_module(&self) -> bool {
        self.0.is_module()
    }

    /// The same module, linked to a kernel that has these names, and these arrays of pointers to functions.
    fn linked_to(
        &self,
        py: Python<'_>,
        names: Vec<String>,
        arrays: Vec<(String, Vec<Option<String>>)>,
    ) -> PyResult<Image> {
        Image::opened(py, || self.0.linked_to(&image::StandIn { names, arrays }))
    }

    #[getter]
    fn banner(&self) -> Option<&str> {
        self.0.banner()
    }

    #[getter]
    fn release(&self) -> Option<&str> {
        self.0.release()
    }

    /// (name, address, size, executable) of each section.
    fn sections(&self) -> Vec<(&str, u64, u64, bool)> {
        self.0.sections().iter().map(|s| (s.name.as_str(), s.address, s.size, s.executable)).collect()
    }

    /// Names of the nop tables that the image has, as `fill_nops` knows them.
    fn nop_tables(&self, py: Python<'_>) -> Vec<&'static str> {
        py.detach(|| sites::nops::tables(&self.0)).into_iter().map(|table| table.name).collect()
    }

    /// Sections that list addresses of code and that no pass here knows: the kernel may rewrite what they name.
    fn unknown_sections(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| sites::unknown::sections(&self.0))
    }

    /// A thunk of returns by its code, for images that name no functions; None where there is none of this name.
    fn return_thunk(&self, py: Python<'_>, name: &str) -> PyResult<Option<u64>> {
        Ok(detached(py, || sites::return_thunks::find(&self.0, name))?)
    }

    fn config(&self) -> PyResult<Option<String>> {
        Ok(self.0.config()?)
    }

    fn address_of(&self, py: Python<'_>, symbol: &str) -> PyResult<Option<u64>> {
        Ok(detached(py, || self.0.symbols())?.and_then(|s| s.address_of(symbol)))
    }

    /// Every address that has this name: static functions repeat names.
    fn addresses_of(&self, py: Python<'_>, symbol: &str) -> PyResult<Vec<u64>> {
        let symbols = detached(py, || self.0.symbols())?;
        Ok(symbols.map_or_else(Vec::new, |s| s.addresses_of(symbol).collect()))
    }

    /// The symbol an address lies in, and the offset into it; nothing beyond the image's sections lies in one.
    fn symbol_at(&self, py: Python<'_>, address: u64) -> PyResult<Option<(&str, u64)>> {
        Ok(detached(py, || self.0.place(address))?)
    }

    /// How many symbols the image names; 0 where it names none.
    fn symbol_count(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(detached(py, || self.0.symbols())?.map_or(0, |s| s.len()))
    }

    /// The same image, moved as KASLR moves it.
    fn moved(&self, py: Python<'_>, slide: u64) -> PyResult<Image> {
        Image::opened(py, || self.0.moved(slide))
    }

    /// The names of all symbols, by address; those that several have are repeated.
    fn symbol_names(&self, py: Python<'_>) -> PyResult<Vec<&str>> {
        let symbols = detached(py, || self.0.symbols())?;
        Ok(symbols.map_or_else(Vec::new, |s| s.iter().map(|(_, _, name)| name).collect()))
    }

    /// (dotted member, byte offset) of every function pointer in a structure, by BTF; None where BTF has none.
    fn btf_members(&self, py: Python<'_>, structure: &str) -> PyResult<Option<Vec<(String, usize)>>> {
        let word = self.0.bits().word();
        Ok(detached(py, || -> Result<_> {
            let Some(btf) = self.0.btf()? else { return Ok(None) };
            btf.find_struct(structure).map(|_| btf.flatten_pointers(structure, word)).transpose()
        })?)
    }

    fn read<'py>(&self, py: Python<'py>, address: u64, len: usize) -> Option<Bound<'py, PyBytes>> {
        self.0.read(address, len).map(|bytes| PyBytes::new(py, bytes))
    }

    /// The addresses at which these bytes stand in the sections of a name, no two of them overlapping.
    fn find(&self, py: Python<'_>, section: &str, raw: &[u8]) -> Vec<u64> {
        let sections = self.0.sections().iter().filter(|s| s.name == section);
        let found = |s: &image::Section| -> Vec<u64> {
            memchr::memmem::find_iter(self.0.section_bytes(s), raw)
                .map(|at| s.address.wrapping_add(at as u64))
                .collect()
        };
        py.detach(|| sections.flat_map(found).collect())
    }

    /// (address, pointer) of each word-aligned pointer from `low` up to but not including `high` in the sections of a name.
    fn pointers(&self, py: Python<'_>, section: &str, low: u64, high: u64) -> Vec<(u64, u64)> {
        let among = low..high;
        let sections = self.0.sections().iter().filter(|s| s.name == section);
        let found = |s: &image::Section| match self.0.bits() {
            Bits::B32 => words(s.address, self.0.section_bytes(s), &among, |word| u32::from_le_bytes(word).into()),
            Bits::B64 => words(s.address, self.0.section_bytes(s), &among, u64::from_le_bytes),
        };
        py.detach(|| sections.flat_map(found).collect())
    }

    /// (start, end) of data that lie in `.text`, which the kernel writes.
    fn data_in_text(&self, py: Python<'_>) -> Result<Vec<(u64, u64)>> {
        let found = py.detach(|| sites::data_in_text(&self.0))?;
        Ok(found.into_iter().map(|data| (data.start, data.end)).collect())
    }

    /// Where the pointer lies that the call of six bytes at an address goes through; None where there is none.
    fn called_pointer(&self, address: u64) -> Option<u64> {
        insn::called_pointer(self.0.bits(), address, self.0.read(address, 6)?)
    }

    fn read_word(&self, address: u64) -> Option<u64> {
        self.0.read_word(address)
    }

    /// (offset, length, text) of each instruction; symbols are looked up unless `names` is false.
    #[pyo3(signature = (address, code, names = true))]
    fn disassemble(&self, address: u64, code: &[u8], names: bool) -> PyResult<Vec<(usize, usize, String)>> {
        let lines = if names {
            insn::disassemble(self.0.bits(), address, code, &namer(&self.0)?)
        } else {
            insn::disassemble(self.0.bits(), address, code, &|_| None)
        };
        Ok(lines.into_iter().map(|l| (l.offset, l.len, l.text)).collect())
    }
}

/// So many words are looked at together.
const TOGETHER: usize = 16;

/// (address, word) of each word of some bytes at an address that lies in a range.
fn words<const WORD: usize>(
    address: u64,
    bytes: &[u8],
    range: &Range<u64>,
    number: impl Fn([u8; WORD]) -> u64,
) -> Vec<(u64, u64)> {
    let is_among = |word| number(word).wrapping_sub(range.start) < range.end.saturating_sub(range.start);
    let mut found = Vec::new();
    for (nth, words) in bytes.as_chunks().0.chunks(TOGETHER).enumerate() {
        // Few have one: without a branch for each word that is told faster.
        if words.iter().fold(false, |any, &word| any | is_among(word)) {
            let first = address + (nth * TOGETHER * WORD) as u64;
            let hits = words.iter().enumerate().filter(|&(_, &word)| is_among(word));
            found.extend(hits.map(|(at, &word)| (first + (at * WORD) as u64, number(word))));
        }
    }
    found
}
