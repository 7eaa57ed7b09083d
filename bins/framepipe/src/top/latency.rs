//! How long frames take: quantiles of those that were answered between two looks at the gateway's histograms (`/metrics`).

use crate::http;

/// The quantiles that are shown.
pub const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")];

/// From acceptance to result; then, by stage, in its hands, and before it. As the gateway's table of metrics names them.
const HISTOGRAMS: [&str; 3] =
    ["framepipe_frame_seconds", "framepipe_frame_busy_seconds", "framepipe_frame_queued_seconds"];
/// The gauge that tells one gateway from another.
const START_TIME: &str = "process_start_time_seconds ";
const TOTAL: usize = 0;
const IN_HAND: usize = 1;
const WAITING: usize = 2;

/// A histogram's buckets, by rising bound: upper bounds in seconds, the last of them infinite, and how many were at most that.
type Buckets = Vec<(f64, f64)>;
/// Which histogram, and of which stage; "" of that without.
type Key = (usize, String);

/// What a page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// When its gateway started, as it writes it: no other gateway started then.
    gateway: String,
    /// In the page's order.
    histograms: Vec<(Key, Buckets)>,
}

/// Seconds, by `QUANTILES`; none where nothing was counted.
pub type Quantiles = Option<[f64; QUANTILES.len()]>;

/// What two looks differ by.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Frames that were answered.
    pub frames: u64,
    /// When the later look was, CLOCK_MONOTONIC.
    pub read_ns: u64,
    /// From acceptance to result.
    pub total: Quantiles,
    /// By stage, in the order of the pipeline: in its hands, and waiting before it.
    pub stages: Vec<(String, Quantiles, Quantiles)>,
}

/// What is known of it.
#[derive(Default)]
pub struct Latency {
    before: Option<Reading>,
    /// The newest two looks between which frames were answered.
    pub shown: Option<Shown>,
    /// Why the newest look saw nothing.
    pub silence: Option<String>,
}

impl Latency {
    /// Takes in a look, of this moment of CLOCK_MONOTONIC.
    pub fn hear(&mut self, looked: Result<Reading, String>, read_ns: u64) {
        self.silence = None;
        match looked {
            Err(why) => self.silence = Some(why),
            Ok(now) => {
                let since = self.before.as_ref().map(|before| now.since(before).shown(read_ns));
                self.shown = since.filter(|since| since.frames > 0).or(self.shown.take());
                self.before = Some(now);
            }
        }
    }
}

/// Looks at the page of the gateway that listens at `address`.
///
/// # Errors
/// Why there is none, in one line.
pub fn look(address: Option<&str>) -> Result<Reading, String> {
    let address = address.ok_or("it is told over HTTP, and server.http is \"\"")?;
    http::get(address, "/metrics", &[200]).map(|page| Reading::of(&page)).map_err(|error| format!("{error:#}"))
}

impl Reading {
    fn of(page: &str) -> Self {
        let mut histograms: Vec<(Key, Buckets)> = Vec::new();
        for (key, bucket) in page.lines().filter_map(bucket) {
            match histograms.iter_mut().find(|(known, _)| *known == key) {
                Some((_, buckets)) => buckets.push(bucket),
                None => histograms.push((key, vec![bucket])),
            }
        }
        let gateway = page.lines().find_map(|line| line.strip_prefix(START_TIME)).unwrap_or_default().to_owned();
        Self { gateway, histograms }
    }

    fn buckets(&self, key: &Key) -> Option<&Buckets> {
        self.histograms.iter().find(|(known, _)| known == key).map(|(_, buckets)| buckets)
    }

    /// What was counted since another reading; all of it, where that was of another gateway.
    fn since(&self, before: &Self) -> Self {
        let of = |(key, now): &(Key, Buckets)| {
            let before = before.buckets(key).filter(|_| before.gateway == self.gateway);
            let before = before.filter(|before| before.len() == now.len());
            let left = |(place, (bound, count)): (usize, &(f64, f64))| {
                (*bound, count - before.map_or(0.0, |before| before[place].1))
            };
            (key.clone(), now.iter().enumerate().map(left).collect())
        };
        Self { gateway: self.gateway.clone(), histograms: self.histograms.iter().map(of).collect() }
    }

