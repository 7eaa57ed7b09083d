//! Who may take how much of the pipeline: a budget in frames and in bytes, shared fairly between the streams that want it.
//!
//! Of k active streams each holds at most 1/k of the budget: one client's flood leaves room for another's trickle. Within
//! that it is first come, first served: a call that waits keeps its turn, and later ones take no room that it could have.
//! A stream is active while it holds frames, waits in the line, or was lately accepted or refused for want of room; a call
//! that was refused for its own faults makes none active.
//!
//! Whatever gives room walks the line once and wakes those alone that fit now.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use framepipe_journal::StreamId;
use tokio::sync::Notify;

/// Most calls of one stream that wait.
const STREAM_WAITING_MAX: usize = 64;
/// A stream counts as active for so long after its last call that was good, whether or not there was room.
const ACTIVE: Duration = Duration::from_secs(1);
/// The rate of results is looked at over so long.
const RATE_WINDOW: Duration = Duration::from_millis(250);
/// Bounds of the advice when to try again.
const RETRY_LEAST: Duration = Duration::from_millis(5);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Frames, and the bytes of their images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Frames.
    pub frames: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Load {
    fn add_assign(&mut self, more: Load) {
        self.frames += more.frames;
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl Load {
    fn take(&mut self, less: Load) {
        self.frames = self.frames.saturating_sub(less.frames);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }

    fn with(mut self, more: Load) -> Self {
        self += more;
        self
    }

    fn fits(&self, budget: &Load) -> bool {
        self.frames <= budget.frames && self.bytes <= budget.bytes
    }
}

/// Why there is no room.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// What the call wanted, what stood in its way, and what to do about it.
    pub words: String,
    /// When it is worth trying again.
    pub retry: Duration,
}

/// A call's place in the line of those that wait.
#[derive(Clone, Debug)]
pub struct Ticket {
    number: u64,
    /// Woken when it may fit.
    pub news: Arc<Notify>,
}

struct Waiting {
    ticket: Ticket,
    stream: Option<StreamId>,
    load: Load,
    /// It is not the budget that refuses it: it stands in nobody's way, and makes no stream active.
    is_aside: bool,
}

#[derive(Default)]
struct Share {
    held: Load,
    /// Its calls in the line, without those that stand aside.
    waiting: u32,
    /// When it was last accepted, or refused for want of room.
    seen: Option<Instant>,
}

impl Share {
    fn is_active(&self, now: Instant) -> bool {
        self.held.frames > 0 || self.waiting > 0 || self.seen.is_some_and(|seen| now.duration_since(seen) < ACTIVE)
    }
}

/// The budget, and who has how much of it.
pub struct Admission {
    budget: Load,
    streams_max: usize,
    held: Load,
    shares: HashMap<StreamId, Share>,
    line: VecDeque<Waiting>,
    next_ticket: u64,
    rate: Rate,
}

impl Admission {
    /// Nobody holds anything. `streams_max` bounds how many streams are told apart.
    pub fn new(budget: Load, streams_max: usize, now: Instant) -> Self {
        Self {
            budget,
            streams_max,
            held: Load::default(),
            shares: HashMap::new(),
            line: VecDeque::new(),
            next_ticket: 0,
            rate: Rate::new(now),
        }
    }

    /// Looks whether there is room. A call without a stream gets one of its own.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn ask(
        &mut self,
        stream: Option<&StreamId>,
        load: Load,
        ticket: Option<&Ticket>,
        now: Instant,
    ) -> Result<(), NoRoom> {
        self.shares.retain(|_, share| share.is_active(now));
        let (share, active) = self.share(stream);
        let held = stream.and_then(|stream| self.shares.get(stream)).map_or(Load::default(), |share| share.held);
        if active > 1 && !within_share(held, load, share) {
            let lacking = held.with(load).frames.saturating_sub(share.frames).max(1);
            let words = format!(
                "{} do not fit: the stream holds {} of its share of {}, 1/{active} of the budget, while {active} streams \
                 are active; send smaller batches, or try again once results came",
                said(load),
                said(held),
                said(share)
            );
            return Err(NoRoom { words, retry: self.rate.time_for(lacking * active, now) });
        }
        let ahead = self.walk(ticket, |_, _| true);
        let taken = self.held.with(ahead).with(load);
        if !taken.fits(&self.budget) {
            let words = format!(
                "{} do not fit: {} are in flight and {} wait before, of {} (server.frames_max, server.bytes_max); try \
                 again once results came",
                said(load),
                said(self.held),
                said(ahead),
                said(self.budget)
            );
            let lacking = taken.frames.saturating_sub(self.budget.frames).max(1);
            return Err(NoRoom { words, retry: self.rate.time_for(lacking, now) });
        }
        Ok(())
    }

    /// A stream's share, and the number of active streams.
    fn share(&self, stream: Option<&StreamId>) -> (Load, u64) {
        let newcomer = stream.is_none_or(|stream| !self.shares.contains_key(stream));
        let active = self.shares.len() as u64 + u64::from(newcomer);
        let Load { frames, bytes } = self.budget;
        (Load { frames: (frames / active).max(1), bytes: bytes / active }, active)
    }

    /// Walks the line up to this place, or while `look` is true, which is shown each call that is within its share, and what
    /// those before it may take: of each stream, what is left of its share. Who waits for more stands in nobody's way.
    /// Returns what all of them may take.
    fn walk(&self, until: Option<&Ticket>, mut look: impl FnMut(&Waiting, Load) -> bool) -> Load {
        let mut ahead = Load::default();
        let mut taken: HashMap<&StreamId, Load> = HashMap::new();
        for waiting in &self.line {
            if until.is_some_and(|ticket| ticket.number == waiting.ticket.number) {
                break;
            }
            let stream = waiting.stream.as_ref();
            let mut alone = Load::default(); // a call without a stream gets one of its own
            let held = stream.map_or(&mut alone, |stream| {
                let held = || self.shares.get(stream).map_or(Load::default(), |share| share.held);
                taken.entry(stream).or_insert_with(held)
            });
            if within_share(*held, waiting.load, self.share(stream).0) {
                if !look(waiting, ahead) {
                    break;
                }
                if !waiting.is_aside {
                    *held += waiting.load;
                    ahead += waiting.load;
                }
            }
        }
        ahead
    }

    /// Wakes the calls in the line that fit now; of those that stand aside, the ones of the streams that `is_meant`.
    /// Returns how many.
    pub fn wake(&mut self, is_meant: impl Fn(Option<&StreamId>) -> bool, now: Instant) -> usize {
        if self.line.is_empty() {
            return 0;
        }
        self.shares.retain(|_, share| share.is_active(now));
        let mut woken = 0;
        self.walk(None, |waiting, ahead| {
            let before = self.held.with(ahead);
            if before.with(waiting.load).fits(&self.budget) && (!waiting.is_aside || is_meant(waiting.stream.as_ref()))
            {
                waiting.ticket.news.notify_one();
                woken += 1;
            }
            before.frames < self.budget.frames
        });
        woken
    }

    /// Wakes all calls in the line, for the end: there will be no room.
    pub fn wake_all(&self) {
        self.line.iter().for_each(|waiting| waiting.ticket.news.notify_one());
    }

    /// Notes that a stream wants room: a call of it was good.
    pub fn wants(&mut self, stream: &StreamId, now: Instant) {
        if self.shares.len() < self.streams_max || self.shares.contains_key(stream) {
            self.shares.entry(stream.clone()).or_default().seen = Some(now);
        }
    }

    /// True while the stream counts as active.
    pub fn is_active(&self, stream: &StreamId, now: Instant) -> bool {
        self.shares.get(stream).is_some_and(|share| share.is_active(now))
    }

    /// Stands in the line; `None`: too many calls of the stream stand there.
    pub fn line_up(&mut self, stream: Option<&StreamId>, load: Load, is_aside: bool) -> Option<Ticket> {
        let others = |stream| self.line.iter().filter(|waiting| waiting.stream.as_ref() == Some(stream)).count();
        if stream.is_some_and(|stream| others(stream) >= STREAM_WAITING_MAX) {
            return None;
        }
        let ticket = Ticket { number: self.next_ticket, news: Arc::default() };
        self.next_ticket += 1;
        self.line.push_back(Waiting { ticket: ticket.clone(), stream: stream.cloned(), load, is_aside: true });
        if !is_aside {
            self.stand(&ticket, false);
        }
        Some(ticket)
    }

    /// Stands aside from now on, or in the line itself, at the same place. Who goes aside wakes those that it stood before
    /// with [`Admission::wake`].
    pub fn stand(&mut self, ticket: &Ticket, is_aside: bool) {
        let Some(place) = self.place(ticket) else { return };
        let waiting = &mut self.line[place];
        if waiting.is_aside == is_aside {
            return;
        }
        waiting.is_aside = is_aside;
        if let Some(stream) = &waiting.stream {
            let share = self.shares.entry(stream.clone()).or_default();
            share.waiting = if is_aside { share.waiting.saturating_sub(1) } else { share.waiting + 1 };
        }
    }

    /// Leaves the line, and wakes those that it stood before.
    pub fn leave(&mut self, ticket: &Ticket, now: Instant) {
        self.stand(ticket, true);
        if let Some(place) = self.place(ticket) {
            self.line.remove(place);
            self.wake(|_| false, now);
        }
    }

    fn place(&self, ticket: &Ticket) -> Option<usize> {
        self.line.binary_search_by_key(&ticket.number, |waiting| waiting.ticket.number).ok()
    }

    /// A stream's frames were accepted: by this gateway, after [`Admission::ask`], or by a former one.
    pub fn accepted(&mut self, stream: &StreamId, load: Load, now: Instant) {
        self.held += load;
        let share = self.shares.entry(stream.clone()).or_default();
        share.held += load;
        share.seen = Some(now);
    }

    /// A frame of a stream has its result.
    pub fn done(&mut self, stream: &StreamId, bytes: u64, now: Instant) {
        let load = Load { frames: 1, bytes };
        self.held.take(load);
        if let Some(share) = self.shares.get_mut(stream) {
            share.held.take(load);
        }
        self.rate.done(now);
    }

    /// Frames in flight of a stream.
    pub fn in_flight_of(&self, stream: &StreamId) -> u64 {
        self.shares.get(stream).map_or(0, |share| share.held.frames)
    }

    /// Frames in flight.
    pub fn in_flight(&self) -> u64 {
        self.held.frames
    }
}

