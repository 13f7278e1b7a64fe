//! Two boots of one image: where their writes leave other bytes.
//!
//! Both plans' writes are replayed over the code as built. Boots that write in other ways but leave the same bytes do not
//! differ.

use super::stretches::{Stretches, merged};
use super::writes::Plan;
use crate::image::Image;

/// A stretch that two boots leave otherwise: writes that overlap are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, as linked.
    pub address: u64,
    /// Its bytes as built.
    pub built: Vec<u8>,
    /// What the first boot leaves.
    pub a: Side,
    /// What the second boot leaves.
    pub b: Side,
}

/// What one boot does there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// What stands there in the end.
    pub bytes: Vec<u8>,
    /// Which of the plan's writes begin there, rows that change nothing among them; in their order.
    pub writes: Vec<u32>,
}

impl Difference {
    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.address + self.built.len() as u64
    }
}

/// Where two plans of an image leave other bytes, by address.
pub fn differences(image: &Image, a: &Plan, b: &Plan) -> Vec<Difference> {
    let mut found: Vec<Difference> = places(a, b)
        .into_iter()
        .map(|(low, high)| {
            let len = (high - low) as usize;
            let built = image.read(low, len).map_or_else(|| vec![0; len], <[u8]>::to_vec);
            let side = || Side { bytes: built.clone(), writes: Vec::new() };
            Difference { address: low, a: side(), b: side(), built }
        })
        .collect();
    replay(&mut found, a, |place| &mut place.a);
    replay(&mut found, b, |place| &mut place.b);
    found.retain(|place| place.a.bytes != place.b.bytes);
    found
}

/// Makes a plan's writes at these places, and notes them.
fn replay(places: &mut [Difference], plan: &Plan, side: fn(&mut Difference) -> &mut Side) {
    let stretches = Stretches::of(places.iter().map(|place| (place.address, place.end())).collect());
    for (number, write) in (0..).zip(plan.writes()) {
        let (low, bytes) = (write.address, plan.bytes(write));
        let high = low + (bytes.len() as u64).max(1);
        if stretches.touching(low, high).is_none() {
            continue;
        }
        for place in places[stretches.behind(low)..].iter_mut().take_while(|place| place.address < high) {
            let start = place.address;
            let side = side(place);
            if low >= start {
                side.writes.push(number);
            }
            let (from, at) = (start.saturating_sub(low) as usize, low.saturating_sub(start) as usize);
            for (place, byte) in side.bytes[at..].iter_mut().zip(bytes.get(from..).unwrap_or_default()) {
                *place = *byte;
            }
        }
    }
}

/// One write's address and bytes.
type Written<'a> = (u64, &'a [u8]);

/// Where the boots write otherwise, as ranges of addresses: writes that overlap are one place.
fn places(a: &Plan, b: &Plan) -> Vec<(u64, u64)> {
    // Nearly all rows come in the same order on both sides, and have the same bytes.
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (written(a), written(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => break,
            (Some(x), Some(y)) if x == y => {}
            (x, y) => {
                one.extend(x);
                other.extend(y);
            }
        }
    }
    for writes in [&mut one, &mut other] {
        writes.retain(|(_, bytes)| !bytes.is_empty());
    }
    // Of those that are alike, only what overlaps the others can matter.
    let around = Stretches::of(one.iter().chain(&other).map(span).collect());
    let both = written(a).zip(written(b)).filter(|(x, y)| !x.1.is_empty() && x.0 == y.0);
    let both = both.filter(|(x, _)| around.touching(x.0, span(x).1).is_some());
    let alike: Vec<_> = both.filter(|(x, y)| x == y).map(|(x, _)| x).collect();
    for writes in [&mut one, &mut other] {
        writes.sort_unstable();
        writes.dedup();
    }
    let among = |writes: &[Written<'_>], x: &Written<'_>| writes.binary_search(x).is_ok();
    let mut again: Vec<_> = alike.iter().filter(|x| among(&one, x) || among(&other, x)).copied().collect();
    again.sort_unstable();
    let of_one = |writes: &[Written<'_>], others: &[Written<'_>]| {
        let only = writes.iter().filter(|x| !among(others, x) && !among(&again, x));
        only.map(span).collect::<Vec<_>>()
    };
    let mut found = of_one(&one, &other);
    found.extend(of_one(&other, &one));
    let found = merged(found);
    // What both write alike belongs to the place that it overlaps.
    let alike = alike.iter().chain(one.iter().filter(|x| among(&other, x))).map(span);
    let overlaps = |&(low, high): &(u64, u64)| {
        let after = found.partition_point(|place| place.0 < high);
        after.checked_sub(1).is_some_and(|i| low < found[i].1)
    };
    let joined: Vec<_> = alike.filter(overlaps).collect();
    merged(found.iter().copied().chain(joined).collect())
}

fn written(plan: &Plan) -> impl Iterator<Item = Written<'_>> {
    plan.writes().iter().map(|write| (write.address, plan.bytes(write)))
}

fn span(&(address, bytes): &Written<'_>) -> (u64, u64) {
    (address, address + bytes.len() as u64)
}
