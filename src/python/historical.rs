//! Parts of `alternative_instructions()` of 2.6.x, over code that is not an image's: what the goldens of 2007 and 2010 run.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::Result;
use crate::image::Bits;
use crate::insn::NopTable;
use crate::plan::alternatives::Patcher;
use crate::plan::smp_locks::Cpus;
use crate::plan::{self as core, LoadedCode};
use crate::python::boot::Boot;
use crate::python::template::bits;
use crate::sites::{self, Alternative};

/// Where `boot_region` lays replacements; no kernel lies there.
const POOL: u64 = 0x1000;

/// What the rows of 2007 do not say.
const NO_ROW: Alternative = Alternative {
    address: 0,
    replacement: 0,
    feature: 0,
    inverted: false,
    direct_call: false,
    len: 0,
    replacement_len: 0,
    pad: 0,
};

fn lock_rules(era: &str) -> Result<core::rules::SmpLocks> {
    Ok(core::Rules::by_name(era)?.smp_locks)
}

/// One turn of `apply_alternatives()` over the bytes of a site.
#[pyfunction]
#[pyo3(signature = (era, bits, nops, address, before, replacement_address, replacement, taken, pad = 0))]
#[allow(clippy::too_many_arguments)] // a row has as many members
pub fn patch_alternative<'py>(
    py: Python<'py>,
    era: &str,
    bits: u32,
    nops: &str,
    address: u64,
    before: &[u8],
    replacement_address: u64,
    replacement: &[u8],
    taken: bool,
    pad: u8,
) -> PyResult<Bound<'py, PyBytes>> {
    let rules = core::Rules::by_name(era)?.alternatives;
    let patcher = Patcher { rules, bits: self::bits(bits)?, nops: NopTable::by_name(nops)? };
    // Lengths beyond a row's byte cannot be asked for in a kernel.
    let (len, replacement_len) = (before.len().min(255) as u8, replacement.len().min(255) as u8);
    let row = Alternative { address, replacement: replacement_address, len, replacement_len, pad, ..NO_ROW };
    let mut site = before.to_vec();
    if taken {
        patcher.taken(&row, replacement, None, &mut site)?;
    } else {
        patcher.untaken(&row, &mut site)?;
    }
    Ok(PyBytes::new(py, &site))
}

/// `alternatives_smp_unlock()`, or with `lock` `alternatives_smp_lock()`, over a region of code.
#[pyfunction]
pub fn patch_locks<'py>(
    py: Python<'py>,
    era: &str,
    address: u64,
    before: &[u8],
    locks: Vec<u64>,
    text: (u64, u64),
    lock: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let rules = lock_rules(era)?;
    let mut memory = LoadedCode::new(Bits::B64, [(address, before)]);
    for site in locks.into_iter().filter(|&site| site != 0) {
        if let Ok(byte) = rules.patch(site, text, &memory, lock) {
            memory.poke(site, &[byte])?;
        }
    }
    Ok(PyBytes::new(py, memory.from(address)))
}

/// (address, length, replacement, feature) of a row.
type Row = (u64, u8, Vec<u8>, u16);

/// (address, type, length, clobbers) of a paravirt site.
type Site = (u64, u8, u8, u16);

/// `alternative_instructions()` of 2.6.x over a region of code that is not an image's.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // what a kernel has in sections
pub fn boot_region<'py>(
    py: Python<'py>,
    era: &str,
    bits: u32,
    address: u64,
    before: &[u8],
    alternatives: Vec<Row>,
    paravirt: Vec<Site>,
    locks: Vec<u64>,
    text: (u64, u64),
    boot: &Boot,
) -> PyResult<Bound<'py, PyBytes>> {
    let bits = self::bits(bits)?;
    // These eras move nothing: replacements may lie anywhere.
    let mut pool = Vec::new();
    let mut rows = Vec::with_capacity(alternatives.len());
    for (address, len, code, feature) in alternatives {
        let replacement = POOL + pool.len() as u64;
        let replacement_len = code.len().min(255) as u8;
        rows.push(Alternative { address, replacement, feature, len, replacement_len, ..NO_ROW });
        pool.extend(code);
    }
    // An empty replacement at the end lies in the pool, too.
    pool.push(0);
    let site = |(address, op_type, len, clobbers)| sites::Site {
        address,
        offset: 0,
        section: 0,
        op_type,
        len,
        clobbers: Some(clobbers),
        branch: None,
        bare: false,
    };
    let tables = sites::Tables {
        paravirt: Some(sites::ParavirtTable {
            layout: sites::paravirt::Layout::of_2007(bits),
            sites: paravirt.into_iter().map(site).collect(),
        }),
        alternatives: Some(sites::AlternativeTable { layout: sites::alternatives::Layout::of_2007(bits), rows }),
        smp_locks: sites::AddressTable { section: ".smp_locks".to_owned(), sites: locks },
        ..sites::Tables::default()
    };
    let landmarks = core::Landmarks { text, ..core::Landmarks::default() };
    let memory = LoadedCode::new(bits, [(address, before), (POOL, &pool[..])]);
    let rules = core::Rules::by_name(era)?;
    let (_, memory) = core::Run::new(memory, &tables, &landmarks, &boot.0, rules, &|_, _| None).all()?;
    Ok(PyBytes::new(py, memory.from(address)))
}

/// (possible, present, online, allowed CPUs, CONFIG_HOTPLUG_CPU, noreplace-smp).
type Processors = (u32, u32, u32, u32, bool, bool);

fn cpus((possible, present, online, allowed, hotplug, noreplace): Processors) -> Cpus {
    Cpus { possible, present, online, allowed, hotplug, noreplace }
}

/// Whether `alternative_instructions()` of 2.6.x patches `lock` prefixes out.
#[pyfunction]
pub fn unlocks_at_boot(era: &str, processors: Processors) -> PyResult<bool> {
    Ok(lock_rules(era)?.at_boot(&cpus(processors))?)
}

/// What `alternatives_smp_switch()` of 2.6.x does: True locks, False unlocks, None is nothing.
#[pyfunction]
pub fn switch_locks(era: &str, processors: Processors, unlocked: bool, smp: bool) -> PyResult<Option<bool>> {
    Ok(lock_rules(era)?.switch(&cpus(processors), unlocked, smp)?)
}
