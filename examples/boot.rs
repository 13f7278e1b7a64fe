//! Boots a kernel's text on bare hardware and writes it: `cargo run --example boot -- vmlinuz-6.1.0-… OUT`
//!
//! The ops are those that the image itself holds: what they are linked with is the native backend. From Rust the features of
//! the machine are numbers; this one has none but the one that all have. Kernels of 2.6.24 to 7.3, 32 and 64 bits, with
//! symbols where they have ops: those tell which functions the patch function knows. Before 2.6.24 the numbers of ops are
//! written down by hand, which is declared in Python alone (`pvops.eras`).

#[allow(dead_code)] // where a slot lies is what `verify` asks
mod declared;

use std::error::Error;
use std::process::ExitCode;

use pvops::image::{Bits, Image};
use pvops::insn::{NopTable, P6_NOPS, X86_11_NOPS, X86_32_NOPS, X86_NOPS};
use pvops::patch;
use pvops::plan::paravirt::{Inline, NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use pvops::plan::{Boot, Paravirt, Plan, Rules, boot};
use pvops::sites::{Tables, nops};

/// `X86_FEATURE_ALWAYS` (`asm/cpufeatures.h`): word · 32 + bit. Direct calls of ops since 6.8 depend on it.
const ALWAYS: usize = 3 * 32 + 21;

/// The nops: the image's own, and where the CPU chooses between several those of one that knows the long ones. An image that
/// has none is given those of its release.
fn filler(image: &Image) -> &'static NopTable {
    let tables = nops::tables(image);
    let usual = tables.iter().find(|table| table.name == "p6").or(tables.first());
    usual.copied().unwrap_or_else(|| match (declared::version(image), image.bits()) {
        (Some(version), _) if version < [5, 13, 0] => &P6_NOPS,
        (_, Bits::B32) => &X86_32_NOPS,
        (Some(version), _) if version < [6, 5, 0] => &X86_NOPS,
        _ => &X86_11_NOPS,
    })
}

/// What the slots hold in the image, and what becomes of their sites.
fn paravirt(image: &Image, tables: &Tables, nops: &'static NopTable) -> Result<Option<Paravirt>, Box<dyn Error>> {
    let Some(table) = &tables.paravirt else { return Ok(None) };
    let symbols = image.symbols()?.ok_or("no symbols, and nothing else tells the functions that ops hold")?;
    let old = declared::version(image).is_some_and(|version| version < [5, 3, 0]);
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
    Ok(Some(Paravirt { template: ops.iter().map(slot).collect(), rules }))
}

/// What a kernel writes to its own text on a machine that has none of the features that others lack.
///
/// # Errors
///
/// Nothing is declared here for this kernel, or the image or its tables cannot be read.
pub fn planned(image: &Image) -> Result<Plan, Box<dyn Error>> {
    let tables = Tables::read(image)?;
    let Some(rules) = declared::rules(image, &tables)? else {
        return Err(format!("{}: nothing is declared here for it", image.release().unwrap_or("no banner")).into());
    };
    let nops = filler(image);
    let mut features = vec![0; 32];
    features[ALWAYS / 32] |= 1 << (ALWAYS % 32);
    let machine = Boot { features, nops, paravirt: paravirt(image, &tables, nops)?, ..Boot::default() };
    Ok(boot(image, &tables, &machine, Rules::by_name(rules)?)?)
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
