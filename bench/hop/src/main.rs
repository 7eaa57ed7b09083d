//! `scripts/bench-hop`: one hop between two processes, over framepipe's shared memory and its peers, in interleaved rounds.

use std::process::ExitCode;

use anyhow::{Result, anyhow, ensure};
use framepipe_hop::{
    cases::{CASES, Measure},
    consumer,
    figures::{Arguments, finish},
    leftovers,
    machine::{Others, two_cpus},
    producer,
    report::Report,
};

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, order)) = words.split_first()
        && first == consumer::CONSUME
    {
        consumer::consume(order)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = Arguments::parse().map_err(|error| anyhow!(error))?;
    let rounds: usize = arguments.number("--rounds", 9).map_err(|error| anyhow!(error))?;
    let json = arguments.path("--json");
    arguments.end().map_err(|error| anyhow!(error))?;
    ensure!(rounds > 0, "--rounds 0: give one at least");
    leftovers::remove_of_the_dead();
    let (mut cpus, others, mut report) = (two_cpus()?, Others::watch()?, Report::default());
    for round in 0..rounds {
        // Each round begins with another case, and goes the other way: neither a place in the order nor two clocks that
        // differ favour anyone.
        for place in 0..CASES.len() {
            let case = (round + place) % CASES.len();
            for measure in Measure::ALL {
                report.take(case, &producer::measure(CASES[case], measure, cpus)?);
            }
        }
        cpus.reverse();
        eprintln!("round {} of {rounds}", round + 1);
    }
    Ok(finish(&report.figures(others.share()?), json.as_deref()))
}
