//! `scripts/bench-overload`: five times what the pipeline can do is offered to it, in open loop: by two streams at 10:1
//! whose calls do not wait, and then by several whose calls do.

mod load;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use framepipe_tests::{
    Home, Memory, Server,
    figures::{Arguments, Figures, finish, quantile},
    images::photo,
    repository,
};
use load::{Offer, Reader, SETTLE, Tally, closed_loop, within};

/// Frames in flight: the budget of the run.
const BUDGET: usize = 128;
const OVERLOAD: f64 = 5.0;
/// Of the offered load, the light stream's share.
const LIGHT: f64 = 1.0 / 11.0;
const PEAK_TIME: Duration = Duration::from_secs(15);
/// With the budget full.
const FULL_TIME: Duration = Duration::from_secs(6);
/// The calls under way are counted so often.
const COUNT_EVERY: Duration = Duration::from_millis(100);
const PHOTOS: [&str; 4] = ["sample1.jpg", "sample4.jpg", "zidane.jpg", "bus.jpg"];

/// Streams whose calls wait: so many that hundreds of calls wait, and few of each.
const WAITING_STREAMS: usize = 8;
const WAIT: Duration = Duration::from_millis(500);
/// One more stream offers this part of the share of each: it should be given all that it asks for.
const TRICKLE: f64 = 0.5;

/// What came of an overload.
struct Outcome {
    /// Of each stream: what it offered, and its goodput, in frames a second.
    streams: Vec<(f64, f64)>,
    refusals_ms: Vec<f64>,
    health_ms: Vec<f64>,
    latencies_ms: Vec<f64>,
    memory_mib: f64,
    under_way: Vec<f64>,
}

impl Outcome {
    fn offered(&self) -> f64 {
        self.streams.iter().map(|(offered, _)| offered).sum()
    }

    fn goodput(&self) -> f64 {
        self.streams.iter().map(|(_, goodput)| goodput).sum()
    }

    /// Each stream's goodput, of its fair share of all goodput.
    fn shares(&self) -> Vec<f64> {
        let offered: Vec<f64> = self.streams.iter().map(|(offered, _)| *offered).collect();
        let fair = fair_shares(self.goodput(), &offered);
        self.streams.iter().zip(fair).map(|((_, goodput), fair)| goodput / fair).collect()
    }

    fn least_share(&self) -> f64 {
        self.shares().into_iter().fold(f64::INFINITY, f64::min)
    }
}

/// The fair shares of what there is (max-min): nobody is given more than it offers, and who offers more has no less
/// than any other. They come from what was offered and from the sum of what was given, so that what one stream was
/// given too much is what another one lacks.
fn fair_shares(capacity: f64, offered: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..offered.len()).collect();
    order.sort_by(|one, other| offered[*one].total_cmp(&offered[*other]));
    let (mut left, mut shares) = (capacity, vec![0.0; offered.len()]);
    for (place, stream) in order.iter().enumerate() {
        shares[*stream] = offered[*stream].min(left / (offered.len() - place) as f64);
        left -= shares[*stream];
    }
    shares
}

fn config() -> String {
    let street = std::fs::read_to_string(repository().join("config/street.toml")).expect("config/street.toml");
    let mut config: toml::Table = street.parse().expect("it is TOML");
    let server = config.entry("server").or_insert_with(|| toml::Table::new().into());
    server.as_table_mut().expect("a section").insert("frames_max".into(), (BUDGET as i64).into());
    config.insert("name".into(), "overload".into());
    config.to_string()
}

/// Offers all of that for so long, and reads what comes.
async fn overload(
    server: &Server,
    memory: &Memory,
    files: &Arc<[String]>,
    offers: &[Offer],
    time: Duration,
) -> Outcome {
    let from = Instant::now() + SETTLE;
    let until = from + time;
    let readers: Vec<Reader> =
        offers.iter().map(|offer| Reader::start(server.client(), offer.stream.clone(), offer.tally.clone())).collect();
    let under_way = Arc::new(AtomicUsize::new(0));
    let running: Vec<_> = offers.iter().map(|offer| offer.spawn(server, files, until, &under_way)).collect();
    let count = async {
        let mut counts = Vec::new();
        while Instant::now() < until {
            tokio::time::sleep(COUNT_EVERY).await;
            counts.push(under_way.load(Ordering::Relaxed) as f64);
        }
        counts
    };
    let (memory_mib, under_way) = tokio::join!(memory.most_mib(until), count);
    for offer in running {
        offer.await.expect("an offer's own checks hold");
    }
    for reader in readers {
        reader.end().await;
    }
    let failures: Vec<String> = offers.iter().flat_map(|offer| offer.tally.lock().failures.clone()).collect();
    assert!(failures.is_empty(), "{} calls or frames failed, such as {}", failures.len(), failures[0]);
    let all = |part: fn(&Tally) -> &Vec<f64>| -> Vec<f64> {
        offers.iter().flat_map(|offer| part(&offer.tally.lock()).clone()).collect()
    };
    let rate = |moments: &[Instant]| within(moments, from, until) as f64 / time.as_secs_f64();
    let stream = |offer: &Offer| {
        let tally = offer.tally.lock();
        (rate(&tally.offered), rate(&tally.results))
    };
    Outcome {
        streams: offers.iter().map(stream).collect(),
        refusals_ms: all(|tally| &tally.refusals_ms),
        health_ms: all(|tally| &tally.health_ms),
        latencies_ms: all(|tally| &tally.latencies_ms),
        memory_mib,
        under_way,
    }
}

