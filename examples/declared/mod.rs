//! By whose rules a kernel of 2.6.24 to 7.3 patches; what is asked of its ops; and up to 5.12 what the patch function copies
//! over calls of them: that is declared for 4.20 to 5.12, whose image does not tell, and read from the image of older ones.

use std::collections::{BTreeMap, HashMap};

use pvops::Result;
use pvops::error::Error;
use pvops::image::{Bits, Image};
use pvops::sites::Tables;

/// What `native_patch()` copies (4.20 to 5.12 arch/x86/kernel/paravirt_patch.c, before 5.3 paravirt_patch_64.c and _32.c), by
/// the function that the op has on bare hardware: on x86-64, and on i386; of locks only while it has that.
const COPIED: [(&str, [&[u8]; 2], bool); 13] = [
    ("native_wbinvd", [b"\x0f\x09", b""], false),
    ("native_save_fl", [b"\x9c\x58"; 2], false),
    ("native_restore_fl", [b"\x57\x9d", b"\x50\x9d"], false), // gone in 5.12
    ("native_irq_disable", [b"\xfa"; 2], false),
    ("native_irq_enable", [b"\xfb"; 2], false),
    ("native_read_cr2", [b"\x0f\x20\xd0"; 2], false),
    ("__native_read_cr3", [b"\x0f\x20\xd8"; 2], false),
    ("native_write_cr3", [b"\x0f\x22\xdf", b"\x0f\x22\xd8"], false),
    ("native_usergs_sysret64", [b"\x0f\x01\xf8\x48\x0f\x07", b""], false), // gone in stable kernels of 5.10
    ("native_swapgs", [b"\x0f\x01\xf8", b""], false),
    ("native_iret", [b"", b"\xcf"], false), // x86-64 jumps there
    ("__raw_callee_save___native_queued_spin_unlock", [b"\xc6\x07\x00", b"\xc6\x00\x00"], true),
    ("__raw_callee_save___native_vcpu_is_preempted", [b"\x31\xc0"; 2], true),
];
/// The functions whose ops are jumped to (`paravirt_patch_default()`, to 5.12).
const JUMPED: [&str; 6] = [
    "native_iret",
    "native_irq_enable_sysexit",
    "native_irq_enable_syscall_ret",
    "native_usergs_sysret",
    "native_usergs_sysret32",
    "native_usergs_sysret64",
];

/// An op that has sites, or since 4.20 any.
pub struct Op<'a> {
    /// Where its slot lies.
    pub place: u64,
    /// What the slot holds in the image: the function of bare hardware.
    pub held: u64,
    /// What `native_patch()` copies over its calls, and whether only while the slot holds that function.
    pub copied: Option<(&'a [u8], bool)>,
    names: Vec<&'a str>,
}

impl Op<'_> {
    /// Whether its function has this name. Several may have one address: an inline function that several files take the
    /// address of has one in each.
    pub fn is(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// Whether `paravirt_patch_default()` makes its sites jumps.
    pub fn jumps(&self) -> bool {
        JUMPED.iter().any(|function| self.is(function))
    }
}

/// The ops of a kernel by number, as far as the image tells where their slots lie. Since 4.20 these lie behind `pv_ops`, one
/// after the other; before, each kind of op has a structure of its own, and the calls of an op say where its slot is.
///
/// # Errors
///
/// The calls of ops disagree, or the symbols cannot be read.
pub fn ops<'a>(image: &'a Image, tables: &Tables) -> Result<Vec<Option<Op<'a>>>> {
    let (Some(table), Some(symbols)) = (&tables.paravirt, image.symbols()?) else { return Ok(Vec::new()) };
    let mut names: HashMap<u64, Vec<&str>> = HashMap::new();
    symbols.iter().for_each(|(address, _, name)| names.entry(address).or_default().push(name));
    let apart = apart(image);
    let copies = symbols.address_of("native_patch").is_some();
    let labelled = if copies && apart { labelled(image, &names)? } else { HashMap::new() };
    if copies && apart && labelled.is_empty() {
        return Err(Error::ops("native_patch() is there, and no label of what it copies"));
    }
    let branches = table.sites.iter().filter_map(|site| Some((site.op_type, site.branch?.pointer)));
    let places: BTreeMap<u8, u64> = if apart {
        branches.collect()
    } else {
        let (first, word) = (table.ops_address(image.bits())?, image.bits().word() as u64);
        let last = table.sites.iter().map(|site| site.op_type).max().unwrap_or(0);
        (0..=last).map(|number| (number, first + word * u64::from(number))).collect()
    };
    let op = |&place: &u64| {
        let held = image.read_word(place).unwrap_or(0);
        let names = names.get(&held).cloned().unwrap_or_default();
        let copied = if apart {
            names.iter().find_map(|name| labelled.get(*name).copied())
        } else {
            let narrow = usize::from(image.bits() == Bits::B32);
            let named = COPIED.iter().filter(|(native, ..)| copies && names.contains(native));
            named.map(|&(_, code, guarded)| (code[narrow], guarded)).find(|(code, _)| !code.is_empty())
        };
        Op { place, held, copied, names }
    };
    let last = places.last_key_value().map_or(0, |(&last, _)| last);
    Ok((0..=last).map(|number| places.get(&number).map(op)).collect())
}

