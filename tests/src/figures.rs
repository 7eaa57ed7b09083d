//! Figures of the benchmarks: quantiles, and a table of what was wanted and what was found.

use std::path::Path;

use serde::Serialize;

/// One line of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured, with its unit.
    pub what: String,
    /// What was found.
    pub found: f64,
    /// The most that is wanted, or the least where `is_least`; `None`: it is told alone.
    pub wanted: Option<f64>,
    /// True where more is better.
    pub is_least: bool,
}

impl Figure {
    /// A figure that is told alone.
    pub fn told(what: impl Into<String>, found: f64) -> Self {
        Self { what: what.into(), found, wanted: None, is_least: false }
    }

    /// A figure that should be so much at most.
    pub fn at_most(what: impl Into<String>, found: f64, wanted: f64) -> Self {
        Self { wanted: Some(wanted), ..Self::told(what, found) }
    }

    /// A figure that should be so much at least.
    pub fn at_least(what: impl Into<String>, found: f64, wanted: f64) -> Self {
        Self { is_least: true, ..Self::at_most(what, found, wanted) }
    }

    fn holds(&self) -> &'static str {
        match self.wanted {
            None => "",
            Some(wanted) if self.is_least && self.found >= wanted || !self.is_least && self.found <= wanted => "yes",
            Some(_) => "no",
        }
    }
}

/// The figure of `values` below which the share `quantile` of them lies.
///
/// # Panics
/// Without values.
pub fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    assert!(!sorted.is_empty(), "nothing was measured");
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

/// Prints the figures as a Markdown table, and writes them as JSON where asked to.
pub fn report(figures: &[Figure], json: Option<&Path>) {
    println!("| what | found | wanted | holds |\n|---|---|---|---|");
    for figure in figures {
        let sign = if figure.is_least { ">=" } else { "<=" };
        let wanted = figure.wanted.map_or(String::new(), |wanted| format!("{sign} {wanted:.3}"));
        println!("| {} | {:.3} | {wanted} | {} |", figure.what, figure.found, figure.holds());
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(figures).expect("figures are JSON");
        std::fs::write(path, text).expect("the figures can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!((quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0)), (1.0, 3.0, 5.0));
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!((Figure::at_most("x", 2.0, 1.0).holds(), Figure::at_least("x", 2.0, 1.0).holds()), ("no", "yes"));
    }
}
