//! Tables of numbers and words as Arrow's C stream interface has them (`__arrow_c_stream__`): a stream of one batch, whose
//! numbers stay where they are.
//!
//! <https://arrow.apache.org/docs/format/CDataInterface.html>, <https://arrow.apache.org/docs/format/CStreamInterface.html>

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// `ARROW_FLAG_NULLABLE`.
const NULLABLE: i64 = 2;
/// `errno`'s `EINVAL`, of a name that holds a NUL.
const INVALID: c_int = 22;

/// `struct ArrowSchema`.
#[repr(C)]
struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`.
#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// `struct ArrowArrayStream`.
#[repr(C)]
struct ArrowArrayStream {
    get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    private_data: *mut c_void,
}

// SAFETY: what the pointers of a stream lead to is its own alone: a `Table`, whose parts are `Send`.
unsafe impl Send for ArrowArrayStream {}

/// Bytes that stay where they are as long as this is kept.
pub(super) trait Kept: Send + Sync {
    /// Where they start.
    fn start(&self) -> *const c_void;
}

impl<T: Send + Sync> Kept for Vec<T> {
    fn start(&self) -> *const c_void {
        self.as_ptr().cast()
    }
}

/// A column: its type, its values, and which of them there are.
pub(super) struct Column {
    name: &'static str,
    format: &'static CStr,
    len: usize,
    /// Validity and how many are missing, where some may be; then the values.
    missing: Option<(Vec<u8>, usize)>,
    values: Vec<Box<dyn Kept>>,
    /// The words that the values number.
    words: Option<Box<Column>>,
}

/// A word as its bytes.
struct Word<T>(T);

impl<T: AsRef<str>> AsRef<[u8]> for Word<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().as_bytes()
    }
}

impl Column {
    fn new(name: &'static str, format: &'static CStr, len: usize, values: Vec<Box<dyn Kept>>) -> Column {
        Column { name, format, len, missing: None, values, words: None }
    }

    /// Bytes.
    pub fn u8(name: &'static str, len: usize, values: impl Kept + 'static) -> Column {
        Column::new(name, c"C", len, vec![Box::new(values)])
    }

    /// Numbers of 32 bits.
    pub fn u32(name: &'static str, len: usize, values: impl Kept + 'static) -> Column {
        Column::new(name, c"I", len, vec![Box::new(values)])
    }

    /// Numbers of 64 bits.
    pub fn u64(name: &'static str, len: usize, values: impl Kept + 'static) -> Column {
        Column::new(name, c"L", len, vec![Box::new(values)])
    }

    /// Words, each in full.
    pub fn words(name: &'static str, words: impl Iterator<Item = impl AsRef<str>>) -> Column {
        Column { format: c"u", ..Column::bytes(name, words.map(Word)) }
    }

    /// Strings of bytes; there are less than 2 GiB of them.
    pub fn bytes(name: &'static str, strings: impl Iterator<Item = impl AsRef<[u8]>>) -> Column {
        let (mut ends, mut bytes): (Vec<i32>, Vec<u8>) = (vec![0], Vec::new());
        for string in strings {
            bytes.extend_from_slice(string.as_ref());
            ends.push(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        }
        Column::new(name, c"z", ends.len() - 1, vec![Box::new(ends), Box::new(bytes)])
    }

    /// The numbers of words in a list.
    pub fn numbering(self, words: impl Iterator<Item = impl AsRef<str>>) -> Column {
        Column { words: Some(Box::new(Column::words("", words))), ..self }
    }

    /// The same, where some have no value: of each in turn, whether it has one.
    pub fn with(self, there: impl Iterator<Item = bool>) -> Column {
        let mut bits = vec![0u8; self.len.div_ceil(8)];
        let mut missing = self.len;
        for (at, _) in there.take(self.len).enumerate().filter(|(_, there)| *there) {
            bits[at / 8] |= 1 << (at % 8);
            missing -= 1;
        }
        Column { missing: Some((bits, missing)), ..self }
    }

    fn field(&self) -> Field {
        let (nullable, words) = (self.missing.is_some(), self.words.is_some());
        Field { name: self.name, format: self.format, nullable, words }
    }

    fn array(self) -> ArrowArray {
        let (validity, missing) = match self.missing {
            Some((bits, missing)) => (Some(Box::new(bits) as Box<dyn Kept>), missing),
            None => (None, 0),
        };
        let buffers = std::iter::once(validity).chain(self.values.into_iter().map(Some)).collect();
        array(self.len, missing, buffers, Vec::new(), self.words.map(|words| Box::new(words.array())))
    }
}

/// What the schema says of a column.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    format: &'static CStr,
    nullable: bool,
    /// Whether its values number words.
    words: bool,
}

impl Field {
    fn schema(self) -> Option<ArrowSchema> {
        let words = self.words.then(|| Box::new(schema(c"u", CString::default(), 0, Vec::new(), None)));
        let flags = if self.nullable { NULLABLE } else { 0 };
        Some(schema(self.format, CString::new(self.name).ok()?, flags, Vec::new(), words))
    }
}

/// What the interface lets a consumer release: a schema or an array.
trait Released {
    /// Its `release`, which is null once it was called, or once the consumer has moved the structure elsewhere.
    fn release(&self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Released for ArrowSchema {
    fn release(&self) -> Option<unsafe extern "C" fn(*mut ArrowSchema)> {
        self.release
    }
}

impl Released for ArrowArray {
    fn release(&self) -> Option<unsafe extern "C" fn(*mut ArrowArray)> {
        self.release
    }
}

/// The schemas or arrays that another one points to, each in a box of its own: its columns, and the words it numbers.
struct Parts<T: Released> {
    children: Vec<*mut T>,
    dictionary: *mut T,
}

impl<T: Released> Parts<T> {
    fn new(children: Vec<T>, dictionary: Option<Box<T>>) -> Parts<T> {
        let children = children.into_iter().map(|child| Box::into_raw(Box::new(child))).collect();
        Parts { children, dictionary: dictionary.map_or(ptr::null_mut(), Box::into_raw) }
    }
}

impl<T: Released> Drop for Parts<T> {
    fn drop(&mut self) {
        let dictionary = (!self.dictionary.is_null()).then_some(self.dictionary);
        for part in self.children.iter().copied().chain(dictionary) {
            // SAFETY: `new` made the pointer of a box, and only this takes it back. Where the consumer has moved the
            // structure out of it, it has set its `release` to null, as the interface asks.
            unsafe {
                if let Some(release) = (*part).release() {
                    release(part);
                }
                drop(Box::from_raw(part));
            }
        }
    }
}

/// What a schema's pointers lead to.
struct SchemaParts {
    name: CString,
    parts: Parts<ArrowSchema>,
}

fn schema(
    format: &'static CStr,
    name: CString,
    flags: i64,
    children: Vec<ArrowSchema>,
    dictionary: Option<Box<ArrowSchema>>,
) -> ArrowSchema {
    // In a box of their own the parts stay in place when the schema is moved, as the interface allows.
    let mut kept = Box::new(SchemaParts { name, parts: Parts::new(children, dictionary) });
    ArrowSchema {
        format: format.as_ptr(),
        name: kept.name.as_ptr(),
        metadata: ptr::null(),
        flags,
        n_children: kept.parts.children.len() as i64,
        children: kept.parts.children.as_mut_ptr(),
        dictionary: kept.parts.dictionary,
        release: Some(release_schema),
        private_data: Box::into_raw(kept).cast(),
    }
}

/// # Safety
///
/// `schema` points to one that `schema()` made, and that was not released.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the caller gives a schema of ours; `private_data` is the box it was made with, and is taken once: `release`
    // is null from here on.
    unsafe {
        drop(Box::from_raw((*schema).private_data.cast::<SchemaParts>()));
        (*schema).release = None;
    }
}

/// What an array's pointers lead to.
struct ArrayParts {
    /// Kept for who reads `pointers`.
    _buffers: Vec<Option<Box<dyn Kept>>>,
    pointers: Vec<*const c_void>,
    parts: Parts<ArrowArray>,
}

fn array(
    len: usize,
    missing: usize,
    buffers: Vec<Option<Box<dyn Kept>>>,
    children: Vec<ArrowArray>,
    dictionary: Option<Box<ArrowArray>>,
) -> ArrowArray {
    let pointers = buffers.iter().map(|buffer| buffer.as_ref().map_or(ptr::null(), |kept| kept.start())).collect();
    let mut kept = Box::new(ArrayParts { _buffers: buffers, pointers, parts: Parts::new(children, dictionary) });
    ArrowArray {
        length: len as i64,
        null_count: missing as i64,
        offset: 0,
        n_buffers: kept.pointers.len() as i64,
        n_children: kept.parts.children.len() as i64,
        buffers: kept.pointers.as_mut_ptr(),
        children: kept.parts.children.as_mut_ptr(),
        dictionary: kept.parts.dictionary,
        release: Some(release_array),
        private_data: Box::into_raw(kept).cast(),
    }
}

/// # Safety
///
/// `array` points to one that `array()` made, and that was not released.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: as `release_schema`; the buffers are freed with their parts, after which nobody may read them.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<ArrayParts>()));
        (*array).release = None;
    }
}

/// Columns of one length: what a stream hands out, once.
struct Table {
    fields: Vec<Field>,
    columns: Option<Vec<Column>>,
    len: usize,
}

/// The capsule `arrow_array_stream` of some columns, all as long as the first.
pub(super) fn stream(py: Python<'_>, columns: Vec<Column>) -> PyResult<Bound<'_, PyCapsule>> {
    let len = columns.first().map_or(0, |column| column.len);
    let fields = columns.iter().map(Column::field).collect();
    let table = Box::new(Table { fields, columns: Some(columns), len });
    let stream = ArrowArrayStream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release_stream),
        private_data: Box::into_raw(table).cast(),
    };
    PyCapsule::new_with_value_and_destructor(py, stream, c"arrow_array_stream", |mut stream, _| {
        // Who took the stream has set `release` to null.
        if let Some(release) = stream.release {
            // SAFETY: the stream is ours, and was not released.
            unsafe { release(&raw mut stream) };
        }
    })
}

/// # Safety
///
/// `stream` is one that `stream()` made and that was not released; `out` may be written.
unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: the caller gives a stream of ours, whose `private_data` is its table until it is released.
    let table = unsafe { &*(*stream).private_data.cast::<Table>() };
    let Some(fields) = table.fields.iter().map(|field| field.schema()).collect() else { return INVALID };
    // SAFETY: the caller gives room for a schema; what is there is not read.
    unsafe { out.write(schema(c"+s", CString::default(), 0, fields, None)) };
    0
}

/// # Safety
///
/// As `get_schema`.
unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: as `get_schema`; nobody else may use the stream meanwhile.
    let table = unsafe { &mut *(*stream).private_data.cast::<Table>() };
    let next = match table.columns.take() {
        Some(columns) => array(table.len, 0, vec![None], columns.into_iter().map(Column::array).collect(), None),
        // SAFETY: all members may be zero or null; a null `release` says that there is no more.
        None => unsafe { std::mem::zeroed::<ArrowArray>() },
    };
    // SAFETY: the caller gives room for an array; what is there is not read.
    unsafe { out.write(next) };
    0
}

/// # Safety
///
/// As `get_schema`.
unsafe extern "C" fn get_last_error(_: *mut ArrowArrayStream) -> *const c_char {
    ptr::null()
}

/// # Safety
///
/// `stream` is one that `stream()` made, and that was not released.
unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    // SAFETY: `private_data` is the box that `stream()` made, taken once: `release` is null from here on.
    unsafe {
        drop(Box::from_raw((*stream).private_data.cast::<Table>()));
        (*stream).release = None;
    }
}