    fn shown(&self, read_ns: u64) -> Shown {
        let of = |histogram, stage: &str| self.buckets(&(histogram, stage.to_owned())).map_or(&[][..], Vec::as_slice);
        let stages =
            self.histograms.iter().filter(|((histogram, _), _)| *histogram == IN_HAND).map(|((_, stage), _)| stage);
        let stage = |stage: &String| (stage.clone(), quantiles(of(IN_HAND, stage)), quantiles(of(WAITING, stage)));
        Shown {
            frames: of(TOTAL, "").last().map_or(0, |(_, count)| *count as u64),
            read_ns,
            total: quantiles(of(TOTAL, "")),
            stages: stages.map(stage).collect(),
        }
    }
}

/// A bucket, where a line tells of one that is shown: `NAME_bucket{stage="detect",le="0.5"} 7`.
fn bucket(line: &str) -> Option<(Key, (f64, f64))> {
    let (series, value) = line.split_once(' ')?;
    let (name, labels) = series.strip_suffix('}')?.split_once('{')?;
    let name = name.strip_suffix("_bucket")?;
    let histogram = HISTOGRAMS.iter().position(|known| *known == name)?;
    let said = |label: &str| {
        let mut labels = labels.split(',').filter_map(|one| one.split_once('='));
        labels.find(|(name, _)| *name == label).map(|(_, value)| value.trim_matches('"'))
    };
    let bucket = (said("le")?.parse().ok()?, value.split(' ').next()?.parse().ok()?); // "+Inf" is a number
    Some(((histogram, said("stage").unwrap_or_default().to_owned()), bucket))
}

fn quantiles(buckets: &[(f64, f64)]) -> Quantiles {
    let mut all = [0.0; QUANTILES.len()];
    for (place, (quantile, _)) in all.iter_mut().zip(QUANTILES) {
        *place = quantile_of(quantile, buckets)?;
    }
    Some(all)
}

