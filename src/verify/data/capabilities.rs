//! Where the kernel keeps which features its CPU has.

use crate::error::Result;
use crate::image::Image;
use crate::image::btf::Member;
use crate::memory::Words;
use crate::numbers::u32_at;
use crate::verify::Report;
use crate::verify::infer::Unknown;

/// Where `boot_cpu_data.x86_capability` is, and how many words it has: by BTF, or where the text says the same.
pub(super) fn capabilities(
    report: &Report,
    words: &Words<'_>,
    image: &Image,
) -> std::result::Result<(u64, u64), String> {
    let symbols = image.symbols().map_err(|error| error.reason)?;
    let Some(address) = symbols.and_then(|symbols| symbols.address_of("boot_cpu_data")) else {
        return anywhere(report, words, image).map_err(|error| error.reason)?.ok_or_else(|| {
            "the image does not name boot_cpu_data, and no one place of .data has the features that the text was \
             patched for"
                .to_owned()
        });
    };
    let Some(btf) = image.btf().map_err(|error| error.reason)? else {
        return agreed(report, words, address).map_err(|error| error.reason)?.ok_or_else(|| {
            "the image has no BTF, and no place of boot_cpu_data has the features that the text was patched for"
                .to_owned()
        });
    };
    let id = btf.find_struct("cpuinfo_x86").ok_or("BTF has no struct cpuinfo_x86")?;
    let mut members = btf.members(id).map_err(|error| error.reason)?;
    let size = btf.size_of(id).map_err(|error| error.reason)? as u64;
    members.sort_by_key(|member| member.bit_offset);
    // Since 5.5 it is in a union, for its alignment.
    let named = |members: &[Member<'_>]| members.iter().any(|member| member.name == "x86_capability");
    let has = |member: &Member<'_>| {
        let inner = || btf.members(member.type_id).unwrap_or_default();
        named(std::slice::from_ref(member)) || member.name.is_empty() && named(&inner())
    };
    let at = members.iter().position(has).ok_or("BTF: struct cpuinfo_x86 has no member x86_capability")?;
    let start = u64::from(members[at].bit_offset) / 8;
    // What is behind it begins where it ends.
    let end = members[at + 1..].iter().map(|member| u64::from(member.bit_offset) / 8).find(|&end| end > start);
    Ok((address + start, (end.unwrap_or(size).saturating_sub(start)) / 4))
}

/// How far into `struct cpuinfo_x86` its words of features may begin: 12 to 0x30 bytes, by version and options.
const FARTHEST: u64 = 0x60;
/// So many features have to agree, nine of ten of those the text speaks of, and of no other place as many.
const LEAST: usize = 8;
/// How much is read at a time.
const PAGE: usize = 4096;

/// The features that the text speaks of, or the user, and whether they are there; how many words they are in. What the
/// user said has no votes.
fn said(report: &Report) -> (Vec<(u64, bool)>, u64) {
    let features: Vec<(u64, bool)> = report
        .votes
        .iter()
        .filter_map(|vote| match vote.about {
            Unknown::Feature(number) if vote.votes > 0 || vote.known => Some((number.into(), vote.value != 0)),
            _ => None,
        })
        .collect();
    let count = features.iter().map(|&(number, _)| number / 32 + 1).max().unwrap_or(0);
    (features, count)
}

/// Where the words of features are in a structure that nothing describes: the one place at which nearly all features are
/// as the text says. Those that are not are named later.
fn agreed(report: &Report, words: &Words<'_>, structure: u64) -> Result<Option<(u64, u64)>> {
    let (features, count) = said(report);
    let mut places = Vec::new();
    for offset in (0..FARTHEST).step_by(4) {
        let mut same = 0;
        for &(number, there) in &features {
            let word = words.int(structure + offset + number / 32 * 4)?;
            same += usize::from(word.is_some_and(|word| (word >> (number % 32) & 1 != 0) == there));
        }
        places.push((same, structure + offset));
    }
    places.sort_unstable();
    let [.., (second, _), (most, place)] = places[..] else { return Ok(None) };
    let agrees = most >= LEAST && 10 * most >= 9 * features.len() && most > second;
    Ok(agrees.then_some((place, count)))
}

/// Where they are in `.data`, whose variables nothing names: likewise, and so many have to be there that no zeros agree.
fn anywhere(report: &Report, words: &Words<'_>, image: &Image) -> Result<Option<(u64, u64)>> {
    let (features, count) = said(report);
    let Some(data) = image.section(".data") else { return Ok(None) };
    let mut bytes = vec![0; image.section_bytes(data).len()];
    for (page, chunk) in bytes.chunks_mut(PAGE).enumerate() {
        if !words.bytes(data.address + (page * PAGE) as u64, chunk)? {
            chunk.fill(0);
        }
    }
    let bit = |at: usize, number: u64| {
        let word = u32_at(&bytes, at + number as usize / 32 * 4).unwrap_or(0);
        word >> (number % 32) & 1 != 0
    };
    let (mut best, mut other) = ((0, 0), 0);
    for at in (0..bytes.len()).step_by(4) {
        let (mut wrong, mut there) = (0, 0);
        for &(number, said) in &features {
            let found = bit(at, number);
            there += usize::from(found && said);
            wrong += usize::from(found != said);
            if 10 * wrong > features.len() {
                break;
            }
        }
        let same = features.len() - wrong;
        if there < LEAST || 10 * wrong > features.len() {
            continue;
        }
        if same > best.0 {
            (best, other) = ((same, at), best.0);
        } else {
            other = other.max(same);
        }
    }
    Ok((best.0 > other).then_some((data.address + best.1 as u64, count)))
}
