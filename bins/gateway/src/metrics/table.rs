//! The table of metrics: what is not here is not told, and every row is told at each scrape. docs/monitoring.md has it for
//! people; a test compares the two.

use prometheus_client::metrics::MetricType;

/// One metric.
#[derive(Debug)]
pub struct Row {
    /// As it is told, with its unit; of a counter with `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricType,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! table {
    ($($row:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help]
        pub const $row: Row =
            Row { name: $name, kind: MetricType::$kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order in which they are told.
        #[cfg(test)]
        pub const TABLE: &[Row] = &[$($row),*];
    };
}

table! {
    BUILD: Gauge "framepipe_build_info" ["version"] "1, of the version that runs";
    START_TIME: Gauge "process_start_time_seconds" [] "When this gateway started, in seconds since 1970 (UTC)";
    READY: Gauge "framepipe_ready" [] "1 while /readyz says that the pipeline is ready";
    CANARIES: Counter "framepipe_canaries_total" ["outcome"] "Frames of the gateway's own that came back (good, failed)";
    CANARY_SECONDS: Histogram "framepipe_canary_seconds" [] "How long they took";
    ACCEPTED: Counter "framepipe_frames_accepted_total" [] "Frames accepted since the segment was made";
    IN_FLIGHT: Gauge "framepipe_frames_in_flight" ["state"] "Frames accepted and not answered yet (waiting, in_hand), and those being accepted (writing)";
    IN_FLIGHT_MAX: Gauge "framepipe_frames_in_flight_max" [] "How many there may be (server.frames_max)";
    RESULTS: Counter "framepipe_results_total" [] "Results written to the journal, errors included";
    RESULT_ERRORS: Counter "framepipe_result_errors_total" ["code"] "Results that are errors, by code";
    LATENCY: Histogram "framepipe_frame_seconds" [] "From a frame's acceptance to its result";
    QUEUED: Histogram "framepipe_frame_queued_seconds" ["stage"] "A frame's wait before a stage";
    BUSY: Histogram "framepipe_frame_busy_seconds" ["stage"] "A frame's time in a stage's hands, waits for its batch included";
    REFUSALS: Counter "framepipe_refusals_total" ["reason"] "Pushes and uploads refused, by reason";
    CALLS: Counter "framepipe_grpc_calls_total" ["method", "code"] "gRPC calls answered; of PullResult, begun";
    CONNECTIONS: Gauge "framepipe_grpc_connections" [] "gRPC connections open";
    STAGE_FRAMES: Counter "framepipe_stage_frames_total" ["stage"] "Frames that a stage passed on";
    STAGE_ERRORS: Counter "framepipe_stage_errors_total" ["stage"] "Those of them that became errors there";
    STAGE_BATCHES: Counter "framepipe_stage_batches_total" ["stage"] "Batches that a stage processed";
    STAGE_BUSY: Counter "framepipe_stage_busy_seconds_total" ["stage"] "Time that its processes spent on batches";
    STAGE_PUT_BACK: Counter "framepipe_stage_put_back_total" ["stage"] "Frames put back for want of a slot";
    STAGE_COPIED: Counter "framepipe_stage_copied_bytes_total" ["stage"] "Bytes of frames that it copied";
    STAGE_PROCESSES: Gauge "framepipe_stage_processes" ["stage", "state"] "Processes (starting, ready, stopping)";
    STAGE_HEARTBEAT: Gauge "framepipe_stage_heartbeat_age_seconds" ["stage"] "Since the process that is silent longest went round its loop";
    STAGE_RESTARTS: Counter "framepipe_stage_restarts_total" ["stage"] "Processes started again after deaths";
    STAGE_DEATHS: Counter "framepipe_stage_deaths_total" ["stage"] "Processes that died without being told to";
    STAGE_RECOVERIES: Counter "framepipe_stage_recoveries_total" ["stage"] "Repairs of what the dead had";
    STAGE_RECOVERY: Counter "framepipe_stage_recovery_seconds_total" ["stage"] "Time from the notice of a death to the end of its repair";
    STAGE_RECOVERED: Counter "framepipe_stage_recovered_frames_total" ["stage"] "Frames that the dead had in hand";
    STAGE_QUARANTINED: Counter "framepipe_stage_quarantined_frames_total" ["stage"] "Frames put into quarantine for deaths";
    CROPS: Counter "framepipe_crops_total" [] "Crops that attribute models described, one a model";
    CROP_RUNS: Counter "framepipe_crop_runs_total" [] "Runs of attribute models";
    QUEUE: Gauge "framepipe_queue_frames" ["stage"] "Frames that wait before a stage";
    QUEUE_OLDEST: Gauge "framepipe_queue_oldest_age_seconds" ["stage"] "Age, since its acceptance, of the oldest frame that waits there; 0 where none does";
    POOL_SLOTS: Gauge "framepipe_pool_slots" ["pool"] "Slots of a pool";
    POOL_USED: Gauge "framepipe_pool_used_slots" ["pool"] "Those of them that frames have";
    SHARED_MEMORY: Gauge "framepipe_shared_memory_bytes" ["owner"] "Shared memory: reserved (segment, pools, slabs), in use (cache, journal)";
    RESIDENT: Gauge "framepipe_resident_memory_bytes" ["process"] "Resident memory of processes of a kind, shared memory that they touched included";
    CACHE_LEVEL: Gauge "framepipe_cache_level" [] "What is done about its memory: 0 in place, 1 copy on read, 2 spill, 3 evict, 4 refuse";
    CACHE_BYTES: Gauge "framepipe_cache_used_bytes" ["kind"] "Memory of the cache in use";
    CACHE_DISK: Gauge "framepipe_cache_disk_bytes" [] "Images that it keeps on disk";
    CACHE_ENTRIES: Gauge "framepipe_cache_entries" ["kind"] "What it remembers";
    CACHE_HITS: Counter "framepipe_cache_hits_total" ["kind"] "Found when it was looked for";
    CACHE_MISSES: Counter "framepipe_cache_misses_total" ["kind"] "Not found";
    CACHE_INSERTIONS: Counter "framepipe_cache_insertions_total" ["kind"] "Entered";
    CACHE_EVICTIONS: Counter "framepipe_cache_evictions_total" ["kind"] "Gone to make room";
    CACHE_DAMAGED: Counter "framepipe_cache_damaged_total" ["kind"] "Dropped as damaged";
    CACHE_IMAGES: Counter "framepipe_cache_images_total" ["event"] "Images that framepipe keeps: held, spilled, moved, restored, copied, read_in_place, damaged";
    CACHE_REFUSED: Counter "framepipe_cache_refused_calls_total" [] "Calls that it refused for want of room";
    CACHE_IMAGES_LIMIT: Gauge "framepipe_cache_images_limit_bytes" ["place"] "Bytes of kept images that there may be at this moment (memory, disk)";
    JOURNAL_RESULTS: Gauge "framepipe_journal_unread_results" [] "Results that nobody has acknowledged";
    JOURNAL_BYTES: Gauge "framepipe_journal_unread_bytes" [] "Their bytes";
    JOURNAL_FULLEST: Gauge "framepipe_journal_fullest_stream_bytes" [] "Bytes of the stream that has most";
    JOURNAL_STREAM_MAX: Gauge "framepipe_journal_stream_bytes_max" [] "What a stream may have (journal.stream_bytes_max)";
    JOURNAL_RESERVED: Gauge "framepipe_journal_reserved_frames" [] "Frames in flight whose results have room booked";
    JOURNAL_STREAMS: Gauge "framepipe_journal_streams" [] "Streams";
    JOURNAL_DROPPED: Counter "framepipe_journal_dropped_results_total" [] "Results dropped unread for their age";
    FILE_SYSTEM: Gauge "framepipe_file_system_bytes" ["folder"] "Size of the file system of a folder (state, shm; inbox: the fullest of them)";
    FILE_SYSTEM_FREE: Gauge "framepipe_file_system_free_bytes" ["folder"] "What this process may have of it yet";
    GPU_BUSY: Gauge "framepipe_gpu_busy_ratio" [] "Share of the last moments in which something ran on the pipeline's GPU, whoever's";
    GPU_MEMORY: Gauge "framepipe_gpu_memory_bytes" [] "That GPU's memory";
    GPU_MEMORY_USED: Gauge "framepipe_gpu_memory_used_bytes" [] "What is used of it, by whomever";
    GPU_TEMPERATURE: Gauge "framepipe_gpu_temperature_celsius" [] "Its temperature";
    GPU_POWER: Gauge "framepipe_gpu_power_watts" [] "What it draws";
    GPU_ECC: Counter "framepipe_gpu_ecc_errors_total" ["kind"] "Errors of its memory since its driver was loaded (corrected, uncorrected)";
    TRACE_DROPPED: Counter "framepipe_trace_dropped_frames_total" [] "Frames whose spans were dropped: too many waited, or the collector refused their batch";
    TRACE_REJECTED: Counter "framepipe_trace_rejected_spans_total" [] "Spans that the collector refused of batches that it took";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table in docs/monitoring.md: | `name` | kind | labels | meaning |.
    fn documented() -> Vec<[String; 4]> {
        let text = include_str!("../../../../docs/monitoring.md");
        let rows = text.lines().filter(|line| line.starts_with("| `framepipe_") || line.starts_with("| `process_"));
        let cells = |line: &str| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
            std::array::from_fn(|_| cells.next().expect("four cells"))
        };
        rows.map(cells).collect()
    }

    #[test]
    fn the_documentation_has_this_table() {
        let kind = |kind: MetricType| match kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            other => panic!("no metric is a {other:?}"),
        };
        let row = |row: &Row| [row.name.into(), kind(row.kind).into(), row.labels.join(", "), row.help.into()];
        let expected: Vec<[String; 4]> = TABLE.iter().map(row).collect();
        for (documented, expected) in documented().iter().zip(&expected) {
            assert_eq!(documented, expected);
        }
        assert_eq!(documented().len(), expected.len());
    }

    #[test]
    fn names_follow_the_conventions() {
        for row in TABLE {
            // But for the one that Prometheus itself has a name for.
            assert!(row.name.starts_with("framepipe_") || row.name == START_TIME.name, "{row:?}");
            assert_eq!(row.name.ends_with("_total"), matches!(row.kind, MetricType::Counter), "{row:?}");
            assert!(!row.help.ends_with('.') && !row.help.contains('|'), "{row:?}");
        }
    }
}