/// What `native_patch()` of a kernel before 4.20 copies: `DEF_NATIVE()` (arch/x86/kernel/paravirt_patch_64.c) puts the code of
/// an op between two labels, `start_pv_irq_ops_irq_disable` and `end_pv_irq_ops_irq_disable`. By the names that the op's
/// function may have on bare hardware.
fn labelled<'a>(image: &'a Image, names: &HashMap<u64, Vec<&str>>) -> Result<HashMap<String, (&'a [u8], bool)>> {
    let mut found = HashMap::new();
    let Some(symbols) = image.symbols()? else { return Ok(found) };
    for (&start, name) in names.iter().flat_map(|(start, names)| names.iter().map(move |name| (start, name))) {
        let Some((structure, op)) = name.strip_prefix("start_pv_").and_then(|rest| rest.split_once("_ops_")) else {
            continue;
        };
        let end = symbols.address_of(&format!("end_pv_{structure}_ops_{op}"));
        let len = end.and_then(|end| usize::try_from(end.checked_sub(start)?).ok());
        if let Some(code) = len.and_then(|len| image.read(start, len)) {
            let function = |before: &str| (format!("{before}{op}"), (code, structure == "lock"));
            found.extend(["native_", "__native_", "__raw_callee_save___native_"].map(function));
        }
    }
    Ok(found)
}

/// Whether each kind of op has a structure of its own: to 4.19 (5c83511bdb98).
pub fn apart(image: &Image) -> bool {
    version(image).is_some_and(|version| version < [4, 20, 0])
}

/// The registers that a call changes, `CLBR_ANY` (arch/x86/include/asm/paravirt_types.h), where a kernel makes none that a
/// site does not let go of all of them: to 4.18, but for those that took over 5800dc5c19f3, whose warning is in the image.
pub fn call_clobbers(image: &Image) -> Option<u16> {
    let version = version(image)?;
    let all = match image.bits() {
        _ if version < [2, 6, 30] => 7,
        Bits::B32 => 0xf,
        Bits::B64 => 0x1ff,
    };
    (version < [4, 19, 0] && !constant(image, b"Failing to patch indirect CALL")).then_some(all)
}

/// A release as three numbers.
pub fn version(image: &Image) -> Option<[u32; 3]> {
    let mut parts = image.release()?.split(['.', '-', '+']);
    let mut number = || parts.next()?.parse().ok();
    Some([number()?, number()?, number().unwrap_or(0)])
}

/// Whether these bytes stand among the constants.
fn constant(image: &Image, bytes: &[u8]) -> bool {
    let has = |data: &[u8]| data.windows(bytes.len()).any(|window| window == bytes);
    image.section(".rodata").is_some_and(|section| has(image.section_bytes(section)))
}

/// Whether something has this name.
pub fn named(image: &Image, name: &str) -> Result<bool> {
    Ok(image.symbols()?.is_some_and(|symbols| symbols.address_of(name).is_some()))
}

/// By whose rules the passes of a kernel go, by name; none of a kernel before 2.6.24 or after 7.3. The release tells, and where
/// stable kernels differ, what the image has.
///
/// # Errors
///
/// The symbols cannot be read.
pub fn rules(image: &Image, tables: &Tables) -> Result<Option<&'static str>> {
    let Some(version) = version(image) else { return Ok(None) };
    let rows = |word: &str| tables.alternatives.as_ref().is_some_and(|table| table.layout.name.contains(word));
    let named = |name: &str| named(image, name);
    // Functions that return 0 are not called, but it is not `xor %eax,%eax` yet (1cd5f059d956).
    let data16 = || constant(image, b"\x66\x66\x48\x31\xc0");
    Ok(Some(match version {
        [2, 6, ..=23] => return Ok(None),
        [2, 6, ..=31] => "2.6.24",
        [2, 6, 32 | 33] if !named("native_steal_clock")? => "2.6.33", // Red Hat's 6 has it, and newer rules
        [2, 6, 32..=36] if !named("arch_init_ideal_nop5")? => "2.6.34",
        [2, 6, _] => "2.6.37",
        [5, 12, _] if data16() => "5.12",
        [3, ..] | [4, ..] | [5, ..=12, _] if rows("padlen") => "5.10.0",
        [3, ..] | [4, 0, _] => "3.0",
        [4, ..] | [5, ..=12, _] => "5.10",
        [5, ..] | [6, ..=4, _] if named("apply_relocation")? => "6.5",
        [5, ..] if !constant(image, b"\xc3\xcc\xcc\xcc\xcc") => "5.13",
        [5, ..] if data16() => "5.17",
        [5, ..] => "5.15",
        [6, 5..=7, _] if rows("flags") => "6.5",
        [6, ..=7, _] => "6.1",
        [6, 8 | 9, _] => "6.8",
        [6, 10..=14, _] => "6.12",
        [6, 15..=17, _] => "6.15",
        [6, 18, _] => "6.18",
        [6, ..] => "6.19",
        [7, ..=3, _] if image.section(".smp_locks").is_none() => "7.3",
        [7, ..=3, _] => "7.2",
        _ => return Ok(None),
    }))
}
