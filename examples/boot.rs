//! Boots a kernel's text on bare hardware and writes it: `cargo run --example boot -- vmlinuz-6.1.0-… OUT`
//!
//! The ops are those that the image itself holds: what `pv_ops` is linked with is the native backend. From Rust the
//! features of the machine are numbers; this one has none. Kernels of 5.13 to 6.7, and of 4.20 to 5.12 on x86-64, whose
//! `native_patch()` copies what is declared here. (4.19 and older have a structure for each kind of op, and copy other code.)

mod declared;

use std::collections::HashMap;
use std::error::Error;

use declared::COPIED;
use pvops::image::{Bits, Image};
use pvops::insn::{NopTable, P6_NOPS, X86_NOPS};
use pvops::patch;
use pvops::plan::paravirt::{Inline, NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use pvops::plan::{Boot, Paravirt, Plan, Rules, boot};
use pvops::sites::Tables;

/// A kernel's names by address. Several functions may have one: each file that takes the address of an inline function has
/// one of its own.
fn names(image: &Image) -> pvops::Result<HashMap<u64, Vec<&str>>> {
    let mut names: HashMap<u64, Vec<&str>> = HashMap::new();
    if let Some(symbols) = image.symbols()? {
        symbols.iter().for_each(|(address, _, name)| names.entry(address).or_default().push(name));
    }
    Ok(names)
}

/// The passes' rules by name, and the nops: those of 5.12 and before of a CPU that knows the long ones.
fn rules(image: &Image, tables: &Tables) -> Result<(&'static str, &'static NopTable), Box<dyn Error>> {
    let release = image.release().ok_or("a kernel without a banner")?;
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Err(format!("{release}: no number of a release").into());
    };
    let padlen = tables.alternatives.as_ref().is_some_and(|table| table.layout.name.contains("padlen"));
    Ok(match ((major, minor), image.bits()) {
        ((4, 20..) | (5, ..=12), Bits::B64) if padlen => ("5.10.0", &P6_NOPS),
        ((4, 20..) | (5, ..=12), Bits::B64) => ("5.10", &P6_NOPS),
        ((5, 13 | 14), _) => ("5.13", &X86_NOPS),
        ((5, 15..), _) => ("5.15", &X86_NOPS),
        ((6, ..=4), _) => ("6.1", &X86_NOPS),
        ((6, 5..=7), _) => ("6.5", &X86_NOPS),
        _ => return Err(format!("{release}: nothing is declared here for it").into()),
    })
}

/// What the slots hold in the image, and what becomes of their sites.
fn paravirt(image: &Image, tables: &Tables, nops: &'static NopTable) -> Result<Paravirt, Box<dyn Error>> {
    let table = tables.paravirt.as_ref().ok_or("no .parainstructions")?;
    // In every row the address that the call goes through, less a word for each number of its op, is one: pv_ops.
    let (ops, word) = (table.ops_address(image.bits())?, image.bits().word() as u64);
    let symbols = image.symbols()?.ok_or("no symbols")?;
    let (names, copies) = (names(image)?, symbols.address_of("native_patch").is_some());
    let slot = |number| {
        let held = image.read_word(ops + word * number).unwrap_or(0);
        let is = |name: &str| names.get(&held).is_some_and(|names| names.contains(&name));
        let pointer = match held {
            0 => Pointer::Null,
            _ if is("_paravirt_nop") => Pointer::Nop,
            _ if copies && is("_paravirt_ident_32") => Pointer::Ident32,
            _ if copies && is("_paravirt_ident_64") => Pointer::Ident64,
            _ => Pointer::Function(held),
        };
        let copied = COPIED.iter().find(|&&(native, ..)| copies && is(native));
        let switch = copied.map_or(Switch::Default, |&(_, code, guarded)| {
            let only_while = guarded.then_some(held);
            Switch::Inline(Inline { code: code.into(), only_while, no_room: NoRoom::Bug, relocation: None })
        });
        Slot { pointer, jump: copies && (is("native_iret") || is("native_usergs_sysret64")), switch }
    };
    let last = table.sites.iter().map(|site| u64::from(site.op_type)).max().unwrap_or(0);
    let null = match symbols.address_of("paravirt_BUG") {
        Some(bug) => Null::Call(bug),
        None => Null::Ud2,
    };
    let rules = TemplateRules { bits: image.bits(), nops, call_clobbers: None, null, no_room: NoRoom::Bug };
    Ok(Paravirt { template: (0..=last).map(slot).collect(), rules })
}

/// What a kernel writes to its own text on a machine that has none of the features.
///
/// # Errors
///
/// Nothing is declared here for this kernel, or the image or its tables cannot be read.
pub fn planned(image: &Image) -> Result<Plan, Box<dyn Error>> {
    let tables = Tables::read(image)?;
    let (era, nops) = rules(image, &tables)?;
    let paravirt = Some(paravirt(image, &tables, nops)?);
    let machine = Boot { features: vec![0; 32], nops, paravirt, ..Boot::default() };
    Ok(boot(image, &tables, &machine, Rules::by_name(era)?)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(path), Some(out)) = (words.next(), words.next()) else { return Err("usage: boot KERNEL OUT".into()) };
    let image = Image::open(path.as_ref())?;
    let plan = planned(&image)?;
    println!("{} writes", plan.writes().len());
    let text = patch::text(&image, &plan)?;
    patch::write_file(out.as_ref(), &mut |out| out.write_all(&text))?;
    println!("{} bytes of .text -> {out}", text.len());
    Ok(())
}
