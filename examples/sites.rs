//! Opens a kernel and says what its tables of sites hold: `cargo run --example sites -- /boot/vmlinuz-…`
//!
//! Nothing of the image is executed; a broken one is an error that names file, section and row.

use std::error::Error;

use pvops::image::Image;
use pvops::insn::disassemble;
use pvops::sites::Tables;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: sites KERNEL")?;
    let image = Image::open(path.as_ref())?;
    println!("{}", image.release().unwrap_or("a kernel without a banner"));
    let tables = Tables::read(&image)?;
    let Some(paravirt) = &tables.paravirt else {
        println!("no .parainstructions: built without CONFIG_PARAVIRT, or 6.8 and later");
        println!("{} rows of .altinstructions", tables.alternatives.map_or(0, |table| table.rows.len()));
        return Ok(());
    };
    println!("{} calls of ops; the first ones:", paravirt.sites.len());
    for site in paravirt.sites.iter().take(8) {
        let Some(code) = image.read(site.address, usize::from(site.len)) else { continue };
        let lines = disassemble(image.bits(), site.address, code, &|_| None);
        let text: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        println!("{:016x}  type {:3}  {}", site.address, site.op_type, text.join("; "));
    }
    Ok(())
}
