//! The hint ring: a bounded lock-free queue of 32-bit hints in shared memory, with several producers and consumers, any
//! of which may be killed at any instruction.
//!
//! A cell is one 64-bit word, so that no process can die halfway through writing it: `rank:32 | hint:32`. The rank
//! counts the cell's lives: `2 * lap` is empty in that lap, `2 * lap + 1` is full. `head` and `tail` only say where to
//! look: the cell's own compare-and-swap is the push or the pop, and whoever finds `head` or `tail` behind a cell that
//! has moved on advances it for the process that died (or was merely slow) before doing so.
//!
//! A ring carries hints, never the truth: a hint that is lost with a dying process is pushed again by recovery, and a
//! hint that is stale or doubled is dropped by whoever pops it, because the job word's compare-and-swap fails.

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering};

/// A ring's two positions, each on cache lines of its own.
#[repr(C)]
#[derive(Default)]
pub struct RingEnds {
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
}

/// A view of a ring: its ends and its cells, wherever they lie. All zeroes is an empty ring.
#[derive(Clone, Copy)]
pub struct HintRing<'a> {
    ends: &'a RingEnds,
    cells: &'a [AtomicU64],
}

fn rank(cell: u64) -> u32 {
    (cell >> 32) as u32
}

fn full(rank: u32, hint: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(hint)
}

/// True when `rank` lies behind `other`, with wrap-around.
fn is_behind(rank: u32, other: u32) -> bool {
    (rank.wrapping_sub(other) as i32) < 0
}

impl<'a> HintRing<'a> {
    /// A ring over these cells, whose number is a power of two.
    pub fn new(ends: &'a RingEnds, cells: &'a [AtomicU64]) -> Self {
        assert!(cells.len().is_power_of_two(), "a ring has a power of two of cells, not {}", cells.len());
        Self { ends, cells }
    }

    fn cell(&self, position: u64) -> &'a AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// The rank of an empty cell at this position, in its lap. Wraps around.
    fn empty_rank(&self, position: u64) -> u32 {
        (position >> self.cells.len().trailing_zeros()).wrapping_mul(2) as u32
    }

    /// Appends a hint; false when the ring is full (the sweep will push the hint again).
    pub fn push(&self, hint: u32) -> bool {
        loop {
            let tail = self.ends.tail.load(Ordering::Acquire);
            let empty = self.empty_rank(tail);
            let cell = self.cell(tail);
            let seen = cell.load(Ordering::Acquire);
            if rank(seen) == empty {
                let filled = full(empty.wrapping_add(1), hint);
                // AcqRel pairs with the pop's: the hint follows what its pusher published before it.
                if cell.compare_exchange(seen, filled, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    self.advance(&self.ends.tail, tail);
                    return true;
                }
            } else if is_behind(rank(seen), empty) {
                return false; // still full from the lap before
            } else {
                self.advance(&self.ends.tail, tail); // filled (and perhaps emptied again): `tail` lags
            }
        }
    }

    /// Takes the oldest hint; `None` when the ring is empty.
    pub fn pop(&self) -> Option<u32> {
        loop {
            let head = self.ends.head.load(Ordering::Acquire);
            let filled = self.empty_rank(head).wrapping_add(1);
            let cell = self.cell(head);
            let seen = cell.load(Ordering::Acquire);
            if rank(seen) == filled {
                let emptied = full(filled.wrapping_add(1), 0);
                if cell.compare_exchange(seen, emptied, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    self.advance(&self.ends.head, head);
                    return Some(seen as u32);
                }
            } else if is_behind(rank(seen), filled) {
                return None; // not filled yet in this lap
            } else {
                self.advance(&self.ends.head, head); // taken: `head` lags
            }
        }
    }

