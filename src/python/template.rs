//! `pvops._core.Slot` and `pvops._core.TemplateRules`: what a template is made from.

use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::image::Bits;
use crate::insn::{MAX_PATCH_LEN, NopTable};
use crate::plan::template::{self, Inline, NoRoom, Null, Pointer, RomAnswer, Switch};

/// One slot of the template: what it holds, and what the patch function does with its type.
#[pyclass(frozen, module = "pvops._core")]
pub struct Slot(template::Slot);

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
    pub(super) fn core(&self) -> template::Slot {
        self.0.clone()
    }

    fn with(&self, switch: Switch) -> Slot {
        Slot(template::Slot { switch, ..self.0.clone() })
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
        Ok(Slot(template::Slot { pointer, jump, switch: Switch::Default }))
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
pub struct TemplateRules(template::TemplateRules);

#[pymethods]
impl TemplateRules {
    /// `call_clobbers` None: not checked; `null_call` None: NULL becomes ud2; `no_room` is `keep` or `bug`.
    #[new]
    #[pyo3(signature = (bits, nops, *, call_clobbers = None, null_call = None, no_room = "bug"))]
    fn new(
        bits: u32,
        nops: &str,
        call_clobbers: Option<u16>,
        null_call: Option<u64>,
        no_room: &str,
    ) -> PyResult<TemplateRules> {
        let bits = self::bits(bits)?;
        Ok(TemplateRules(template::TemplateRules {
            bits,
            nops: NopTable::by_name(nops)?,
            call_clobbers,
            null: null_call.map_or(Null::Ud2, Null::Call),
            no_room: self::no_room(no_room)?,
        }))
    }
}

impl TemplateRules {
    pub(super) fn core(&self) -> template::TemplateRules {
        self.0
    }
}