/// A stream that holds nothing may have one frame of any size that the budget holds.
fn within_share(held: Load, load: Load, share: Load) -> bool {
    held.with(load).fits(&share) || held.frames == 0 && load.frames == 1
}

fn said(load: Load) -> String {
    format!("{} frame{} ({} bytes)", load.frames, if load.frames == 1 { "" } else { "s" }, load.bytes)
}

/// How fast results come.
struct Rate {
    since: Instant,
    done: u64,
    per_second: f64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { since: now, done: 0, per_second: 0.0 }
    }

    fn done(&mut self, now: Instant) {
        self.done += 1;
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.since);
        if elapsed >= RATE_WINDOW {
            let latest = self.done as f64 / elapsed.as_secs_f64();
            self.per_second = if self.per_second == 0.0 { latest } else { (self.per_second + latest) / 2.0 };
            (self.since, self.done) = (now, 0);
        }
    }

    /// How long so many results take.
    fn time_for(&mut self, frames: u64, now: Instant) -> Duration {
        self.look(now);
        let seconds = frames as f64 / self.per_second; // infinite, where there were none
        Duration::try_from_secs_f64(seconds).unwrap_or(RETRY_MOST).clamp(RETRY_LEAST, RETRY_MOST)
    }
}

#[cfg(test)]
mod tests;
