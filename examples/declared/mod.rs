//! What is asked of a kernel's ops, and of kernels of 3.15 to 5.12 what the patch function copies over calls of them: that is
//! declared for 4.20 to 5.12, whose image does not tell, and read from the image of older ones.

use std::collections::{BTreeMap, HashMap};

use pvops::Result;
use pvops::image::Image;
use pvops::sites::Tables;

/// What `native_patch()` copies (4.20 to 5.12 arch/x86/kernel/paravirt_patch.c, before 5.3 paravirt_patch_64.c; x86-64), by
/// the function that the op has on bare hardware; of locks only while it has that.
pub const COPIED: [(&str, &[u8], bool); 12] = [
    ("native_wbinvd", b"\x0f\x09", false),
    ("native_save_fl", b"\x9c\x58", false),
    ("native_restore_fl", b"\x57\x9d", false),
    ("native_irq_disable", b"\xfa", false),
    ("native_irq_enable", b"\xfb", false),
    ("native_read_cr2", b"\x0f\x20\xd0", false),
    ("__native_read_cr3", b"\x0f\x20\xd8", false),
    ("native_write_cr3", b"\x0f\x22\xdf", false),
    ("native_usergs_sysret64", b"\x0f\x01\xf8\x48\x0f\x07", false), // gone in stable kernels of 5.10
    ("native_swapgs", b"\x0f\x01\xf8", false),
    ("__raw_callee_save___native_queued_spin_unlock", b"\xc6\x07\x00", true),
    ("__raw_callee_save___native_vcpu_is_preempted", b"\x31\xc0", true),
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
        self.is("native_iret") || self.is("native_usergs_sysret64")
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
            let of = |&&(native, ..): &&(&str, &[u8], bool)| copies && names.contains(&native);
            COPIED.iter().find(of).map(|&(_, code, guarded)| (code, guarded))
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
    release(image).is_some_and(|release| release < (4, 20))
}

/// `CLBR_ANY` of x86-64 (arch/x86/include/asm/paravirt_types.h): nine registers.
const CLBR_ANY: u16 = 0x1ff;

/// The registers that a call changes, where a kernel makes none that a site does not let go of all of them: to 4.18, but for
/// those that took over 5800dc5c19f3, whose warning is in the image.
pub fn call_clobbers(image: &Image) -> Option<u16> {
    let warning = b"Failing to patch indirect CALL";
    let checked = release(image).is_some_and(|release| release < (4, 19));
    let warns = |bytes: &[u8]| bytes.windows(warning.len()).any(|window| window == warning);
    (checked && !image.section(".rodata").is_some_and(|section| warns(image.section_bytes(section))))
        .then_some(CLBR_ANY)
}

/// A release as two numbers.
pub fn release(image: &Image) -> Option<(u32, u32)> {
    let mut numbers = image.release()?.split(['.', '-']).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The rules of the passes of a kernel of 3.15 to 5.12, by name; none of another.
pub fn rules_before_5_13(image: &Image, tables: &Tables) -> Option<&'static str> {
    let padlen = tables.alternatives.as_ref().is_some_and(|table| table.layout.name.contains("padlen"));
    match release(image)? {
        (3, 15..) | (4, 0) => Some("3.0"),
        (4, 1..) | (5, ..=12) => Some(if padlen { "5.10.0" } else { "5.10" }),
        _ => None,
    }
}
