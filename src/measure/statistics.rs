//! What is said about a series of measurements.

/// A cost in core cycles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The median of all rounds kept.
    pub median: f64,
    /// What the least of both programs of all rounds differ by.
    pub minimum: f64,
    /// Lower end of the interval that holds the true median with 95 % confidence.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The median and its 95 % interval: order statistics, so that no distribution is assumed.
pub fn median(values: &mut [f64]) -> (f64, f64, f64) {
    if values.is_empty() {
        return (f64::NAN, f64::NAN, f64::NAN);
    }
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let middle = (values[(n - 1) / 2] + values[n / 2]) / 2.0;
    // The number of values below the median is binomial: n/2 ± 1.96 √n/2.
    let away = 0.98 * (n as f64).sqrt();
    let low = (n as f64 / 2.0 - away).floor().max(0.0) as usize;
    let high = ((n as f64 / 2.0 + away).ceil() as usize).min(n - 1);
    (middle, values[low].min(middle), values[high].max(middle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_median_of_a_known_series_and_its_interval() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        // 1.96 · √100 / 2 = 9.8 places on each side of the middle.
        assert_eq!(median(&mut values), (50.5, 41.0, 61.0));
        assert_eq!(median(&mut [7.0]), (7.0, 7.0, 7.0));
        assert!(median(&mut []).0.is_nan());
    }

    proptest! {
        #[test]
        fn the_median_lies_within_its_interval_whatever_outliers_there_are(
            mut values in prop::collection::vec(-1e6..1e9f64, 1..200),
        ) {
            let (middle, low, high) = median(&mut values);
            prop_assert!(low <= middle && middle <= high);
        }
    }
}