    /// Moves an end on by one, unless somebody has done so already.
    fn advance(&self, end: &AtomicU64, from: u64) {
        let _ = end.compare_exchange(from, from + 1, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// True when a pop would find nothing, at this moment.
    pub fn is_empty(&self) -> bool {
        let head = self.ends.head.load(Ordering::Acquire);
        let filled = self.empty_rank(head).wrapping_add(1);
        is_behind(rank(self.cell(head).load(Ordering::Acquire)), filled)
    }

    /// How many hints the ring holds, at some moment; an estimate while others push and pop.
    pub fn len(&self) -> usize {
        let head = self.ends.head.load(Ordering::Acquire);
        let tail = self.ends.tail.load(Ordering::Acquire);
        (tail.saturating_sub(head) as usize).min(self.cells.len())
    }

    /// Calls `f` with every hint in the ring, at no single moment: for repair, which tolerates misses and repeats.
    pub fn for_each(&self, mut f: impl FnMut(u32)) {
        for cell in self.cells {
            let seen = cell.load(Ordering::Acquire);
            if rank(seen) & 1 == 1 {
                f(seen as u32);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cells(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn hints_come_out_in_order_over_many_laps() {
        let (ends, cells) = (RingEnds::default(), cells(4));
        let ring = HintRing::new(&ends, &cells);
        for lap in 0..10 {
            for hint in 0..4 {
                assert!(ring.push(lap * 4 + hint));
            }
            assert!(!ring.push(99), "full");
            assert_eq!(ring.len(), 4);
            for hint in 0..4 {
                assert_eq!(ring.pop(), Some(lap * 4 + hint));
            }
            assert_eq!(ring.pop(), None);
            assert!(ring.is_empty());
        }
    }

    #[test]
    fn the_rank_wraps_around() {
        let (ends, cells) = (RingEnds::default(), cells(2));
        let last_lap = u64::from(u32::MAX >> 1);
        for cell in &cells {
            cell.store(full((last_lap * 2) as u32, 0), Ordering::Relaxed);
        }
        ends.head.store(last_lap * 2, Ordering::Relaxed);
        ends.tail.store(last_lap * 2, Ordering::Relaxed);
        let ring = HintRing::new(&ends, &cells);
        for hint in 0..20 {
            assert!(ring.push(hint) && ring.push(100 + hint) && !ring.push(7));
            assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(hint), Some(100 + hint), None));
        }
    }

    #[test]
    fn a_lagging_end_is_helped_on() {
        // A producer, then a consumer, that died between the cell's swap and the end's.
        let (ends, cells) = (RingEnds::default(), cells(2));
        let ring = HintRing::new(&ends, &cells);
        cells[0].store(full(1, 7), Ordering::Relaxed);
        assert!(ring.push(8), "the push steps over the cell that was filled");
        assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(7), Some(8), None));
        assert!(ring.push(9));
        cells[0].store(full(4, 0), Ordering::Relaxed);
        assert_eq!(ring.pop(), None, "the pop steps over the cell that was emptied");
        assert!(ring.push(10));
        assert_eq!(ring.pop(), Some(10));
    }

    #[test]
    fn threads_lose_and_double_nothing() {
        const EACH: u32 = 20_000;
        let (ends, cells) = (RingEnds::default(), cells(64));
        let ring = HintRing::new(&ends, &cells);
        let taken: Vec<AtomicU32> = (0..EACH * 2).map(|_| AtomicU32::new(0)).collect();
        let left = AtomicU32::new(EACH * 2);
        use crate::sync::AtomicU32;
        std::thread::scope(|scope| {
            for producer in 0..2 {
                scope.spawn(move || {
                    for hint in producer * EACH..(producer + 1) * EACH {
                        while !ring.push(hint) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    while left.load(Ordering::Relaxed) > 0 {
                        match ring.pop() {
                            Some(hint) => {
                                taken[hint as usize].fetch_add(1, Ordering::Relaxed);
                                left.fetch_sub(1, Ordering::Relaxed);
                            }
                            None => std::thread::yield_now(),
                        }
                    }
                });
            }
        });
        assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}