/// A quantile as Prometheus' `histogram_quantile` has it: linear within its bucket, the first of which begins at 0; what lies behind the
/// last finite bound is that bound.
fn quantile_of(quantile: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let ((_, total), finite) = buckets.split_last()?;
    let rank = quantile * total;
    if *total <= 0.0 {
        return None;
    }
    let Some(place) = finite.iter().position(|(_, count)| *count >= rank) else {
        return finite.last().map(|(bound, _)| *bound);
    };
    let (start, below) = place.checked_sub(1).map_or((0.0, 0.0), |former| finite[former]);
    let (end, count) = finite[place];
    Some(start + (end - start) * (rank - below) / (count - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFINITE: f64 = f64::INFINITY;

    /// A page of the gateway that started then: so many frames were answered within 0.25 s, so many within 0.5 s, so many in all.
    fn page(start: f64, counts: [u32; 3]) -> String {
        let bounds = ["0.25", "0.5", "+Inf"];
        let lines = |name: &str, labels: &str| -> String {
            let line = |(bound, count)| format!("{name}_bucket{{{labels}le=\"{bound}\"}} {count}\n");
            bounds.into_iter().zip(counts).map(line).collect()
        };
        let mut page = format!("process_start_time_seconds {start}\n# TYPE framepipe_frame_seconds histogram\n");
        page += "framepipe_frame_seconds_sum 5.0\n";
        page += &lines("framepipe_frame_seconds", "");
        page += &lines("framepipe_canary_seconds", "");
        for stage in ["ingest", "detect"] {
            for name in &HISTOGRAMS[1..] {
                page += &lines(name, &format!("stage=\"{stage}\","));
            }
        }
        page + "# EOF\n"
    }

    #[test]
    fn a_quantile_is_what_prometheus_says() {
        // histogram_quantile of promql/testdata/histograms.test: testhistogram, and what lies behind the last bound.
        let positive = [(0.1, 5.0), (0.2, 7.0), (1e0, 11.0), (INFINITE, 12.0)];
        let close = |quantile: f64, expected: f64| {
            let said = quantile_of(quantile, &positive).expect("there are some");
            assert!((said - expected).abs() < 1e-12, "{quantile}: {said}, and not {expected}");
        };
        [(0.2, 0.048), (0.5, 0.15), (0.8, 0.72), (0.99, 1.0), (1.0, 1.0)].into_iter().for_each(|(q, e)| close(q, e));
        assert_eq!(quantile_of(0.5, &[(0.1, 0.0), (INFINITE, 0.0)]), None, "of nothing");
        assert_eq!(quantile_of(0.5, &[(INFINITE, 5.0)]), None, "no bound is known");
        assert_eq!(quantile_of(0.5, &[]), None);
    }

    #[test]
    fn what_is_shown_is_of_the_frames_between_two_looks() {
        let looked = |counts| Ok(Reading::of(&page(1.5, counts)));
        let mut latency = Latency::default();
        latency.hear(looked([1000, 1000, 1000]), 1);
        assert_eq!(latency.shown, None, "there is one look");
        latency.hear(looked([1000, 1008, 1008]), 2);
        let shown = latency.shown.clone().expect("there are two");
        let expected = Some([0.5, 0.95, 0.99].map(|quantile| 0.25 + 0.25 * quantile));
        let stage = |name: &str| (name.to_owned(), expected, expected);
        assert_eq!((shown.frames, shown.read_ns, shown.total), (8, 2, expected));
        assert_eq!(shown.stages, [stage("ingest"), stage("detect")]);

        latency.hear(looked([1000, 1008, 1008]), 3);
        assert_eq!(latency.shown, Some(shown.clone()), "no frame came: the last ones stay, with their time");
        latency.hear(Err("nothing answers".into()), 4);
        assert_eq!((latency.silence.as_deref(), &latency.shown), (Some("nothing answers"), &Some(shown)));
        // Another gateway counts from 0, and may have counted more by now.
        for (start, count) in [(2.5, 4), (3.5, 5000)] {
            latency.hear(Ok(Reading::of(&page(start, [count; 3]))), 5);
            let shown = latency.shown.as_ref().expect("there are frames");
            assert_eq!((shown.frames, shown.total), (u64::from(count), Some([0.125, 0.2375, 0.2475])));
            assert_eq!(latency.silence, None);
        }
    }

    #[test]
    fn a_page_of_anything_else_tells_nothing() {
        for strange in
            ["", "framepipe_frame_seconds_bucket{le=\"x\"} 1", "framepipe_frame_seconds_bucket{} 1", "{} 1\n}{ "]
        {
            assert_eq!(Reading::of(strange), Reading::default(), "{strange:?}");
        }
    }

    #[test]
    fn it_is_asked_where_the_gateway_listens_and_what_is_in_the_way_is_one_line() {
        let (address, server) =
            http::answering("HTTP/1.0 200 OK\r\n\r\nframepipe_frame_seconds_bucket{le=\"+Inf\"} 3\n");
        let looked = look(Some(&address)).expect("it answers");
        assert_eq!(looked.buckets(&(TOTAL, String::new())), Some(&vec![(INFINITE, 3.0)]));
        assert_eq!(server.join().expect("it answers"), "GET /metrics HTTP/1.0\nHost: localhost");
        let (address, server) = http::answering("HTTP/1.0 404 \x1b[2J\r\n\r\n");
        for (address, words) in
            [(None, "server.http is \"\""), (Some("here"), "give IP:PORT"), (Some(&*address), "404")]
        {
            let why = look(address).expect_err("there is no page");
            assert!(why.contains(words) && !why.contains(char::is_control), "{why:?}");
        }
        server.join().expect("it answers");
    }
}
