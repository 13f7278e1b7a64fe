//! Times drawn at random, the same on every machine.

use super::refusal::wrong;
use crate::error::Result;

/// How times scatter. All are whole picoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Always the same. Draws nothing.
    Constant(u64),
    /// Exponential, of this mean: −mean · ln u, rounded half up.
    Exponential(u64),
    /// Uniform from 0 to twice this mean, rounded down.
    Uniform(u64),
}

impl Distribution {
    /// By name, with its mean in ps; `parameter` is what an error names.
    pub fn by_name(parameter: &str, kind: &str, mean: u64) -> Result<Distribution> {
        match kind {
            "constant" => Ok(Distribution::Constant(mean)),
            "exponential" => Ok(Distribution::Exponential(mean)),
            "uniform" => Ok(Distribution::Uniform(mean)),
            _ => Err(wrong(parameter, format!("{kind:?} is none of constant, exponential, uniform"))),
        }
    }

    /// Its mean in ps.
    pub fn mean(self) -> u64 {
        match self {
            Distribution::Constant(mean) | Distribution::Exponential(mean) | Distribution::Uniform(mean) => mean,
        }
    }

    #[inline]
    pub(super) fn draw(self, stream: &mut Stream) -> u64 {
        match self {
            Distribution::Constant(mean) => mean,
            Distribution::Exponential(mean) => (mean as i64 as f64 * -ln(stream.unit()) + 0.5) as i64 as u64,
            Distribution::Uniform(mean) => (2.0 * mean as i64 as f64 * stream.unit()) as i64 as u64,
        }
    }
}

/// A stream of random numbers: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), small enough to be written again anywhere.
#[derive(Debug, Clone)]
pub(super) struct Stream(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Stream {
    /// Stream `number` of a seed.
    pub fn new(seed: u64, number: u64) -> Stream {
        Stream(mixed(mixed(seed).wrapping_add(GOLDEN.wrapping_mul(number.wrapping_add(1)))))
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mixed(self.0)
    }

    /// In (0, 1], a multiple of 2^-53.
    #[inline]
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as i64 as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// In 0..n.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// How many pieces [1, 2) is cut in for [`ln`].
const PIECES: usize = 128;

/// Of the middle c of each piece: (1/c, ln c).
static MIDDLES: [(f64, f64); PIECES] = {
    let mut middles = [(0.0, 0.0); PIECES];
    let mut i = 0;
    while i < PIECES {
        let inverse = 1.0 / (1.0 + (2 * i + 1) as f64 / (2 * PIECES) as f64);
        // ln c = 2 artanh s
        let s = (1.0 - inverse) / (1.0 + inverse);
        let (mut sum, mut odd) = (0.0, 45);
        while odd > 0 {
            sum = sum * s * s + 1.0 / odd as f64;
            odd -= 2;
        }
        middles[i] = (inverse, 2.0 * s * sum);
        i += 1;
    }
    middles
};

/// The natural logarithm of a normal number, to about 1e-15, by additions and multiplications alone: these are exact to
/// the bit everywhere, which no platform's `log` promises.
#[inline]
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let (inverse, middle) = MIDDLES[(bits >> 45) as usize % PIECES];
    let m = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let r = m * inverse - 1.0; // within 1/256
    let square = r * r;
    let rest = (0.5 - r * (1.0 / 3.0)) + square * (0.25 - r * 0.2);
    (f64::from(exponent) * std::f64::consts::LN_2 + middle) + (r - square * rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        let mut stream = Stream::new(1, 0);
        for _ in 0..100_000 {
            let x = stream.unit();
            assert!((ln(x) - x.ln()).abs() < 2e-14, "ln {x}");
        }
        assert!(ln(1.0).abs() < 1e-15);
        assert!((ln(1.0 / (1u64 << 53) as f64) + 53.0 * std::f64::consts::LN_2).abs() < 1e-13);
    }

    #[test]
    fn means_are_means() {
        let mut stream = Stream::new(7, 3);
        for d in [Distribution::Exponential(1_000_000), Distribution::Uniform(1_000_000)] {
            let sum: u64 = (0..1_000_000).map(|_| d.draw(&mut stream)).sum();
            assert!((sum as f64 / 1e12 - 1.0).abs() < 0.005, "{d:?}: {sum}");
        }
        assert_eq!(Distribution::Constant(5).draw(&mut stream), 5);
    }

    #[test]
    fn streams_differ() {
        let first = |seed, number| Stream::new(seed, number).next();
        assert_ne!(first(0, 0), first(0, 1));
        assert_ne!(first(0, 0), first(1, 0));
        assert_eq!(first(5, 9), first(5, 9));
    }
}
