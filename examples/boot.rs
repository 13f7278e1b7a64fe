//! Boots a kernel's text on bare hardware and writes it: `cargo run --example boot -- vmlinuz-6.1.0-… OUT`
//!
//! The ops are those that the image itself holds: what `pv_ops` is linked with is the native backend. From Rust the
//! features of the machine are numbers; this one has none. Kernels of 5.13 to 6.7, and of 3.15 to 5.12 on x86-64, whose
//! `native_patch()` copies code over calls of ops.

#[allow(dead_code)] // where a slot lies is what `verify` asks
mod declared;

use std::error::Error;
use std::process::ExitCode;

use pvops::image::{Bits, Image};
use pvops::insn::{NopTable, P6_NOPS, X86_NOPS};
use pvops::patch;
use pvops::plan::paravirt::{Inline, NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use pvops::plan::{Boot, Paravirt, Plan, Rules, boot};
use pvops::sites::Tables;

/// The passes' rules by name, and the nops: those of 5.12 and before of a CPU that knows the long ones.
fn rules(image: &Image, tables: &Tables) -> Result<(&'static str, &'static NopTable), Box<dyn Error>> {
    if let (Some(era), Bits::B64) = (declared::rules_before_5_13(image, tables), image.bits()) {
        return Ok((era, &P6_NOPS));
    }
    Ok(match declared::release(image) {
        Some((5, 13 | 14)) => ("5.13", &X86_NOPS),
        Some((5, 15..)) => ("5.15", &X86_NOPS),
        Some((6, ..=4)) => ("6.1", &X86_NOPS),
        Some((6, 5..=7)) => ("6.5", &X86_NOPS),
        _ => return Err(format!("{}: nothing is declared here for it", image.release().unwrap_or("no banner")).into()),
    })
}

/// What the slots hold in the image, and what becomes of their sites.
fn paravirt(image: &Image, tables: &Tables, nops: &'static NopTable) -> Result<Paravirt, Box<dyn Error>> {
    let table = tables.paravirt.as_ref().ok_or("no .parainstructions")?;
    let symbols = image.symbols()?.ok_or("no symbols")?;
    let old = declared::release(image).is_some_and(|release| release < (5, 3));
    let no_room = if old { NoRoom::Keep } else { NoRoom::Bug };
    let ops = declared::ops(image, tables)?;
    if let Some(site) = table.sites.iter().find(|site| !matches!(ops.get(usize::from(site.op_type)), Some(Some(_)))) {
        return Err(format!("{:#x}: no call says where the slot of type {} lies", site.address, site.op_type).into());
    }
    let copies = symbols.address_of("native_patch").is_some();
    let slot = |op: &Option<declared::Op<'_>>| {
        let Some(op) = op else { return Slot { pointer: Pointer::Null, jump: false, switch: Switch::Default } };
        let pointer = match op.held {
            0 => Pointer::Null,
            _ if op.is("_paravirt_nop") => Pointer::Nop,
            _ if copies && op.is("_paravirt_ident_32") => Pointer::Ident32,
            _ if copies && op.is("_paravirt_ident_64") => Pointer::Ident64,
            held => Pointer::Function(held),
        };
        let switch = op.copied.map_or(Switch::Default, |(code, guarded)| {
            let only_while = guarded.then_some(op.held);
            Switch::Inline(Inline { code: code.into(), only_while, no_room, relocation: None })
        });
        Slot { pointer, jump: copies && op.jumps(), switch }
    };
    let null = match symbols.address_of("paravirt_BUG") {
        Some(bug) => Null::Call(bug),
        None => Null::Ud2,
    };
    let call_clobbers = declared::call_clobbers(image);
    let rules = TemplateRules { bits: image.bits(), nops, call_clobbers, null, no_room };
    Ok(Paravirt { template: ops.iter().map(slot).collect(), rules })
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

fn main() -> ExitCode {
    written().map_or_else(
        |error| {
            eprintln!("boot: {error}");
            ExitCode::from(2)
        },
        |()| ExitCode::SUCCESS,
    )
}

fn written() -> Result<(), Box<dyn Error>> {
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