async fn measure(seconds: u64) -> Figures {
    let (home, time) = (Home::new(), Duration::from_secs(seconds));
    let (server, memory) = (Server::start(&home, &config()).await, Memory::of(&home));
    let files: Arc<[String]> = PHOTOS.iter().map(|name| home.store(name, &photo(name)).display().to_string()).collect();
    let peak =
        async |stream| closed_loop(&server, stream, &files, BUDGET / 2, Instant::now() + SETTLE + PEAK_TIME).await;
    let peak_before = peak("peak-before").await;
    let until = Instant::now() + SETTLE + FULL_TIME;
    let (_, full_mib) = tokio::join!(closed_loop(&server, "full", &files, BUDGET, until), memory.most_mib(until));
    let rate = OVERLOAD * peak_before;
    eprintln!(
        "bench-overload: the peak is {peak_before:.1} frames/s; {rate:.1} are offered for {seconds} s, by two streams"
    );
    let two =
        [("heavy", 1.0 - LIGHT), ("light", LIGHT)].map(|(name, part)| Offer::new(name, rate * part, Duration::ZERO));
    let refused = overload(&server, &memory, &files, &two, time).await;
    let peak_after = peak("peak-after").await;

    eprintln!("bench-overload: the same for {} s, by {WAITING_STREAMS} streams whose calls wait", seconds.div_ceil(2));
    let each = |number| Offer::new(format!("waiting-{number}"), rate / WAITING_STREAMS as f64, WAIT);
    let trickle = Offer::new("trickle", TRICKLE * peak_before / (WAITING_STREAMS + 1) as f64, WAIT);
    let several: Vec<Offer> = (0..WAITING_STREAMS).map(each).chain([trickle]).collect();
    let waited = overload(&server, &memory, &files, &several, time.div_f64(2.0)).await;
    server.stop();

    let mut figures = Figures::default();
    figures.told("seconds", "seconds of overload", seconds as f64);
    figures.told("peak_fps", "peak, frames/s (closed loop)", peak_before);
    figures.told("peak_after_fps", "peak once more afterwards, frames/s", peak_after);
    figures.told("memory_budget_full_mib", "most memory at the peak, with the budget full, MiB", full_mib);
    refusing(&mut figures, &refused, peak_before, full_mib);
    waiting(&mut figures, &waited, peak_before, full_mib);
    figures
}

/// The figures of calls that do not wait.
fn refusing(figures: &mut Figures, found: &Outcome, peak: f64, full_mib: f64) {
    let [refusal, healthy] = [&found.refusals_ms, &found.health_ms].map(|values| quantile(values, 0.5));
    figures.told("offered_over_peak", "offered, times the peak", found.offered() / peak);
    figures.at_least("goodput_share_of_peak", "goodput, of the peak", found.goodput() / peak, 0.95);
    figures.told("refusals", "refusals", found.refusals_ms.len() as f64);
    figures.told("refusal_ms_p50", "a refusal, ms, median", refusal);
    figures.told("health_call_ms_p50", "a health call of the same moment, ms, median", healthy);
    figures.at_most("refusal_over_health_call_p50", "a refusal over a health call, medians", refusal / healthy, 2.0);
    figures.at_most("refusal_ms_p99", "a refusal, ms, p99", quantile(&found.refusals_ms, 0.99), 20.0);
    figures.told("health_call_ms_p99", "a health call, ms, p99", quantile(&found.health_ms, 0.99));
    let what = "most memory under overload, of the most at the peak with the budget full";
    figures.at_most("memory_over_budget_share", what, found.memory_mib / full_mib, 1.05);
    figures.told("latency_ms_p50", "latency of accepted frames, ms, median", quantile(&found.latencies_ms, 0.5));
    let latest = quantile(&found.latencies_ms, 0.99) / 1e3 / (BUDGET as f64 / peak);
    figures.at_most("latency_p99_over_budget_time", "their p99, in budget / peak rate", latest, 1.25);
    let [(_, heavy_fps), (_, light_fps)] = found.streams[..] else { unreachable!("there are two streams") };
    let shares = found.shares();
    figures.told("heavy_fps", "goodput of the heavy stream, frames/s", heavy_fps);
    figures.told("light_fps", "goodput of the light stream, frames/s", light_fps);
    figures.told("fairness_heavy_share", "goodput of the heavy stream, of its fair share of all goodput", shares[0]);
    figures.told("fairness_light_share", "goodput of the light stream, of its fair share of all goodput", shares[1]);
    figures.at_least("fairness_min_share", "the least of both", found.least_share(), 0.95);
    let offered: Vec<f64> = found.streams.iter().map(|(offered, _)| *offered).collect();
    let of_peak = fair_shares(peak, &offered);
    figures.told(
        "heavy_share_of_peak",
        "goodput of the heavy stream, of its fair share of the peak",
        heavy_fps / of_peak[0],
    );
}

