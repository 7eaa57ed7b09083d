//! Rounds become figures: the medians of the rounds, and between which values they lay.

use crate::{
    cases::{CASES, Waits},
    figures::{Figures, quantile},
    producer::Measured,
};

/// What the rounds found of one case, nanoseconds; one entry a round.
#[derive(Clone, Debug, Default)]
struct Rounds {
    p50: Vec<f64>,
    p99: Vec<f64>,
    each: Vec<f64>,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Report {
    rounds: [Rounds; CASES.len()],
}

impl Default for Report {
    fn default() -> Self {
        Self { rounds: std::array::from_fn(|_| Rounds::default()) }
    }
}

impl Report {
    /// Takes what one measurement of the case at this place of the table came to.
    pub fn take(&mut self, case: usize, measured: &Measured) {
        let rounds = &mut self.rounds[case];
        match measured {
            Measured::Hops(hops) => {
                rounds.p50.push(quantile(hops, 0.5));
                rounds.p99.push(quantile(hops, 0.99));
            }
            Measured::Each(each) => rounds.each.push(*each),
        }
    }

    /// The figures, with how much of the machine other processes took, 0 to 1.
    pub fn figures(&self, others: f64) -> Figures {
        let mut figures = Figures::default();
        for (case, rounds) in CASES.iter().zip(&self.rounds) {
            let (name, what) = (case.name, case.what);
            let mut told = |name: String, what: String, values: Vec<f64>| {
                let (least, most) = (quantile(&values, 0.0), quantile(&values, 1.0));
                figures.told(name, format!("{what} ({least:.3} to {most:.3})"), quantile(&values, 0.5));
            };
            let us = |ns: &[f64]| ns.iter().map(|ns| ns / 1e3).collect();
            told(format!("hop_{name}_us"), format!("{what}: hop, p50, us"), us(&rounds.p50));
            told(format!("hop_{name}_p99_us"), format!("{what}: hop, p99, us"), us(&rounds.p99));
            told(format!("hop_{name}_message_ns"), format!("{what}: a message of many, ns"), rounds.each.clone());
            let rate = 1e9 / quantile(&rounds.each, 0.5);
            figures.told(format!("hop_{name}_messages_per_s"), format!("{what}: messages/s"), rate.round());
        }
        for (waits, word) in [(Waits::Spinning, "spin"), (Waits::Parked, "parked")] {
            let [own, peer] = [format!("framepipe_{word}"), format!("iceoryx2_{word}")].map(|name| self.of(&name));
            let ratios = |own: &[f64], peer: &[f64]| {
                let ratios: Vec<f64> = own.iter().zip(peer).map(|(own, peer)| own / peer).collect();
                let (least, most) = (quantile(&ratios, 0.0), quantile(&ratios, 1.0));
                (quantile(&ratios, 0.5), format!("({least:.3} to {most:.3})"))
            };
            let waits = format!("{waits:?}").to_lowercase();
            let (ratio, spread) = ratios(&own.p50, &peer.p50);
            let what = format!("framepipe over iceoryx2, {waits}: hop, p50 {spread}");
            figures.at_most(format!("hop_over_iceoryx2_{word}"), what, ratio, 1.0);
            let (ratio, spread) = ratios(&own.p99, &peer.p99);
            let what = format!("framepipe over iceoryx2, {waits}: hop, p99 {spread}");
            figures.told(format!("hop_over_iceoryx2_{word}_p99"), what, ratio);
            let (ratio, spread) = ratios(&own.each, &peer.each);
            let what = format!("framepipe over iceoryx2, {waits}: a message of many {spread}");
            figures.told(format!("hop_over_iceoryx2_{word}_message"), what, ratio);
        }
        figures.told("hop_others_share", "what other processes took of the machine", others);
        figures
    }

    fn of(&self, name: &str) -> &Rounds {
        let case = CASES.iter().position(|case| case.name == name).expect("the table has both");
        &self.rounds[case]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_of_rounds_and_ratios_those_of_the_same_round() {
        let mut report = Report::default();
        for (round, factor) in [1.0, 2.0, 9.0].into_iter().enumerate() {
            for case in 0..CASES.len() {
                let hop = 1000.0 * factor * (case + 1) as f64;
                report.take(case, &Measured::Hops(vec![hop; 5]));
                report.take(case, &Measured::Each(100.0 * (round + 1) as f64));
            }
        }
        assert!(report.figures(0.0).missed().is_empty(), "the first case is the quickest");
        report.rounds[0].p50.iter_mut().for_each(|hop| *hop *= 4.0);
        assert_eq!(report.figures(0.0).missed(), ["hop_over_iceoryx2_spin is 1.333: <= 1"]);
    }
}
