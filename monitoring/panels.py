"""The dashboard's table: what each panel shows. `dashboard.py` makes dashboard.json of it.

`$at` stands for the pipelines that are chosen above, `$each` for Grafana's shortest sensible interval.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Panel:
    """A graph: its title, the unit of its axis, and expressions with their legends."""

    title: str
    unit: str
    lines: dict[str, str]
    about: str
    is_stacked: bool = False
    options: dict[str, float] = field(default_factory=dict)


def of(expression: str, *, by: str = "", across: str = "sum") -> str:
    """Join the pipelines that are chosen, or keep these labels apart."""
    return f"{across} by ({by}) ({expression})" if by else f"{across}({expression})"


def rate(metric: str, labels: str = "") -> str:
    """Per second."""
    return f"rate({metric}{{{labels + ',' if labels else ''}$at}}[$each])"


def quantile(part: float, metric: str, by: str = "") -> str:
    """Read a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, sum by ({labels}) ({rate(metric + '_bucket')}))"


def share(part: str, whole: str) -> str:
    """Tell a part of a whole, from 0 to 1."""
    return f"{part} / ({whole} > 0)"


SHARE = {"min": 0, "max": 1}

ROWS: dict[str, list[Panel]] = {
    "Frames": [
        Panel("Ready", "bool_yes_no", {"{{instance}}": "framepipe_ready{$at}"},
              "Whether a frame that is pushed now gets through; /readyz says why not.", options=SHARE),
        Panel("Frames a second", "ops", {
            "accepted": of(rate("framepipe_frames_accepted_total")),
            "results": of(rate("framepipe_results_total")),
            "of them errors": of(rate("framepipe_result_errors_total")),
        }, "What comes in and what goes out. They are the same but for what is in flight."),
        Panel("Errors by code", "ops", {"{{code}}": of(rate("framepipe_result_errors_total"), by="code")},
              "Results that are errors; of broken images, their clients' own.", is_stacked=True),
        Panel("Pushes refused", "ops", {"{{reason}}": of(rate("framepipe_refusals_total"), by="reason")},
              "budget, line: more comes than it can do; journal: results are not read; invalid: the call's own fault.",
              is_stacked=True),
        Panel("Frames in flight", "short", {
            "{{state}}": of('framepipe_frames_in_flight{$at}', by="state"),
            "the most there may be": of("framepipe_frames_in_flight_max{$at}"),
        }, "Accepted and not answered yet."),
        Panel("Frames unaccounted for", "short", {
            "{{instance}}": "framepipe_frames_accepted_total{$at} - framepipe_results_total{$at}"
            " - sum without (state) (framepipe_frames_in_flight{$at})",
        }, "Accepted, not in flight, without a result: flat, but for a new gateway, which counts results from 0."),
    ],
    "Latency": [
        Panel("A frame's time", "s", {
            "half": quantile(0.5, "framepipe_frame_seconds"),
            "90 %": quantile(0.9, "framepipe_frame_seconds"),
            "99 %": quantile(0.99, "framepipe_frame_seconds"),
        }, "From acceptance to result."),
        Panel("Wait before each stage, 99 %", "s",
              {"{{stage}}": quantile(0.99, "framepipe_frame_queued_seconds", "stage")}, "Where frames wait."),
        Panel("Time in each stage, 99 %", "s",
              {"{{stage}}": quantile(0.99, "framepipe_frame_busy_seconds", "stage")},
              "In a process's hands, waits for a batch included."),
        Panel("The gateway's own frames", "s", {
            "half": quantile(0.5, "framepipe_canary_seconds"),
            "99 %": quantile(0.99, "framepipe_canary_seconds"),
        }, "Canaries, sent while no results come: none on a busy pipeline."),
    ],
    "Stages": [
        Panel("Frames waiting before each stage", "short", {"{{stage}}": of("framepipe_queue_frames{$at}", by="stage")},
              "The one that is full is before the slowest stage.", is_stacked=True),
        Panel("Age of the oldest that waits", "s",
              {"{{stage}}": of("framepipe_queue_oldest_age_seconds{$at}", by="stage", across="max")},
              "Since its acceptance."),
        Panel("Busy share of each stage's processes", "percentunit", {
            "{{stage}}": share(of(rate("framepipe_stage_busy_seconds_total"), by="stage"),
                               of('framepipe_stage_processes{state="ready",$at}', by="stage")),
        }, "At 1 all its processes always work: it is the limit, and more processes help where there are cores.",
              options=SHARE),
        Panel("Processes", "short", {
            "{{stage}} {{state}}": of("framepipe_stage_processes{$at}", by="stage, state") + " > 0",
        }, "By stage and state."),
        Panel("Frames in a batch", "short", {
            "{{stage}}": share(of(rate("framepipe_stage_frames_total"), by="stage"),
                               of(rate("framepipe_stage_batches_total"), by="stage")),
        }, "Of what was worked on in this interval."),
        Panel("Put back for want of a slot", "ops",
              {"{{stage}}": of(rate("framepipe_stage_put_back_total"), by="stage")},
              "Stages that wait for memory: their pool is too small, or the next stage too slow."),
    ],
    "Memory": [
        Panel("Shared memory by owner", "bytes",
              {"{{owner}}": of("framepipe_shared_memory_bytes{$at}", by="owner")},
              "Segment, pools and slabs are reserved; cache and journal in use.", is_stacked=True),
        Panel("Resident memory by kind of process", "bytes",
              {"{{process}}": of("framepipe_resident_memory_bytes{$at}", by="process")},
              "Shared memory that they touched included, so the sum counts it several times."),
        Panel("Slots in use", "percentunit", {
            "{{pool}}": share(of("framepipe_pool_used_slots{$at}", by="pool"),
                              of("framepipe_pool_slots{$at}", by="pool")),
        }, "A pool that is full holds the stage up that writes it.", options=SHARE),
        Panel("File systems", "percentunit", {
            "{{folder}} {{instance}}": "1 - " + share("framepipe_file_system_free_bytes{$at}",
                                                      "framepipe_file_system_bytes{$at}"),
        }, "How full they are in which results, images and the segment lie.", options=SHARE),
    ],
    "Cache": [
        Panel("Level", "short", {"{{instance}}": "framepipe_cache_level{$at}"},
              "0 read in place, 1 copied on read, 2 moved to the disk, 3 evicted, 4 refused.",
              options={"min": 0, "max": 4}),
        Panel("Memory and disk", "bytes", {
            "{{kind}}": of("framepipe_cache_used_bytes{$at}", by="kind"),
            "images on the disk": of("framepipe_cache_disk_bytes{$at}"),
        }, "In use.", is_stacked=True),
        Panel("Room of kept images", "percentunit", {
            "{{instance}}": share('(sum without (kind) (framepipe_cache_used_bytes{kind="images",$at})'
                                  " + framepipe_cache_disk_bytes{$at})",
                                  "sum without (place) (framepipe_cache_images_limit_bytes{$at})"),
        }, "In memory and on disk together: at 1, pushes with HOLD_COPY and uploads are refused.", options=SHARE),
        Panel("Found when looked for", "percentunit", {
            "{{kind}}": share(of(rate("framepipe_cache_hits_total"), by="kind"),
                              f"{of(rate('framepipe_cache_hits_total'), by='kind')}"
                              f" + {of(rate('framepipe_cache_misses_total'), by='kind')}"),
        }, "Tensors and results of images that came again.", options=SHARE),
        Panel("Calls refused for want of their room", "ops", {
            "{{instance}}": rate("framepipe_refusals_total", 'reason="store"'),
        }, "Of pushes with HOLD_COPY, and of uploads."),
        Panel("Kept images", "ops", {"{{event}}": of(rate("framepipe_cache_images_total"), by="event")},
              "What became of images of HOLD_COPY and Upload."),
    ],
    "Journal": [
        Panel("Unread results", "short", {"unread": of("framepipe_journal_unread_results{$at}")},
              "Results that nobody has acknowledged."),
        Panel("Their bytes", "bytes", {
            "all streams": of("framepipe_journal_unread_bytes{$at}"),
            "the fullest stream": of("framepipe_journal_fullest_stream_bytes{$at}", across="max"),
            "the most of a stream": of("framepipe_journal_stream_bytes_max{$at}", across="max"),
        }, "At the most, the stream's new frames are refused."),
        Panel("Streams, connections", "short", {
            "streams": of("framepipe_journal_streams{$at}"),
            "connections": of("framepipe_grpc_connections{$at}"),
        }, "What clients have open."),
        Panel("gRPC calls", "ops", {"{{method}} {{code}}": of(rate("framepipe_grpc_calls_total"), by="method, code")},
              "Answered; of PullResult, begun."),
    ],
    "Deaths": [
        Panel("Processes started again", "short", {
            "{{stage}}": of("increase(framepipe_stage_restarts_total{$at}[$each])", by="stage"),
        }, "After deaths.", is_stacked=True),
        Panel("Time of a repair", "s", {
            "{{stage}}": share(of(rate("framepipe_stage_recovery_seconds_total"), by="stage"),
                               of(rate("framepipe_stage_recoveries_total"), by="stage")),
        }, "From the notice of a death to the end of its repair, on average."),
        Panel("Frames put back by repairs", "short", {
            "{{stage}}": of("increase(framepipe_stage_recovered_frames_total{$at}[$each])", by="stage"),
        }, "What the dead had in hand; it is done again.", is_stacked=True),
        Panel("Frames put into quarantine", "short", {
            "{{stage}}": of("increase(framepipe_stage_quarantined_frames_total{$at}[$each])", by="stage"),
        }, "They killed their stage again and again: framepipe quarantine list.", is_stacked=True),
    ],
}
