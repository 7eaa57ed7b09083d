//! A scrape: every row of the table, filled with what is so at that moment.

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use framepipe_cache::{ArenaKind, Count};
use framepipe_frame::ErrorCode;
use framepipe_journal::Totals;
use framepipe_pipeline::{
    CacheStats, Config, GATEWAY, JournalConfig, KEEPER, Pool, Process,
    observe::{Jobs, PoolUse, Queue, StageTotals, oldest_waiting, resident_bytes},
    process_name,
};
use framepipe_shm::{Counter, Segment, monotonic_ns};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, prometheus_text},
    metrics::{MetricType, histogram::Histogram},
    registry::Registry,
};
use rustix::fs::{StatVfs, statvfs};

use super::{
    CODES, METHODS, REFUSALS,
    gpu::{Figures, Watch},
    table::{self, Row},
};
use crate::hub::Hub;

/// What a scrape is, for HTTP.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Who answers scrapes.
pub struct Scrape {
    registry: Registry,
}

impl Scrape {
    /// Of this gateway.
    pub fn new(process: &'static Process, hub: Arc<Hub>) -> Self {
        let mut registry = Registry::default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let gpu = Watch::start(&process.order.config);
        registry.register_collector(Box::new(Readings { process, hub, started, gpu }));
        Self { registry }
    }

