//! `pvops._core.Plan`, and what it is made from: slots and rules.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{Error, Result};
use crate::image::{self, Bits};
use crate::insn::{MAX_PATCH_LEN, NopTable};
use crate::patch;
use crate::plan as core;
use crate::plan::paravirt::{self, Inline, NoRoom, Null, Pointer, RomAnswer, Switch};
use crate::plan::{Decision, Reason};
use crate::python::boot::{Boot, Tables, rules};

/// One slot of the template: what it holds, and what the patch function does with its type.
#[pyclass(frozen, module = "pvops._core")]
pub struct Slot(paravirt::Slot);

fn no_room(name: &str) -> Result<NoRoom> {
    match name {
        "keep" => Ok(NoRoom::Keep),
        "default" => Ok(NoRoom::Default),
        "bug" => Ok(NoRoom::Bug),
        _ => Err(Error::ops(format!("no_room is \"keep\", \"default\" or \"bug\", not {name:?}"))),
    }
}

pub(super) fn bits(bits: u32) -> Result<Bits> {
    match bits {
        32 => Ok(Bits::B32),
        64 => Ok(Bits::B64),
        _ => Err(Error::ops(format!("{bits} bits; x86 kernels have 32 or 64"))),
    }
}

impl Slot {
    pub(super) fn core(&self) -> paravirt::Slot {
        self.0.clone()
    }

    fn with(&self, switch: Switch) -> Slot {
        Slot(paravirt::Slot { switch, ..self.0.clone() })
    }
}

#[pymethods]
impl Slot {
    /// `pointer` is `null`, `nop`, `ident32`, `ident64`, or `function` with its address.
    #[new]
    #[pyo3(signature = (pointer, address = 0, *, jump = false))]
    fn new(pointer: &str, address: u64, jump: bool) -> PyResult<Slot> {
        let pointer = match pointer {
            "null" => Pointer::Null,
            "nop" => Pointer::Nop,
            "ident32" => Pointer::Ident32,
            "ident64" => Pointer::Ident64,
            "function" => Pointer::Function(address),
            _ => return Err(Error::ops(format!("a slot cannot hold {pointer:?}")).into()),
        };
        Ok(Slot(paravirt::Slot { pointer, jump, switch: Switch::Default }))
    }

    /// The same slot, whose type the patch function inlines.
    #[pyo3(signature = (code, *, only_while = None, no_room = "keep", relocation = None))]
    fn inlined(
        &self,
        code: &[u8],
        only_while: Option<u64>,
        no_room: &str,
        relocation: Option<(usize, u64)>,
    ) -> PyResult<Slot> {
        if code.len() > MAX_PATCH_LEN {
            return Err(Error::ops(format!(
                "{} bytes of inline code; the insn buffer holds {MAX_PATCH_LEN}",
                code.len()
            ))
            .into());
        }
        let no_room = self::no_room(no_room)?;
        Ok(self.with(Switch::Inline(Inline { code: code.into(), only_while, no_room, relocation })))
    }

    /// The same slot, whose type VMI's ROM answers for: `none`, `call_rel`, `jump_rel`, `nop`, or another number.
    #[pyo3(signature = (answer, address = 0))]
    fn asked(&self, answer: &str, address: u64) -> PyResult<Slot> {
        let answer = match answer {
            "none" => RomAnswer::None,
            "call_rel" => RomAnswer::CallRel(address),
            "jump_rel" => RomAnswer::JumpRel(address),
            "nop" => RomAnswer::Nop,
            other => match other.parse() {
                Ok(kind) => RomAnswer::Unknown(kind),
                Err(_) => return Err(Error::ops(format!("VMI's ROM cannot answer {other:?}")).into()),
            },
        };
        Ok(self.with(Switch::Rom(answer)))
    }

    /// The same slot, whose type the patch function leaves alone.
    fn ignored(&self) -> Slot {
        self.with(Switch::Ignore)
    }
}

/// The rules of an era for one kernel.
#[pyclass(frozen, module = "pvops._core")]
pub struct Rules(paravirt::Rules);

#[pymethods]
impl Rules {
    /// `call_clobbers` None: not checked; `null_call` None: NULL becomes ud2; `no_room` is `keep` or `bug`.
    #[new]
    #[pyo3(signature = (bits, nops, *, call_clobbers = None, null_call = None, no_room = "bug"))]
    fn new(
        bits: u32,
        nops: &str,
        call_clobbers: Option<u16>,
        null_call: Option<u64>,
        no_room: &str,
    ) -> PyResult<Rules> {
        let bits = self::bits(bits)?;
        Ok(Rules(paravirt::Rules {
            bits,
            nops: NopTable::by_name(nops)?,
            call_clobbers,
            null: null_call.map_or(Null::Ud2, Null::Call),
            no_room: self::no_room(no_room)?,
        }))
    }
}

impl Rules {
    pub(super) fn core(&self) -> paravirt::Rules {
        self.0
    }
}

/// (bytes after, bytes used, kind, reason) of a patched site.
type Patched<'py> = (Bound<'py, PyBytes>, usize, &'static str, String);

