//! All tables of an image together.

use super::alternatives::AlternativeTable;
use super::code::Code;
use super::jump_labels::JumpLabel;
use super::paravirt::ParavirtTable;
use super::preambles::Preambles;
use super::relative::{self, AddressTable};
use super::runtime_const::ConstantTable;
use super::sorted::SortedTable;
use super::static_calls::{StaticCall, Trampoline};
use super::{jump_labels, mcount, runtime_const, smp_locks, static_calls};
use crate::error::{Error, Result};
use crate::image::Image;

/// What an image lists of its own code. A table it has not is empty.
#[derive(Debug, Default)]
pub struct Tables {
    /// `.parainstructions`.
    pub paravirt: Option<ParavirtTable>,
    /// `.altinstructions`.
    pub alternatives: Option<AlternativeTable>,
    /// `.retpoline_sites`.
    pub retpolines: AddressTable,
    /// `.return_sites`.
    pub returns: AddressTable,
    /// `.call_sites`.
    pub call_sites: AddressTable,
    /// `.ibt_endbr_seal`.
    pub ibt: AddressTable,
    /// `.cfi_sites`.
    pub cfi: AddressTable,
    /// How far before functions those are.
    pub preambles: Preambles,
    /// `.smp_locks`.
    pub smp_locks: AddressTable,
    /// `__mcount_loc`.
    pub mcount: Vec<u64>,
    /// `__jump_table`.
    pub jump_labels: Vec<JumpLabel>,
    /// `.static_call_sites`.
    pub static_calls: Vec<StaticCall>,
    /// `__SCT__*`.
    pub trampolines: Vec<Trampoline>,
    /// `runtime_*`, one for each constant.
    pub constants: Vec<ConstantTable>,
}

impl Tables {
    /// Reads every table. The first malformed row of any is the error; so is a kernel without section headers.
    pub fn read(image: &Image) -> Result<Tables> {
        if image.sections().is_empty() {
            let reason = "has no section headers, which say where its tables are: give the vmlinux as it was built";
            return Err(Error::image(reason).in_section("ELF header").in_file(image.name()));
        }
        let code = Code::of(image);
        let static_calls = static_calls::read(&code)?;
        let retpolines = relative::read(&code, relative::RETPOLINES)?;
        let cfi = relative::read(&code, relative::CFI)?;
        let preambles = Preambles::read(&code, &cfi, &retpolines)
            .map_err(|error| error.in_section(relative::RETPOLINES.section).in_file(image.name()))?;
        Ok(Tables {
            paravirt: ParavirtTable::read(image)?,
            alternatives: AlternativeTable::read_in(&code)?,
            retpolines,
            returns: relative::read(&code, relative::RETURNS)?,
            call_sites: relative::read(&code, relative::CALL_SITES)?,
            ibt: relative::read(&code, relative::IBT)?,
            cfi,
            preambles,
            smp_locks: smp_locks::read(&code)?,
            mcount: mcount::read(&code)?,
            jump_labels: jump_labels::read(&code)?,
            trampolines: static_calls::trampolines(&code, &static_calls)?,
            static_calls,
            constants: runtime_const::read(&code)?,
        })
    }
}

/// The tables of an image that the kernel sorts at boot.
///
/// # Errors
/// A table that is malformed.
pub fn sorted(image: &Image) -> Result<Vec<SortedTable>> {
    let code = Code::of(image);
    Ok([jump_labels::sorted(&code)?, static_calls::sorted(&code)?].into_iter().flatten().collect())
}
