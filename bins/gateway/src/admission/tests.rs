use super::*;

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a good name")
}

fn frames(frames: u64) -> Load {
    Load { frames, bytes: frames * 10 }
}

struct Bench {
    admission: Admission,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { admission: Admission::new(Load { frames: 12, bytes: 120 }, 8, now), now }
    }

    fn push(&mut self, name: &str, load: Load) -> Result<(), NoRoom> {
        let asked = self.admission.ask(Some(&stream(name)), load, None, self.now);
        match asked {
            Ok(()) => self.admission.accepted(&stream(name), load, self.now),
            Err(_) => self.admission.wants(&stream(name), self.now),
        }
        asked
    }

    fn done(&mut self, name: &str, count: u64) {
        (0..count).for_each(|_| self.admission.done(&stream(name), 10, self.now));
    }

    fn wait(&mut self, name: &str, load: Load) -> Ticket {
        self.admission.ask(Some(&stream(name)), load, None, self.now).expect_err("there is no room");
        self.line_up(name, load, false)
    }

    fn line_up(&mut self, name: &str, load: Load, is_aside: bool) -> Ticket {
        self.admission.line_up(Some(&stream(name)), load, is_aside).expect("few wait")
    }

    fn wake(&mut self) -> usize {
        self.admission.wake(|_| false, self.now)
    }

    fn try_again(&mut self, name: &str, load: Load, ticket: &Ticket) -> bool {
        let admitted = self.admission.ask(Some(&stream(name)), load, Some(ticket), self.now).is_ok();
        if admitted {
            self.admission.accepted(&stream(name), load, self.now);
            self.admission.leave(ticket, self.now);
        }
        admitted
    }
}

#[test]
fn alone_a_stream_has_the_whole_budget() {
    let mut bench = Bench::new();
    bench.push("a", frames(12)).expect("it fits");
    let refusal = bench.push("a", frames(1)).expect_err("it is full");
    assert!(refusal.words.contains("1 frame (10 bytes) do not fit"), "{refusal:?}");
    bench.done("a", 1);
    bench.push("a", frames(1)).expect("there is room again");
}

#[test]
fn of_two_streams_each_holds_half() {
    let mut bench = Bench::new();
    bench.push("flood", frames(12)).expect("it is alone");
    bench.push("trickle", frames(1)).expect_err("all is in flight");
    bench.done("flood", 3);
    let refusal = bench.push("flood", frames(1)).expect_err("it holds 9, and half of the budget are 6");
    assert!(refusal.words.contains("2 streams"), "{refusal:?}");
    bench.push("trickle", frames(3)).expect("what the flood lets go is another's");
    bench.done("flood", 4);
    bench.push("flood", frames(1)).expect("it holds 5");
    bench.push("flood", frames(1)).expect_err("it holds 6");
    bench.push("trickle", frames(3)).expect("half");
    bench.push("trickle", frames(1)).expect_err("half");
}

#[test]
fn a_stream_that_went_away_gives_its_share_back() {
    let mut bench = Bench::new();
    bench.push("a", frames(1)).expect("it fits");
    bench.push("b", frames(12)).expect_err("half");
    bench.done("a", 1);
    bench.now += ACTIVE;
    bench.push("b", frames(12)).expect("it is alone");
}

#[test]
fn bytes_are_a_budget_too_and_one_large_frame_passes() {
    let mut bench = Bench::new();
    bench.push("a", Load { frames: 1, bytes: 50 }).expect("it fits");
    bench.push("b", Load { frames: 1, bytes: 70 }).expect("more than half, and its first");
    bench.push("b", Load { frames: 1, bytes: 1 }).expect_err("it holds its share");
    bench.push("c", Load { frames: 1, bytes: 1 }).expect_err("120 bytes are in flight");
    bench.admission.done(&stream("a"), 50, bench.now);
    bench.push("c", Load { frames: 1, bytes: 50 }).expect("it fits");
}

#[test]
fn who_waits_keeps_his_turn() {
    let mut bench = Bench::new();
    bench.push("a", frames(6)).expect("it fits");
    bench.push("b", frames(6)).expect("it fits");
    bench.done("a", 2);
    // Three streams: each may hold 4. c wants all of them, and there are 2.
    let c = bench.wait("c", frames(4));
    bench.done("b", 4);
    bench.push("b", frames(2)).expect("2 are beyond what c waits for");
    assert!(bench.push("b", frames(1)).is_err(), "the rest is c's");
    assert!(bench.try_again("c", frames(4), &c));
    assert!(bench.admission.line.is_empty());
}

#[test]
fn who_waits_for_his_own_share_stands_in_nobodys_way() {
    let mut bench = Bench::new();
    bench.push("b", frames(1)).expect("it fits");
    bench.push("a", frames(6)).expect("it fits");
    let a = bench.wait("a", frames(4));
    bench.push("b", frames(5)).expect("a may not have it");
    bench.done("a", 4);
    assert!(bench.try_again("a", frames(4), &a));
}

#[test]
fn many_calls_of_one_stream_wait_for_no_more_than_its_share() {
    let mut bench = Bench::new();
    bench.push("a", frames(5)).expect("it fits");
    bench.push("b", frames(1)).expect("it fits");
    let waiting: Vec<Ticket> = (0..5).map(|_| bench.line_up("a", frames(1), false)).collect();
    bench.push("b", frames(5)).expect("of a's calls one alone fits into its half");
    assert!(!bench.try_again("a", frames(2), &waiting[0]), "2 are beyond its half");
    assert!(bench.try_again("a", frames(1), &waiting[0]));
}