/// One turn of `apply_paravirt()` over the bytes of a site; with `fill` false its patch function alone, which leaves
/// what it does not use as it was.
#[pyfunction]
#[pyo3(signature = (slot, rules, clobbers, address, before, fill = true))]
pub fn patch_site<'py>(
    py: Python<'py>,
    slot: &Slot,
    rules: &Rules,
    clobbers: u16,
    address: u64,
    before: &[u8],
    fill: bool,
) -> PyResult<Patched<'py>> {
    let mut buffer = before.to_vec();
    let patch = if fill { paravirt::patch_site } else { paravirt::patch_function };
    let decision = patch(&slot.0, &rules.0, clobbers, address, &mut buffer)?;
    Ok((PyBytes::new(py, &buffer), decision.used.into(), decision.kind.name(), decision.reason.to_string()))
}

/// `add_nops()`: that many bytes of nops of a table.
#[pyfunction]
pub fn fill_nops<'py>(py: Python<'py>, table: &str, len: u16) -> PyResult<Bound<'py, PyBytes>> {
    let mut buffer = vec![0; usize::from(len)];
    NopTable::by_name(table)?.fill(&mut buffer);
    Ok(PyBytes::new(py, &buffer))
}

/// Writes a file that appears whole or not at all.
#[pyfunction]
pub fn write_file(py: Python<'_>, path: PathBuf, data: &[u8]) -> PyResult<()> {
    Ok(py.detach(|| patch::write_file(&path, data))?)
}

/// The ordered writes of a boot.
#[pyclass(frozen, module = "pvops._core")]
pub struct Plan {
    image: Arc<image::Image>,
    plan: core::Plan,
}

/// (address, pass, row, bytes, kind, reason, bytes used, feature) of a write; the feature that decided, if one did:
/// (number, asked for its absence, present).
type Write<'py> = (u64, &'static str, u32, Bound<'py, PyBytes>, &'static str, String, u16, Option<(u16, bool, bool)>);

#[pymethods]
impl Plan {
    /// All passes of a boot, by the rules of an era.
    #[staticmethod]
    fn boot(py: Python<'_>, tables: &Tables, boot: &Boot, era: &str) -> PyResult<Plan> {
        let rules = rules(era)?;
        let plan = py.detach(|| core::boot(&tables.image, &tables.tables, &boot.0, rules))?;
        Ok(Plan { image: tables.image.clone(), plan })
    }

    fn __len__(&self) -> usize {
        self.plan.writes().len()
    }

    /// (address, length, table, row, forms) of the bytes that are a first guess; a form is in hex, `??` where a byte may
    /// be any.
    fn undetermined(&self) -> Vec<(u64, u8, &'static str, u32, Vec<String>)> {
        let site = |u: &core::Undetermined| (u.address, u.len, u.pass.name(), u.row, self.plan.patterns(u));
        self.plan.undetermined().iter().map(site).collect()
    }

    /// (pass, how many writes change something), in the order of their first.
    fn by_pass(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for write in self.plan.writes().iter().filter(|w| !self.plan.bytes(w).is_empty()) {
            let name = write.pass.name();
            match counts.iter_mut().find(|(pass, _)| *pass == name) {
                Some((_, n)) => *n += 1,
                None => counts.push((name, 1)),
            }
        }
        counts
    }

    /// Every write, in order; with an address, only those that touch it.
    #[pyo3(signature = (address = None))]
    fn writes<'py>(&self, py: Python<'py>, address: Option<u64>) -> Vec<Write<'py>> {
        let asked = |w: &&core::Write| {
            // A row that changed nothing has no bytes: it is at its address.
            address.is_none_or(|a| a >= w.address && a - w.address < self.plan.bytes(w).len().max(1) as u64)
        };
        let write = |w: &core::Write| {
            let Decision { kind, reason, used } = w.decision;
            let bytes = PyBytes::new(py, self.plan.bytes(w));
            let feature = match reason {
                Reason::Feature { number, inverted, present } => Some((number, inverted, present)),
                _ => None,
            };
            (w.address, w.pass.name(), w.row, bytes, kind.name(), reason.to_string(), used, feature)
        };
        self.plan.writes().iter().filter(asked).map(write).collect()
    }

    /// (kind, how many writes), most first.
    fn by_kind(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for write in self.plan.writes() {
            let name = write.decision.kind.name();
            match counts.iter_mut().find(|(kind, _)| *kind == name) {
                Some((_, n)) => *n += 1,
                None => counts.push((name, 1)),
            }
        }
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts
    }

    /// `.text` after the writes.
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        // Patched in place: 15 MB need not be there twice.
        PyBytes::new_with(py, patch::text_len(&self.image)?, |out| Ok(patch::text_into(&self.image, &self.plan, out)?))
    }

    /// Writes the image after the writes to a file: as `elf`, or `.text` alone as `text`.
    fn save(&self, py: Python<'_>, path: PathBuf, format: &str) -> PyResult<()> {
        Ok(py.detach(|| patch::write_file(&path, &self.patched(format)?))?)
    }

    /// What `save` would write.
    fn patched_bytes<'py>(&self, py: Python<'py>, format: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.patched(format))?;
        Ok(PyBytes::new(py, &bytes))
    }
}

impl Plan {
    fn patched(&self, format: &str) -> Result<Vec<u8>> {
        match format {
            "elf" => patch::image(&self.image, &self.plan),
            "text" => patch::text(&self.image, &self.plan),
            _ => Err(Error::ops(format!("format is \"elf\" or \"text\", not {format:?}"))),
        }
    }
}
