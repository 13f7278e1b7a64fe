//! The configuration a kernel carries with `CONFIG_IKCONFIG` (`kernel/configs.c`): gzip between two marks.

use std::io::Read;

use memchr::memmem;

use crate::error::{Error, Result};

const START: &[u8] = b"IKCFG_ST";
const END: &[u8] = b"IKCFG_ED";

/// More than any configuration: they have about 250 KB.
const MAX_CONFIG: u64 = 16 << 20;

/// Finds and unpacks it in these bytes; `None` if there is none.
pub(super) fn find(bytes: &[u8]) -> Result<Option<String>> {
    // The mark alone is not enough: `scripts/extract-ikconfig` looks for it with the gzip magic too.
    let Some(start) = memmem::find(bytes, &[START, &[0x1f, 0x8b, 8]].concat()) else { return Ok(None) };
    let data = start.saturating_add(START.len());
    let refuse = |reason: String| Error::image(reason).in_section("IKCONFIG");
    let packed = bytes.get(data..).unwrap_or_default();
    let Some(end) = memmem::find(packed, END) else { return Err(refuse("mark IKCFG_ED is missing".to_owned())) };
    let mut config = String::new();
    flate2::bufread::GzDecoder::new(packed.get(..end).unwrap_or_default())
        .take(MAX_CONFIG)
        .read_to_string(&mut config)
        .map_err(|error| refuse(format!("cannot be unpacked: {error}")))?;
    if config.len() as u64 == MAX_CONFIG {
        return Err(refuse(format!("is larger than {MAX_CONFIG} bytes")));
    }
    Ok(Some(config))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(config: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(config).unwrap();
        [b"xxxx".as_slice(), START, &encoder.finish().unwrap(), END, b"yyyy"].concat()
    }

    #[test]
    fn a_configuration_comes_out_as_it_went_in() {
        assert_eq!(find(&packed(b"CONFIG_PARAVIRT=y\n")).unwrap().as_deref(), Some("CONFIG_PARAVIRT=y\n"));
        assert_eq!(find(b"IKCFG_ST but not really").unwrap(), None);
    }

    #[test]
    fn a_damaged_configuration_is_an_error() {
        let mut bytes = packed(b"CONFIG_PARAVIRT=y\n");
        bytes[30] ^= 0xff;
        assert!(find(&bytes).unwrap_err().to_string().starts_with("IKCONFIG: "));
        let cut = packed(b"CONFIG_PARAVIRT=y\n");
        assert!(find(&cut[..cut.len() - 6]).unwrap_err().to_string().contains("IKCFG_ED"));
    }

    #[test]
    fn a_bomb_ends_in_an_error() {
        let bomb = packed(&vec![b'#'; MAX_CONFIG as usize + 1]);
        assert!(find(&bomb).unwrap_err().to_string().contains("larger than"));
    }
}