#[test]
fn a_place_in_the_line_can_be_left() {
    let mut bench = Bench::new();
    bench.push("a", frames(12)).expect("it fits");
    let b = bench.wait("b", frames(6));
    bench.admission.leave(&b, bench.now);
    bench.admission.leave(&b, bench.now);
    assert!(bench.admission.line.is_empty());
}

#[test]
fn the_advice_follows_the_rate_of_results() {
    let mut bench = Bench::new();
    bench.push("a", frames(12)).expect("it fits");
    assert_eq!(bench.push("a", frames(1)).expect_err("full").retry, RETRY_MOST, "no result came yet");
    for _ in 0..10 {
        bench.now += Duration::from_millis(50);
        bench.done("a", 1);
    }
    bench.push("a", frames(10)).expect("it fits");
    let retry = bench.push("a", frames(4)).expect_err("full").retry;
    assert_eq!(retry.as_millis(), 200, "4 frames at 20 a second");
}

#[test]
fn streams_beyond_the_limit_are_not_remembered() {
    let mut bench = Bench::new();
    (0..100).for_each(|number| bench.admission.wants(&stream(&format!("s{number}")), bench.now));
    assert!(bench.admission.shares.len() <= 8);
}

/// The calls that were woken since they last looked.
fn woken(tickets: &[Ticket]) -> Vec<usize> {
    let is_woken = |ticket: &Ticket| {
        let mut news = std::pin::pin!(ticket.news.notified());
        news.as_mut().enable()
    };
    (0..tickets.len()).filter(|place| is_woken(&tickets[*place])).collect()
}

#[test]
fn of_several_hundred_that_wait_a_result_wakes_those_alone_that_fit() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    let name = |place: usize| names[place % names.len()].as_str();
    bench.push("first", frames(12)).expect("it is alone");
    let tickets: Vec<Ticket> = (0..400).map(|place| bench.line_up(name(place), frames(1), false)).collect();
    assert_eq!(bench.wake(), 0, "there is no room");
    bench.done("first", 12);
    bench.now += ACTIVE; // but for those that wait, none is active
    assert_eq!(bench.wake(), 8, "one each: an eighth of 12");
    let (mut held, mut looks) = (VecDeque::new(), 0);
    let mut served = 0;
    while served < 400 {
        for place in woken(&tickets) {
            looks += 1;
            if bench.try_again(name(place), frames(1), &tickets[place]) {
                held.push_back(place);
                served += 1;
            }
        }
        let done = held.pop_front().expect("some are in flight, or nobody would be served any more");
        bench.done(name(done), 1);
        bench.wake();
    }
    assert!(bench.admission.line.is_empty());
    assert!(looks <= 400 + 12, "{looks} looks of 400 calls");
}

#[test]
fn who_leaves_the_line_wakes_those_that_it_stood_before() {
    let mut bench = Bench::new();
    bench.push("a", frames(6)).expect("it fits");
    bench.push("b", frames(4)).expect("it fits");
    let tickets = [bench.wait("c", frames(4)), bench.wait("b", frames(1))];
    bench.done("b", 2);
    assert_eq!(bench.wake(), 1, "c may have 4, and they are there; b's would be beyond");
    assert_eq!(woken(&tickets), [0]);
    bench.admission.leave(&tickets[0], bench.now);
    assert_eq!(woken(&tickets), [1]);
}

#[test]
fn who_stands_aside_keeps_nothing_from_others_and_is_woken_when_he_is_meant() {
    let mut bench = Bench::new();
    bench.push("b", frames(1)).expect("it fits");
    let tickets = [bench.line_up("a", frames(6), true)];
    bench.push("b", frames(11)).expect("the stream of who stands aside is not active, and has no claim");
    bench.done("b", 12);
    assert_eq!(bench.wake(), 0, "it is not the budget that he waits for");
    let now = bench.now;
    assert_eq!(bench.admission.wake(|id| id == Some(&stream("c")), now), 0);
    assert_eq!(bench.admission.wake(|id| id == Some(&stream("a")), now), 1);
    bench.push("b", frames(12)).expect("he has no claim still");
    bench.admission.stand(&tickets[0], false);
    bench.done("b", 6);
    bench.push("b", frames(1)).expect_err("two are active");
    assert_eq!(bench.wake(), 1);
    bench.admission.stand(&tickets[0], true);
    bench.now += ACTIVE;
    assert!(!bench.admission.is_active(&stream("a"), bench.now));
    bench.push("b", frames(6)).expect("he is gone from the line again");
}

#[test]
fn the_calls_of_one_stream_that_wait_are_bounded() {
    let mut bench = Bench::new();
    bench.push("a", frames(12)).expect("it fits");
    (0..STREAM_WAITING_MAX).for_each(|place| drop(bench.line_up("a", frames(1), place % 2 == 0)));
    assert!(bench.admission.line_up(Some(&stream("a")), frames(1), false).is_none());
    bench.line_up("b", frames(1), false);
    bench.admission.line_up(None, frames(1), false).expect("a call without a stream has one of its own");
}

#[test]
fn a_refused_question_makes_no_stream_active() {
    let mut bench = Bench::new();
    bench.push("a", frames(6)).expect("it fits");
    for number in 0..6 {
        let absent = stream(&format!("phantom-{number}"));
        let _ = bench.admission.ask(Some(&absent), frames(12), None, bench.now); // and then its file is not there
    }
    bench.push("a", frames(6)).expect("it is alone");
}
