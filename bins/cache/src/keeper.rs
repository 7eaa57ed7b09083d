//! What is due, and when. One thread; each step is bounded, so that it beats and hears a stop in time.

use std::time::{Duration, Instant};

use framepipe_cache::{Area, ArenaKind, Count, Kind, Level, Limits, Pressure};
use framepipe_pipeline::{CacheConfig, Process};
use framepipe_shm::{Counter, Owner, ProcessEntry, Segment, monotonic_ns};

use crate::{
    audit::{self, Audit},
    books::Books,
    inbox::Inbox,
    jobs,
    moves::Mover,
    pressure::Gauges,
    spilled::Spilled,
    stairs::Stairs,
};

/// Between two rounds while anything goes on, and while nothing does.
const BUSY: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_millis(100);
/// For so long something goes on after the last word, or the last image in memory.
const LINGER: Duration = Duration::from_secs(1);
/// Between two sweeps of blocks.
const SWEEP: Duration = Duration::from_millis(100);
/// Room for an image, before one was seen.
const ROOM_LEAST: u64 = 1 << 20;

/// The keeper of an area.
pub struct Keeper<'a> {
    area: &'a Area,
    segment: &'a Segment,
    owner: Owner,
    entry: &'a ProcessEntry,
    limits: Limits,
    books: Books<'a>,
    gauges: Gauges,
    stairs: Stairs,
    mover: Mover,
    spilled: Spilled,
    audit: Audit,
    inbox: Inbox,
    /// Bytes that an image may need: those of the largest that was seen.
    room: u64,
    next_sweep: Instant,
    busy_until: Instant,
}

impl<'a> Keeper<'a> {
    /// Takes the area over from a predecessor, or begins it.
    pub fn open(process: &'a Process) -> Self {
        let (area, segment, order) = (process.area(), process.segment(), &process.order);
        let (config, spill) = (&order.config.cache, order.config.spill());
        let CacheConfig { memory_bytes_max, soft, hard, disk_bytes_max, .. } = *config;
        let mut keeper = Self {
            area,
            segment,
            owner: order.owner,
            entry: process.entry(),
            limits: Limits { memory_bytes_max, soft, hard, disk_bytes_max },
            books: Books::new(area, config),
            gauges: Gauges::new(area, &spill),
            stairs: Stairs::at(area.level()),
            mover: Mover::new(spill.clone(), order.owner),
            spilled: Spilled::new(spill),
            audit: Audit::new(),
            inbox: Inbox::new(&order.config),
            room: ROOM_LEAST,
            next_sweep: Instant::now(),
            busy_until: Instant::now(),
        };
        keeper.take_over();
        keeper.spilled.look_when_due(area, segment);
        keeper.weigh();
        keeper
    }

    fn take_over(&mut self) {
        let moves = self.mover.settle(self.area, self.segment);
        let repaired = self.books.take_over(now_ms());
        self.area.count(Count::Repairs, (repaired + moves) as u64);
        let entries = self.books.entries();
        if entries + moves + repaired > 0 {
            tracing::info!(
                "took over {entries} entries, whose history is lost; {repaired} were repaired, and {moves} images \
                 were about to be moved and stay"
            );
        }
    }

    /// One round. Returns how long the next one has time.
    pub fn round(&mut self) -> Duration {
        self.entry.count(Counter::Batches, 1); // it works: a death is none of a start that fails
        let heard = self.books.hear(now_ms(), |owner| jobs::is_alive(self.segment, owner));
        audit::say_of(0, heard.damaged);
        for kind in Kind::ALL {
            if let Some(number) = self.area.drop_wanted(kind) {
                self.books.drop_all(kind);
                self.area.dropped(kind, number);
                tracing::info!("all {} are dropped, as was wanted", kind.name());
            }
        }
        self.spilled.look_when_due(self.area, self.segment);
        let (level, pressure) = self.weigh();
        self.relieve(level, &pressure);
        if Instant::now() >= self.next_sweep {
            self.next_sweep = Instant::now() + SWEEP;
            jobs::sweep(self.area, self.segment, self.owner);
        }
        self.audit.slice_when_due(self.area, &mut self.books);
        self.inbox.pass_when_due(self.area, self.segment);
        if heard.offers > 0 || self.area.arena(ArenaKind::Images).in_use() > 0 {
            self.busy_until = Instant::now() + LINGER;
        }
        if Instant::now() < self.busy_until { BUSY } else { IDLE }
    }

    /// Looks how short memory is, and says it.
    fn weigh(&mut self) -> (Level, Pressure) {
        let pressure = self.gauges.read(self.area, self.books.evictable_bytes(), self.spilled.bytes);
        let (now_ms, hard_bytes) = (now_ms(), self.limits.hard_bytes(&pressure));
        let disk_bytes_max = self.limits.disk_bytes(&pressure);
        let level = self.stairs.step(self.limits.level(&pressure, self.room), now_ms);
        self.area.say(level, hard_bytes, pressure.disk_bytes, disk_bytes_max);
        if let Some(before) = self.stairs.log_due(now_ms) {
            let mib = |bytes: u64| bytes >> 20;
            tracing::info!(
                "{} (before: {}): memory {} of {} MiB, disk {} of {} MiB; free: tmpfs {} MiB, disk {} MiB",
                level.name(),
                before.name(),
                mib(pressure.memory_bytes),
                mib(self.limits.memory_bytes(&pressure)),
                mib(pressure.disk_bytes),
                mib(disk_bytes_max),
                mib(pressure.tmpfs_free_bytes),
                mib(pressure.disk_free_bytes)
            );
        }
        (level, pressure)
    }

    /// Does what the keeper does at a level.
    fn relieve(&mut self, level: Level, pressure: &Pressure) {
        let excess = pressure.memory_bytes.saturating_sub(self.limits.hard_bytes(pressure));
        if level < Level::Spill || excess == 0 {
            return;
        }
        let disk_room = self.limits.disk_bytes(pressure).saturating_sub(pressure.disk_bytes);
        let moved = self.mover.relieve(self.area, self.segment, excess, disk_room, || self.entry.beat());
        self.spilled.bytes += moved.disk_bytes;
        self.room = self.room.max(moved.largest);
        // Where no image waits to be moved, what can be made again is all that could give way.
        let gives_way = level >= Level::Evict || moved.largest == 0;
        if gives_way && moved.memory_bytes < excess {
            self.books.evict(excess - moved.memory_bytes, now_ms());
            self.next_sweep = Instant::now(); // what went may be free at once
        }
    }
}

/// The clock of the books: milliseconds.
fn now_ms() -> u64 {
    monotonic_ns() / 1_000_000
}
