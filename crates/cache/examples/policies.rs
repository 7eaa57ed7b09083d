//! Prints the hit rates of each policy on each trace: see `scripts/bench-cache --policies`.

#[path = "../tests/support/traces.rs"]
mod traces;

use traces::{CAPACITY, HISTORY, PERIOD, TRACES, hit_rate};

const SEEDS: u64 = 3;
/// Name, K, and the period within which references are one.
const POLICIES: [(&str, usize, u64); 5] =
    [("LRU", 1, 0), ("LRU-2", 2, 0), ("LRU-3", 3, 0), ("LRU-2, period", 2, PERIOD), ("LRU-3, period", 3, PERIOD)];

fn main() {
    let json = std::env::args().nth(1);
    println!(
        "{CAPACITY} places, {HISTORY} keys remembered; the mean of seeds 1 to {SEEDS}; period: {PERIOD} references"
    );
    for trace in &TRACES {
        println!("  {:20} {}", trace.name, trace.what);
    }
    print!("\n{:20}", "hits, %");
    POLICIES.iter().for_each(|(name, ..)| print!("{name:>16}"));
    println!("{:>16}", "best / LRU");
    let mut figures = Vec::new();
    for trace in &TRACES {
        let references: Vec<_> = (1..=SEEDS).map(|seed| trace.references(seed)).collect();
        let mean = |(_, k, period): &(&str, usize, u64)| {
            references.iter().map(|references| hit_rate(references, *k, *period)).sum::<f64>() / SEEDS as f64
        };
        let rates: Vec<f64> = POLICIES.iter().map(mean).collect();
        print!("{:20}", trace.name);
        rates.iter().for_each(|rate| print!("{:16.2}", 100.0 * rate));
        println!("{:15.2}x", rates.iter().fold(0.0, |best: f64, rate| best.max(*rate)) / rates[0]);
        let named =
            POLICIES.iter().zip(rates).map(|((policy, ..), rate)| format!("\"{}: {policy}\": {rate:.5}", trace.name));
        figures.extend(named);
    }
    if let Some(path) = json {
        let text = format!("{{\n  {}\n}}\n", figures.join(",\n  "));
        std::fs::write(&path, text).unwrap_or_else(|error| {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        });
    }
}
