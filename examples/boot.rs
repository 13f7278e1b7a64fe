//! Boots a kernel's text on bare hardware and writes it: `cargo run --example boot -- vmlinuz-6.1.0-… OUT`
//!
//! The ops are those that the image itself holds: what `pv_ops` is linked with is the native backend. From Rust the
//! features of the machine are numbers; this one has none. Kernels of 5.13 to 6.7, whose rules are 6.1's.

use std::error::Error;

use pvops::image::Image;
use pvops::insn::X86_NOPS;
use pvops::patch;
use pvops::plan::paravirt::{NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use pvops::plan::{Boot, Paravirt, Rules, boot};
use pvops::sites::Tables;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(path), Some(out)) = (words.next(), words.next()) else { return Err("usage: boot KERNEL OUT".into()) };
    let image = Image::open(path.as_ref())?;
    let tables = Tables::read(&image)?;
    let table = tables.paravirt.as_ref().ok_or("no .parainstructions")?;
    // In every row the address that the call goes through, less a word for each number of its op, is one: pv_ops.
    let (ops, word) = (table.ops_address(image.bits())?, image.bits().word() as u64);
    let symbols = image.symbols()?.ok_or("no symbols")?;
    let nop = symbols.address_of("_paravirt_nop");
    let last = table.sites.iter().map(|site| site.op_type).max().unwrap_or(0);
    let template = (0..=u64::from(last)).map(|number| {
        let pointer = match image.read_word(ops + word * number) {
            None | Some(0) => Pointer::Null,
            Some(held) if Some(held) == nop => Pointer::Nop,
            Some(held) => Pointer::Function(held),
        };
        Slot { pointer, jump: false, switch: Switch::Default }
    });
    let bug = symbols.address_of("paravirt_BUG").ok_or("no paravirt_BUG")?;
    let rules = TemplateRules {
        bits: image.bits(),
        nops: &X86_NOPS,
        call_clobbers: None,
        null: Null::Call(bug),
        no_room: NoRoom::Bug,
    };
    let machine = Boot {
        features: vec![0; 32],
        nops: &X86_NOPS,
        paravirt: Some(Paravirt { template: template.collect(), rules }),
        ..Boot::default()
    };
    let plan = boot(&image, &tables, &machine, Rules::by_name("6.1")?)?;
    println!("{} writes", plan.writes().len());
    let text = patch::text(&image, &plan)?;
    patch::write_file(out.as_ref(), &mut |out| out.write_all(&text))?;
    println!("{} bytes of .text -> {out}", text.len());
    Ok(())
}