/// The figures of calls that wait.
fn waiting(figures: &mut Figures, found: &Outcome, peak: f64, full_mib: f64) {
    let wait_ms = WAIT.as_secs_f64() * 1e3;
    let mean = found.under_way.iter().sum::<f64>() / found.under_way.len() as f64;
    let (whole, early): (Vec<f64>, Vec<f64>) = found.refusals_ms.iter().partition(|took| **took >= wait_ms);
    let late: Vec<f64> = whole.iter().map(|took| took - wait_ms).collect();
    figures.told("waiting_calls_mean", "calls without an answer, on average", mean);
    figures.told(
        "waiting_calls_most",
        "calls without an answer, most",
        found.under_way.iter().copied().fold(0.0, f64::max),
    );
    figures.told("waiting_offered_over_peak", "with them: offered, times the peak", found.offered() / peak);
    figures.told("waiting_goodput_share_of_peak", "with them: goodput, of the peak", found.goodput() / peak);
    figures.told("waiting_fairness_min_share", "with them: the least of the streams' shares", found.least_share());
    let trickle = *found.shares().last().expect("there are streams");
    figures.told("waiting_fairness_trickle_share", "with them: the trickle's share", trickle);
    figures.told("waiting_refusals", "refusals after the wait", late.len() as f64);
    figures.told("waiting_refusals_early", "refusals before its end", early.len() as f64);
    for (part, share) in [("p50", 0.5), ("p99", 0.99)] {
        if !late.is_empty() {
            let what = format!("a refusal, later than the wait's end, ms, {part}");
            figures.told(format!("waiting_refusal_late_ms_{part}"), what, quantile(&late, share));
        }
        let what = format!("with them: a health call, ms, {part}");
        figures.told(format!("waiting_health_call_ms_{part}"), what, quantile(&found.health_ms, share));
        let what = format!("with them: latency of accepted frames, ms, {part}");
        figures.told(format!("waiting_latency_ms_{part}"), what, quantile(&found.latencies_ms, share));
    }
    let what = "with them: most memory, of the most at the peak with the budget full";
    figures.told("waiting_memory_over_budget_share", what, found.memory_mib / full_mib);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let asked = (arguments.number("--seconds", 60)?, arguments.path("--json"));
        arguments.end()?;
        if asked.0 == 0 { Err("give --seconds 1 or more".to_owned()) } else { Ok(asked) }
    };
    let (seconds, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-overload: {error}");
            return ExitCode::from(2);
        }
    };
    finish(&measure(seconds).await, json.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least_share(streams: &[(f64, f64)]) -> f64 {
        let nothing = Vec::new;
        let (refusals_ms, health_ms, latencies_ms, under_way) = (nothing(), nothing(), nothing(), nothing());
        let streams = streams.to_vec();
        Outcome { streams, refusals_ms, health_ms, latencies_ms, memory_mib: 0.0, under_way }.least_share()
    }

    #[test]
    fn shares_are_max_min_fair() {
        assert_eq!(fair_shares(100.0, &[500.0, 30.0]), [70.0, 30.0]);
        assert_eq!(fair_shares(100.0, &[500.0, 60.0]), [50.0, 50.0]);
        assert_eq!(fair_shares(100.0, &[10.0, 500.0, 30.0]), [10.0, 60.0, 30.0]);
        assert_eq!(fair_shares(100.0, &[10.0, 20.0]), [10.0, 20.0]);
    }

    #[test]
    fn no_starvation_is_hidden() {
        assert_eq!(least_share(&[(650.0, 75.0), (65.0, 65.0)]), 1.0);
        assert_eq!(least_share(&[(650.0, 140.0), (65.0, 0.0)]), 0.0, "the light one starves");
        assert_eq!(least_share(&[(650.0, 0.0), (65.0, 65.0)]), 0.0, "the heavy one starves");
        assert_eq!(least_share(&[(650.0, 90.0), (65.0, 50.0)]), 50.0 / 65.0);
    }
}
