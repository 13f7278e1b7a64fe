//! Quartiles of measured figures.

/// The middle one of some figures; 0 of none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    quartiles(figures)[1]
}

/// Lower quartile, median and upper quartile of some figures; zeros of none.
pub fn quartiles(figures: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    [1, 2, 3].map(|quarter| figures.get(last * quarter / 4).copied().unwrap_or(0.0))
}