    /// A scrape. It reads tables and files: not for a thread that must not wait.
    ///
    /// # Errors
    /// None but those of formatting, which there are none of.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

struct Readings {
    process: &'static Process,
    hub: Arc<Hub>,
    /// Seconds since 1970.
    started: f64,
    gpu: Watch,
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

/// Writes rows.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    /// A row of counters or gauges: values by their labels', which come in the row's order.
    fn row<const N: usize>(
        &mut self,
        row: &Row,
        samples: impl IntoIterator<Item = ([&'static str; N], f64)>,
    ) -> fmt::Result {
        assert_eq!(row.labels.len(), N, "{row:?}");
        let is_counter = matches!(row.kind, MetricType::Counter);
        let name = if is_counter { row.name.trim_end_matches("_total") } else { row.name };
        let mut metric = self.0.encode_descriptor(name, row.help, None, row.kind)?;
        for (values, value) in samples {
            let labels: [(&str, &str); N] = std::array::from_fn(|place| (row.labels[place], values[place]));
            let mut sample = metric.encode_family(&labels)?;
            match is_counter {
                true => sample.encode_counter::<NoLabelSet, f64, f64>(&value, None)?,
                false => sample.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn one(&mut self, row: &Row, value: f64) -> fmt::Result {
        self.row(row, [([], value)])
    }

    fn histograms<'h, const N: usize>(
        &mut self,
        row: &Row,
        samples: impl IntoIterator<Item = ([&'static str; N], &'h Histogram)>,
    ) -> fmt::Result {
        assert_eq!(row.labels.len(), N, "{row:?}");
        let mut metric = self.0.encode_descriptor(row.name, row.help, None, row.kind)?;
        for (values, histogram) in samples {
            let labels: [(&str, &str); N] = std::array::from_fn(|place| (row.labels[place], values[place]));
            histogram.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Readings {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(encoder);
        let stages = StageTotals::all(self.segment());
        let journal = self.hub.lock().journals.totals();
        self.own(page)?;
        self.calls(page)?;
        of_stages(page, &stages)?;
        self.queues_and_pools(page)?;
        self.memory(page, &stages, journal.memory_bytes)?;
        self.cache(page)?;
        of_journal(page, &journal, stages[GATEWAY].counted(Counter::Dropped), &self.process.order.config.journal)?;
        of_file_systems(page, &self.process.order.config)?;
        self.gpu(page)?;
        self.traces(page)
    }
}

impl Readings {
    fn segment(&self) -> &'static Segment {
        self.process.segment()
    }

    /// Readiness, and frames as a whole.
    fn own(&self, page: &mut Page<'_>) -> fmt::Result {
        let (metrics, segment) = (&self.hub.metrics, self.segment());
        page.row(&table::BUILD, [([env!("CARGO_PKG_VERSION")], 1.0)])?;
        page.one(&table::START_TIME, self.started)?;
        page.one(&table::READY, f64::from(u8::from(self.hub.health.report().is_ready())))?;
        let canaries = metrics.canaries.each_ref().map(|count| count.load(Ordering::Relaxed) as f64);
        page.row(&table::CANARIES, [(["good"], canaries[1]), (["failed"], canaries[0])])?;
        page.histograms(&table::CANARY_SECONDS, [([], &metrics.canary)])?;
        page.one(&table::ACCEPTED, segment.accepted() as f64)?;
        let Jobs { writing, ready, claimed, .. } = Jobs::of(segment);
        let states = [("waiting", ready), ("in_hand", claimed), ("writing", writing)];
        page.row(&table::IN_FLIGHT, states.map(|(state, jobs)| ([state], jobs as f64)))?;
        page.one(&table::IN_FLIGHT_MAX, f64::from(segment.frame_jobs()))?;
        page.one(&table::RESULTS, metrics.results.load(Ordering::Relaxed) as f64)?;
        let errors = ErrorCode::ALL.iter().zip(&metrics.errors);
        page.row(
            &table::RESULT_ERRORS,
            errors.map(|(code, count)| ([code.name()], count.load(Ordering::Relaxed) as f64)),
        )?;
        page.histograms(&table::LATENCY, [([], &metrics.latency)])?;
        let of_stages = |histograms| (0..=GATEWAY).map(|stage| [process_name(stage)]).zip(histograms);
        page.histograms(&table::QUEUED, of_stages(&metrics.queued))?;
        page.histograms(&table::BUSY, of_stages(&metrics.busy))
    }

    fn calls(&self, page: &mut Page<'_>) -> fmt::Result {
        let metrics = &self.hub.metrics;
        let reasons = REFUSALS.iter().zip(&metrics.refusals);
        page.row(&table::REFUSALS, reasons.map(|(why, count)| ([why.name()], count.load(Ordering::Relaxed) as f64)))?;
        // Of the codes that a method never gave, there are no series: but for OK, from which rates are taken.
        let calls = METHODS.iter().zip(&metrics.calls).flat_map(|((_, method), counts)| {
            let counts = CODES.iter().zip(counts).map(|((_, code), count)| (*code, count.load(Ordering::Relaxed)));
            let told = counts.filter(|(code, count)| *count > 0 || *code == "ok");
            told.map(move |(code, count)| ([*method, code], count as f64))
        });
        page.row(&table::CALLS, calls)?;
        page.one(&table::CONNECTIONS, self.hub.connections_open() as f64)
    }

    fn gpu(&self, page: &mut Page<'_>) -> fmt::Result {
        let Figures { busy, memory, celsius, watts, ecc } = self.gpu.figures();
        page.row(&table::GPU_BUSY, busy.map(|share| ([], share)))?;
        page.row(&table::GPU_MEMORY, memory.map(|[_, total]| ([], total as f64)))?;
        page.row(&table::GPU_MEMORY_USED, memory.map(|[used, _]| ([], used as f64)))?;
        page.row(&table::GPU_TEMPERATURE, celsius.map(|degrees| ([], f64::from(degrees))))?;
        page.row(&table::GPU_POWER, watts.map(|watts| ([], watts)))?;
        let ecc = ecc.map(|[fixed, lost]| [(["corrected"], fixed as f64), (["uncorrected"], lost as f64)]);
        page.row(&table::GPU_ECC, ecc.into_iter().flatten())
    }

    fn traces(&self, page: &mut Page<'_>) -> fmt::Result {
        let traces = &self.hub.metrics.traces;
        page.one(&table::TRACE_DROPPED, traces.dropped_frames.load(Ordering::Relaxed) as f64)?;
        page.one(&table::TRACE_REJECTED, traces.rejected_spans.load(Ordering::Relaxed) as f64)
    }

    fn queues_and_pools(&self, page: &mut Page<'_>) -> fmt::Result {
        let (segment, now_ns) = (self.segment(), monotonic_ns());
        let stages = || (0..=GATEWAY).map(|stage| [process_name(stage)]);
        page.row(&table::QUEUE, stages().zip(Queue::all(segment)).map(|(stage, queue)| (stage, queue.depth as f64)))?;
        let age = |accepted: Option<u64>| accepted.map_or(0.0, |accepted| now_ns.saturating_sub(accepted) as f64 / 1e9);
        let oldest = oldest_waiting(segment);
        page.row(&table::QUEUE_OLDEST, stages().zip(oldest).map(|(stage, accepted)| (stage, age(accepted))))?;
        let pools = PoolUse::all(segment);
        let by_pool = |value: fn(&PoolUse) -> usize| -> Vec<_> {
            Pool::ALL.iter().zip(&pools).map(|(pool, used)| ([pool.name()], value(used) as f64)).collect()
        };
        page.row(&table::POOL_SLOTS, by_pool(|pool| pool.slots))?;
        page.row(&table::POOL_USED, by_pool(|pool| pool.used))
    }

    fn memory(&self, page: &mut Page<'_>, stages: &[StageTotals], journal: u64) -> fmt::Result {
        let (segment, area) = (self.segment(), self.process.area());
        let geometry = segment.geometry();
        let bytes = |is_handed: bool| -> u64 {
            let pools = geometry.pools.iter().enumerate().filter(|(pool, _)| geometry.is_handed(*pool) == is_handed);
            pools.map(|(_, pool)| pool.bytes()).sum()
        };
        let (pools, slabs) = (bytes(false), bytes(true));
        let tables = Segment::bytes_needed(geometry).unwrap_or(0).saturating_sub(pools);
        let cache = area.memory_bytes();
        let owners = [("segment", tables), ("pools", pools), ("slabs", slabs), ("cache", cache), ("journal", journal)];
        page.row(&table::SHARED_MEMORY, owners.map(|(owner, bytes)| ([owner], bytes as f64)))?;
        let launcher = std::os::unix::process::parent_id();
        let processes = (0..=KEEPER).map(|stage| ([process_name(stage)], stages[stage].resident_bytes as f64));
        page.row(&table::RESIDENT, processes.chain([(["launcher"], resident_bytes(launcher) as f64)]))
    }

    fn cache(&self, page: &mut Page<'_>) -> fmt::Result {
        let (area, config) = (self.process.area(), &self.process.order.config.cache);
        let stats = CacheStats::of(area, config);
        let kinds = framepipe_cache::Kind::ALL.map(framepipe_cache::Kind::name);
        let of_kinds = |value: fn(&framepipe_pipeline::KindStats) -> u64| -> Vec<_> {
            kinds.iter().zip(&stats.kinds).map(|(kind, stats)| ([*kind], value(stats) as f64)).collect()
        };
        page.one(&table::CACHE_LEVEL, f64::from(area.level() as u32))?;
        let images = [(["images"], area.arena(ArenaKind::Images).bytes_in_use() as f64)];
        page.row(&table::CACHE_BYTES, of_kinds(|kind| kind.bytes).into_iter().chain(images))?;
        page.one(&table::CACHE_DISK, stats.disk_bytes as f64)?;
        page.row(&table::CACHE_ENTRIES, of_kinds(|kind| kind.entries))?;
        page.row(&table::CACHE_HITS, of_kinds(|kind| kind.hits))?;
        page.row(&table::CACHE_MISSES, of_kinds(|kind| kind.misses))?;
        page.row(&table::CACHE_INSERTIONS, of_kinds(|kind| kind.insertions))?;
        page.row(&table::CACHE_EVICTIONS, of_kinds(|kind| kind.evictions))?;
        page.row(&table::CACHE_DAMAGED, of_kinds(|kind| kind.damaged))?;
        let images = &stats.images;
        let events = [
            ("held", images.held),
            ("spilled", images.spilled),
            ("moved", images.moved),
            ("restored", images.restored),
            ("copied", images.copied_on_read),
            ("read_in_place", images.read_in_place),
            ("damaged", images.damaged),
        ];
        page.row(&table::CACHE_IMAGES, events.map(|(event, count)| ([event], count as f64)))?;
        page.one(&table::CACHE_REFUSED, area.counted(Count::Refused) as f64)?;
        let (memory, _, disk) = self.hub.store.limits();
        let limits = [(["memory"], memory as f64), (["disk"], disk as f64)];
        page.row(&table::CACHE_IMAGES_LIMIT, limits)
    }
}

fn of_stages(page: &mut Page<'_>, all: &[StageTotals]) -> fmt::Result {
    let by_stage = |value: &dyn Fn(&StageTotals) -> f64| -> Vec<_> {
        all.iter().enumerate().map(|(stage, totals)| ([process_name(stage)], value(totals))).collect()
    };
    let counted = |counter: Counter| by_stage(&|totals| totals.counted(counter) as f64);
    let seconds = |counter: Counter| by_stage(&|totals| totals.counted(counter) as f64 / 1e9);
    page.row(&table::STAGE_FRAMES, counted(Counter::Frames))?;
    page.row(&table::STAGE_ERRORS, counted(Counter::Errors))?;
    page.row(&table::STAGE_BATCHES, counted(Counter::Batches))?;
    page.row(&table::STAGE_BUSY, seconds(Counter::BusyNs))?;
    page.row(&table::STAGE_PUT_BACK, counted(Counter::PutBack))?;
    page.row(&table::STAGE_COPIED, counted(Counter::BytesCopied))?;
    let processes = all.iter().enumerate().flat_map(|(stage, totals)| {
        let states = [("starting", totals.starting), ("ready", totals.ready), ("stopping", totals.stopping)];
        states.map(|(state, count)| ([process_name(stage), state], count as f64))
    });
    page.row(&table::STAGE_PROCESSES, processes)?;
    page.row(&table::STAGE_HEARTBEAT, by_stage(&|totals| totals.heartbeat_age_ns.unwrap_or(0) as f64 / 1e9))?;
    page.row(&table::STAGE_RESTARTS, by_stage(&|totals| totals.restarts as f64))?;
    page.row(&table::STAGE_DEATHS, counted(Counter::Deaths))?;
    page.row(&table::STAGE_RECOVERIES, counted(Counter::Recoveries))?;
    page.row(&table::STAGE_RECOVERY, seconds(Counter::RecoveryNs))?;
    page.row(&table::STAGE_RECOVERED, counted(Counter::RecoveredFrames))?;
    page.row(&table::STAGE_QUARANTINED, counted(Counter::Quarantined))?;
    let sum = |counter| all.iter().map(|totals| totals.counted(counter)).sum::<u64>() as f64;
    page.one(&table::CROPS, sum(Counter::Crops))?;
    page.one(&table::CROP_RUNS, sum(Counter::CropRuns))
}

fn of_journal(page: &mut Page<'_>, totals: &Totals, dropped: u64, config: &JournalConfig) -> fmt::Result {
    page.one(&table::JOURNAL_RESULTS, totals.records as f64)?;
    page.one(&table::JOURNAL_BYTES, totals.bytes as f64)?;
    page.one(&table::JOURNAL_FULLEST, totals.fullest_bytes as f64)?;
    page.one(&table::JOURNAL_STREAM_MAX, config.stream_bytes_max as f64)?;
    page.one(&table::JOURNAL_RESERVED, totals.reserved_frames as f64)?;
    page.one(&table::JOURNAL_STREAMS, totals.streams as f64)?;
    page.one(&table::JOURNAL_DROPPED, dropped as f64)
}

/// Where results, kept images, the segment and clients' images lie. One that cannot be asked is left out: a 0 would be an alarm.
fn of_file_systems(page: &mut Page<'_>, config: &Config) -> fmt::Result {
    let ask = |folder: &Path| statvfs(folder).ok();
    let free_share = |room: &StatVfs| room.f_bavail as f64 / room.f_blocks.max(1) as f64;
    let inboxes = config.server.inbox.iter().filter_map(|inbox| ask(inbox));
    let fullest = inboxes.min_by(|one, other| free_share(one).total_cmp(&free_share(other)));
    let rooms = [("state", ask(&config.state)), ("shm", ask(&config.shm)), ("inbox", fullest)];
    let bytes = |blocks: fn(&StatVfs) -> u64| -> Vec<_> {
        let told = rooms.iter().filter_map(|(name, room)| Some((*name, room.as_ref()?)));
        told.map(|(name, room)| ([name], blocks(room) as f64 * room.f_frsize as f64)).collect()
    };
    page.row(&table::FILE_SYSTEM, bytes(|room| room.f_blocks))?;
    page.row(&table::FILE_SYSTEM_FREE, bytes(|room| room.f_bavail))
}
