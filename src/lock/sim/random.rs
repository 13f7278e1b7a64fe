//! Times drawn at random, the same on every machine.

use crate::error::{Error, Result};

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
            _ => Err(Error::parameter(parameter, format!("{kind:?} is none of constant, exponential, uniform"))),
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
            Distribution::Exponential(mean) => (mean as f64 * -ln(stream.unit()) + 0.5) as u64,
            Distribution::Uniform(mean) => (2.0 * mean as f64 * stream.unit()) as u64,
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
        ((self.next() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// In 0..n.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// The natural logarithm of a number in (0, 1], to about 1e-12, by additions, multiplications and one division alone:
/// these are exact to the bit everywhere, which no platform's `log` promises.
#[inline]
fn ln(x: f64) -> f64 {
    const HALF_ROOT: u64 = 0x3fe6_a09e_667f_3bcd; // √½
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(HALF_ROOT) as i64) >> 52;
    let m = f64::from_bits(bits.wrapping_sub((exponent << 52) as u64)); // in [√½, √2)
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0
        + q * (1.0 / 3.0
            + q * (1.0 / 5.0
                + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q * (1.0 / 15.0)))))));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        let mut stream = Stream::new(1, 0);
        for _ in 0..100_000 {
            let x = stream.unit();
            assert!((ln(x) - x.ln()).abs() < 1e-11, "ln {x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(1.0 / (1u64 << 53) as f64) + 53.0 * std::f64::consts::LN_2).abs() < 1e-11);
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
