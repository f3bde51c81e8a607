//! How a line has served: a small evening reckoned by hand, and random histories reckoned in another way.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use holdfast_domain::kpis::{Figures, Fold, Kpis, Percentiles};
use holdfast_domain::policy::Promise;
use holdfast_domain::{ChatId, EndedAs, Event, EventKind, HelplineId, Policy, ResponderId, Status, Urgency};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// When the histories here begin.
const BEGAN: u64 = 1_800_000_000_000;

/// A history, as it is written down.
#[derive(Default)]
struct Story(Vec<Event>);

impl Story {
    fn tell(&mut self, after_ms: u64, kind: EventKind) -> &mut Event {
        self.0.push(Event {
            sequence: self.0.len() as u64 + 1,
            term: 1,
            at_ms: BEGAN + after_ms,
            kind,
            chat: None,
            responder: None,
            urgency: None,
            offer: None,
            fence: None,
            until_ms: None,
            outcome: None,
            reason: None,
            status: None,
            revision: 1,
            by: None,
            partner: None,
            block: None,
            number: None,
        });
        self.0.last_mut().unwrap()
    }

    fn comes(&mut self, at: u64, who: &str) {
        let event = self.tell(at, EventKind::SignedIn);
        (event.responder, event.status) = (Some(responder(who)), Some(Status::Ready));
    }

    fn goes(&mut self, at: u64, who: &str) {
        self.tell(at, EventKind::SignedOut).responder = Some(responder(who));
    }

    fn request(&mut self, at: u64, id: &str, urgency: Urgency) {
        let event = self.tell(at, EventKind::Requested);
        (event.chat, event.urgency) = (Some(chat(id)), Some(urgency));
    }

    fn admit(&mut self, at: u64, id: &str, urgency: Urgency) {
        let event = self.tell(at, EventKind::Admitted);
        (event.chat, event.urgency) = (Some(chat(id)), Some(urgency));
        event.partner = Some(HelplineId::parse("partner").unwrap());
    }

    fn accept(&mut self, at: u64, id: &str, who: &str, urgency: Urgency) {
        let event = self.tell(at, EventKind::Accepted);
        (event.chat, event.responder, event.urgency) = (Some(chat(id)), Some(responder(who)), Some(urgency));
    }

    fn give_back(&mut self, at: u64, id: &str, who: &str) {
        let event = self.tell(at, EventKind::Returned);
        (event.chat, event.responder) = (Some(chat(id)), Some(responder(who)));
    }

    fn end(&mut self, at: u64, id: &str, who: Option<&str>, urgency: Urgency, outcome: EndedAs) {
        let event = self.tell(at, EventKind::Ended);
        (event.chat, event.responder) = (Some(chat(id)), who.map(responder));
        (event.urgency, event.outcome) = (Some(urgency), Some(outcome));
    }

    fn wrap_up(&mut self, at: u64, id: &str, who: &str) {
        let event = self.tell(at, EventKind::WrappedUp);
        (event.chat, event.responder) = (Some(chat(id)), Some(responder(who)));
    }

    fn about(&mut self, at: u64, kind: EventKind, id: &str) -> &mut Event {
        let event = self.tell(at, kind);
        event.chat = Some(chat(id));
        event
    }

    fn fold(&self) -> Fold {
        let mut fold = Fold::new();
        self.0.iter().for_each(|event| fold.take(event));
        fold
    }

    fn report(&self, window: u64, now: u64, policy: &Policy) -> Kpis {
        self.fold().report(window, BEGAN + now, policy)
    }
}

fn chat(id: &str) -> ChatId {
    ChatId::parse(id).unwrap()
}

fn responder(name: &str) -> ResponderId {
    ResponderId::parse(name).unwrap()
}

/// Everybody is promised somebody within a minute.
fn policy() -> Policy {
    Policy { promise: Promise { reach_within_ms: [MINUTE; 4] }, ..Policy::default() }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Two responders, eight visitors: six MODERATE, two HIGH.
fn evening() -> Story {
    let mut story = Story::default();
    let (moderate, high) = (Urgency::Moderate, Urgency::High);
    story.comes(0, "ana");
    story.comes(0, "ben");
    // m1 is answered after 10 s, talks for 10 min, and 2 min of notes follow.
    story.request(0, "m1", moderate);
    story.accept(10 * SECOND, "m1", "ana", moderate);
    // m2 is answered after 60 s, which is just as promised, is handed on after 5 min and taken again 2 min later.
    story.request(20 * SECOND, "m2", moderate);
    story.accept(80 * SECOND, "m2", "ben", moderate);
    // h1 is answered after 61 s, which is a second more than promised.
    story.request(100 * SECOND, "h1", high);
    story.accept(161 * SECOND, "h1", "ben", high);
    story.give_back(380 * SECOND, "m2", "ben");
    // m3 leaves after 4 min, m4 is given up after 5.
    story.request(400 * SECOND, "m3", moderate);
    story.request(400 * SECOND, "m4", moderate);
    story.accept(500 * SECOND, "m2", "ana", moderate);
    story.end(610 * SECOND, "m1", Some("ana"), moderate, EndedAs::Completed);
    story.end(640 * SECOND, "m3", None, moderate, EndedAs::Left);
    story.end(700 * SECOND, "m4", None, moderate, EndedAs::Abandoned);
    story.wrap_up(730 * SECOND, "m1", "ana");
    // m5 takes the resources after 3 min. h2 goes to a partner after 2, and m6 comes from one and waits still.
    story.request(800 * SECOND, "m5", moderate);
    story.request(800 * SECOND, "h2", high);
    story.end(920 * SECOND, "h2", None, high, EndedAs::Overflowed);
    story.end(980 * SECOND, "m5", None, moderate, EndedAs::Fallback);
    story.end(1000 * SECOND, "m2", Some("ana"), moderate, EndedAs::Completed);
    story.end(1061 * SECOND, "h1", Some("ben"), high, EndedAs::Completed);
    story.goes(1100 * SECOND, "ben");
    story.admit(1200 * SECOND, "m6", moderate);
    story
}

#[test]
fn a_small_evening_is_reckoned_as_by_hand() {
    let kpis = evening().report(HOUR, 1500 * SECOND, &policy());
    let all = kpis.all.expect("eight visitors are enough");

    assert_eq!(kpis.window_ms, 1500 * SECOND, "no more than there is");
    assert_eq!((all.requested, all.taken_in), (8, 1));
    assert_eq!((all.answered, all.overflowed, all.fallback), (3, 1, 1));
    // Answered: m1, m2, h1. Not answered: m3, m4, m5.
    assert!(close(all.answer_rate, 3.0 / 6.0));
    assert!(close(all.abandonment_rate, 2.0 / 6.0));
    assert!(close(all.service_level, 2.0 / 3.0));
    assert_eq!(all.average_speed_to_answer_ms, Some((10 + 60 + 61) * SECOND / 3));
    let wait = Percentiles { p50_ms: 60 * SECOND, p95_ms: 61 * SECOND, p99_ms: 61 * SECOND };
    assert_eq!(all.wait, Some(wait));
    assert_eq!(all.longest_delay_ms, Some(300 * SECOND), "m4, and m6 as well, who still waits");
    // m1 600 s, m2 300 s and 500 s, h1 900 s.
    let handling = Percentiles { p50_ms: 500 * SECOND, p95_ms: 900 * SECOND, p99_ms: 900 * SECOND };
    assert_eq!(all.handling_time, Some(handling));
    assert_eq!(all.wrap_up.map(|w| w.p50_ms), Some(120 * SECOND));
}

#[test]
fn responders_are_occupied_while_they_have_a_chat_or_write_about_one() {
    let kpis = evening().report(HOUR, 1500 * SECOND, &policy());
    // Ana: m1 and its notes and m2, 10 to 1000, then at most 120 s of notes: 1110 of 1500.
    // Ben: m2 and h1, 80 to 1061, then notes until he goes at 1100: 1020 of 1100.
    assert!(close(kpis.occupancy, (1110.0 + 1020.0) / (1500.0 + 1100.0)), "{}", kpis.occupancy);
}

#[test]
fn a_window_covers_what_came_to_an_end_in_it() {
    let kpis = evening().report(800 * SECOND, 1500 * SECOND, &policy());
    let all = kpis.all.unwrap();

    assert_eq!(kpis.window_ms, 800 * SECOND);
    assert_eq!((all.requested, all.answered, all.fallback, all.overflowed), (3, 0, 1, 1), "m5, h2 and m6 came");
    assert!(close(all.abandonment_rate, 0.5), "m4 was given up just now; m5 took the resources");
    assert_eq!((all.wait, all.average_speed_to_answer_ms), (None, None));
    assert_eq!(all.handling_time.map(|h| (h.p50_ms, h.p99_ms)), Some((500 * SECOND, 900 * SECOND)));
    // From 700 on: Ana until 1120 of 800, Ben 400 of 400.
    assert!(close(kpis.occupancy, (420.0 + 400.0) / (800.0 + 400.0)), "{}", kpis.occupancy);
}

#[test]
fn few_visitors_are_not_told_of_and_cannot_be_found_by_subtraction() {
    let mut story = evening();
    let [low, moderate, high, imminent] = story.report(HOUR, 1500 * SECOND, &policy()).by_urgency;
    assert_eq!((low, high, imminent), (None, None, None), "two are few, nobody is fewer");
    assert_eq!(moderate, None, "two HIGH visitors are what remains of all without the MODERATE ones");

    ["l1", "l2", "l3"].into_iter().for_each(|id| story.request(1500 * SECOND, id, Urgency::Low));

    let told = story.report(HOUR, 1500 * SECOND, &policy()).by_urgency.map(|cell| cell.map(|c| c.requested));
    assert_eq!(told, [None, Some(6), None, None], "five who are not told apart may be reckoned");
}

#[test]
fn nothing_is_told_of_fewer_than_five() {
    let mut story = Story::default();
    ["c1", "c2", "c3", "c4"].into_iter().for_each(|id| story.request(0, id, Urgency::Low));
    let kpis = story.report(HOUR, MINUTE, &policy());
    assert_eq!((kpis.all, kpis.by_urgency), (None, [None, None, None, None]));

    story.request(MINUTE, "c5", Urgency::Low);
    let kpis = story.report(HOUR, 2 * MINUTE, &policy());
    let five = Figures { requested: 5, longest_delay_ms: Some(2 * MINUTE), ..Figures::default() };
    assert_eq!((kpis.all, kpis.by_urgency), (Some(five.clone()), [Some(five), None, None, None]));
}

#[test]
fn a_visitor_who_comes_back_had_not_given_up() {
    let mut story = Story::default();
    for id in ["c1", "c2", "c3", "c4", "c5"] {
        story.request(0, id, Urgency::Low);
        story.end(MINUTE, id, None, Urgency::Low, EndedAs::Abandoned);
    }
    let before = story.report(HOUR, MINUTE, &policy()).all.unwrap();
    assert!(close(before.abandonment_rate, 1.0));

    story.about(2 * MINUTE, EventKind::Reopened, "c2");
    story.comes(2 * MINUTE, "ana");
    story.accept(3 * MINUTE, "c2", "ana", Urgency::Low);
    let after = story.report(HOUR, 3 * MINUTE, &policy()).all.unwrap();

    assert_eq!((after.answered, after.requested), (1, 5));
    assert!(close(after.abandonment_rate, 0.8), "{}", after.abandonment_rate);
    assert_eq!(after.wait.map(|w| w.p50_ms), Some(3 * MINUTE), "it kept its place, and its wait");
}

#[test]
fn who_was_there_before_the_first_event_is_counted_as_far_as_it_is_known() {
    let mut story = Story::default();
    story.tell(0, EventKind::PolicySet);
    // Ana has had c1 since nobody knows when, c2 has waited since nobody knows when, and Ben does nothing.
    story.end(100 * SECOND, "c1", Some("ana"), Urgency::High, EndedAs::Completed);
    story.accept(200 * SECOND, "c2", "ana", Urgency::High);
    story.wrap_up(250 * SECOND, "c1", "ana");
    story.give_back(300 * SECOND, "c2", "ana");
    ["c3", "c4", "c5"].into_iter().for_each(|id| story.request(300 * SECOND, id, Urgency::High));

    let kpis = story.report(HOUR, 400 * SECOND, &policy());
    let all = kpis.all.unwrap();

    assert_eq!((all.requested, all.answered), (3, 0), "whether c2 was answered before is not known");
    assert_eq!(all.handling_time.map(|h| h.p50_ms), Some(100 * SECOND), "c2; when c1 began is not known");
    assert_eq!(all.wrap_up.map(|h| h.p50_ms), Some(150 * SECOND));
    assert!(close(kpis.occupancy, 300.0 / 400.0), "{}", kpis.occupancy);
}

#[test]
fn two_days_are_covered_and_no_more() {
    let mut story = Story::default();
    for hour in 0..100 {
        story.request(hour * HOUR, &format!("c{hour}"), Urgency::Low);
        story.end(hour * HOUR + MINUTE, &format!("c{hour}"), None, Urgency::Low, EndedAs::Left);
    }
    let kpis = story.report(1000 * HOUR, 99 * HOUR + MINUTE, &policy());

    assert_eq!(kpis.window_ms, 48 * HOUR);
    assert_eq!(kpis.all.unwrap().requested, 48);
}

#[cfg(feature = "test-util")]
#[expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "the other reckoning is plain rather than careful"
)]
mod histories {
    use super::*;
    use holdfast_domain::Command;
    use holdfast_domain::histories::{Player, history, seed};
    use holdfast_domain::line::Snapshot;
    use holdfast_domain::policy::Numbers;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::collections::{BTreeMap, BTreeSet};

    /// What there is to count, found by looking through all events again and again.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fact {
        Came,
        TakenIn,
        FirstAnswer(u64),
        OtherWait(u64),
        Gone(EndedAs, bool, u64),
        Handled(u64),
        WrappedUp(u64),
        WaitsNow(u64),
    }

    /// The life of one chat: from when it came, without what came under the same name before or after.
    type Life<'a> = Vec<&'a Event>;

    fn lives(events: &[Event]) -> Vec<Life<'_>> {
        let mut lives: Vec<Life<'_>> = Vec::new();
        let mut last: BTreeMap<&ChatId, usize> = BTreeMap::new();
        for event in events {
            let Some(chat) = &event.chat else { continue };
            if matches!(event.kind, EventKind::Requested | EventKind::Admitted) {
                last.insert(chat, lives.len());
                lives.push(Vec::new());
            }
            if let Some(at) = last.get(chat) {
                lives[*at].push(event);
            }
        }
        lives
    }

    fn is(event: &Event, kinds: &[EventKind]) -> bool {
        kinds.contains(&event.kind)
    }

    fn facts(life: &Life<'_>, now: u64) -> Vec<(u64, Urgency, Fact)> {
        use EventKind::{Accepted, Admitted, Ended, Reopened, Requested, Returned, WrappedUp};
        let mut facts = Vec::new();
        let mut urgency = Urgency::default();
        let last = |i: usize, kinds: &[EventKind]| life[..i].iter().rfind(|e| is(e, kinds)).copied();
        let since = |i: usize| last(i, &[Requested, Admitted, Returned]).unwrap().at_ms;
        for (i, event) in life.iter().enumerate() {
            urgency = event.urgency.unwrap_or(urgency);
            let at = event.at_ms;
            let in_hand = last(i, &[Accepted, Returned, Ended]).is_some_and(|e| e.kind == Accepted);
            let first = last(i, &[Accepted]).is_none();
            let next = life[i + 1..].iter().find(|e| is(e, &[Accepted, Ended, Reopened]));
            let fact = match event.kind {
                Requested => Fact::Came,
                Admitted => Fact::TakenIn,
                Accepted if first => Fact::FirstAnswer(at - since(i)),
                Accepted => Fact::OtherWait(at - since(i)),
                Returned => Fact::Handled(at - last(i, &[Accepted]).unwrap().at_ms),
                Ended if in_hand => Fact::Handled(at - last(i, &[Accepted]).unwrap().at_ms),
                Ended if next.is_some_and(|e| e.kind == Reopened) => continue,
                Ended => Fact::Gone(event.outcome.unwrap(), first, at - since(i)),
                WrappedUp => Fact::WrappedUp(at - last(i, &[Ended]).unwrap().at_ms),
                _ => continue,
            };
            facts.push((at, urgency, fact));
        }
        let stands = last(life.len(), &[Requested, Admitted, Returned, Reopened, Accepted, Ended]).unwrap();
        if !is(stands, &[Accepted, Ended]) {
            facts.push((now, urgency, Fact::WaitsNow(now - since(life.len()))));
        }
        facts
    }

    fn figures(facts: &[(usize, Urgency, Fact)], policy: &Policy) -> Figures {
        let all = |pick: &dyn Fn(Fact) -> Option<u64>| -> Vec<u64> {
            facts.iter().filter_map(|(_, _, fact)| pick(*fact)).collect()
        };
        let count = |is: &dyn Fn(Fact) -> bool| facts.iter().filter(|(_, _, fact)| is(*fact)).count() as u64;
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let answers = all(&|f| if let Fact::FirstAnswer(ms) = f { Some(ms) } else { None });
        let waits = all(&|f| match f {
            Fact::FirstAnswer(ms) | Fact::OtherWait(ms) | Fact::Gone(_, _, ms) | Fact::WaitsNow(ms) => Some(ms),
            _ => None,
        });
        let in_time = facts.iter().filter(|(_, urgency, fact)| {
            let promise = policy.promise.reach_within_ms[urgency.rank()];
            matches!(fact, Fact::FirstAnswer(ms) if *ms <= promise)
        });
        let answered = answers.len() as u64;
        let left = count(&|f| matches!(f, Fact::Gone(EndedAs::Left | EndedAs::Abandoned, true, _)));
        let not_overflowed = count(&|f| matches!(f, Fact::Gone(to, true, _) if to != EndedAs::Overflowed));
        Figures {
            requested: count(&|f| matches!(f, Fact::Came | Fact::TakenIn)),
            answered,
            answer_rate: share(answered, answered + not_overflowed),
            abandonment_rate: share(left, answered + not_overflowed),
            service_level: share(in_time.count() as u64, answered),
            average_speed_to_answer_ms: (answered > 0).then(|| answers.iter().sum::<u64>() / answered),
            wait: Percentiles::of(answers),
            longest_delay_ms: waits.into_iter().max(),
            handling_time: Percentiles::of(all(&|f| if let Fact::Handled(ms) = f { Some(ms) } else { None })),
            wrap_up: Percentiles::of(all(&|f| if let Fact::WrappedUp(ms) = f { Some(ms) } else { None })),
            overflowed: count(&|f| matches!(f, Fact::Gone(EndedAs::Overflowed, _, _))),
            fallback: count(&|f| matches!(f, Fact::Gone(EndedAs::Fallback, _, _))),
            taken_in: count(&|f| f == Fact::TakenIn),
        }
    }

    fn visitors(facts: &[(usize, Urgency, Fact)]) -> usize {
        facts.iter().map(|(life, _, _)| *life).collect::<BTreeSet<_>>().len()
    }

    /// Shares of time, by looking at each stretch in which nothing changes.
    fn occupancy(events: &[Event], start: u64, now: u64, policy: &Policy) -> f64 {
        let mut shifts: Vec<(&ResponderId, u64, u64)> = Vec::new();
        let mut busy: Vec<(&ResponderId, u64, u64)> = Vec::new();
        for (i, event) in events.iter().enumerate() {
            let Some(who) = &event.responder else { continue };
            let later = |kinds: &[EventKind], same_chat: bool| {
                let fits = |e: &&Event| {
                    is(e, kinds)
                        && if same_chat { e.chat == event.chat } else { e.responder.as_ref() == Some(who) }
                };
                events[i + 1..].iter().find(fits)
            };
            let gone = later(&[EventKind::SignedOut], false);
            let until = |end: Option<&Event>| end.map_or(now, |e| e.at_ms);
            match event.kind {
                EventKind::SignedIn => {
                    let here = shifts.iter().any(|(r, _, to)| *r == who && *to > event.at_ms);
                    if !here {
                        shifts.push((who, event.at_ms, until(gone)));
                    }
                }
                EventKind::Accepted => {
                    busy.push((who, event.at_ms, until(later(&[EventKind::Returned, EventKind::Ended], true))));
                }
                EventKind::Ended => {
                    let over = later(&[EventKind::WrappedUp], true)
                        .filter(|over| gone.is_none_or(|gone| over.sequence < gone.sequence));
                    let longest = event.at_ms + Numbers::by(&policy.numbers.wrap_up_ms, event.urgency.unwrap());
                    busy.push((who, event.at_ms, over.map_or(until(gone).min(longest), |over| over.at_ms)));
                }
                _ => {}
            }
        }
        let mut moments: BTreeSet<u64> = [start, now].into();
        shifts.iter().chain(&busy).for_each(|(_, from, to)| moments.extend([*from, *to]));
        let moments: Vec<u64> = moments.into_iter().filter(|at| (start..=now).contains(at)).collect();
        let (mut there, mut occupied) = (0, 0);
        for pair in moments.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let during = |spans: &[(&ResponderId, u64, u64)]| -> u64 {
                let who: BTreeSet<_> = spans
                    .iter()
                    .filter(|(_, f, t)| *f <= from && to <= *t)
                    .map(|(who, _, _)| who.as_str().to_owned())
                    .collect();
                who.len() as u64
            };
            there += during(&shifts) * (to - from);
            occupied += during(&busy) * (to - from);
        }
        if there == 0 { 0.0 } else { occupied as f64 / there as f64 }
    }

    fn recomputed(events: &[Event], window: u64, now: u64, policy: &Policy) -> Kpis {
        let start = now.saturating_sub(window).max(events[0].at_ms);
        let all: Vec<(usize, Urgency, Fact)> = lives(events)
            .iter()
            .enumerate()
            .flat_map(|(n, life)| facts(life, now).into_iter().map(move |(at, u, f)| (at, (n, u, f))))
            .filter(|(at, _)| *at >= start)
            .map(|(_, fact)| fact)
            .collect();
        let of = |urgency: Urgency| all.iter().copied().filter(|f| f.1 == urgency).collect::<Vec<_>>();
        let cells = Urgency::ALL.map(of);
        let counts = cells.each_ref().map(|cell| visitors(cell));
        let mut told = counts.map(|n| n >= 5);
        loop {
            let untold: usize = counts.iter().zip(told).filter(|(_, told)| !told).map(|(n, _)| n).sum();
            let smallest = (0..4).filter(|i| told[*i]).min_by_key(|i| counts[*i]);
            match smallest {
                Some(i) if (1..5).contains(&untold) => told[i] = false,
                _ => break,
            }
        }
        let enough = visitors(&all) >= 5;
        let mut i = 0;
        Kpis {
            window_ms: now - start,
            by_urgency: cells.map(|cell| {
                i += 1;
                (told[i - 1] && enough).then(|| figures(&cell, policy))
            }),
            all: enough.then(|| figures(&all, policy)),
            occupancy: occupancy(events, start, now, policy),
        }
    }

    /// Time on shift and time with chats, as the line itself had it.
    #[derive(Default)]
    struct Truth {
        there: u64,
        occupied: u64,
        /// Somebody may have had a wrap-up, of which the events tell only part of the truth.
        notes: bool,
    }

    impl Truth {
        fn pass(&mut self, before: &Snapshot, now: u64) {
            let ms = now - before.clock.now_ms;
            self.notes |= before.policy.as_ref().is_some_and(|p| p.numbers.wrap_up_ms != [0; 4]);
            let here = before.responders.values().filter(|r| r.status != Status::Offline);
            for responder in here {
                self.there += ms;
                let offered = holdfast_domain::HoldingKind::Offer;
                self.occupied += ms * u64::from(responder.holdings.iter().any(|h| h.kind != offered));
            }
        }
    }

    fn cases() -> u32 {
        std::env::var("HOLDFAST_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
    }

    #[test]
    fn the_fold_says_what_a_look_through_all_events_says() {
        let config = Config { cases: cases(), rng_seed: seed(), failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let windows = (1..90_000u64, any::<u8>());
        runner
            .run(&(windows, history(300)), |((window, which), ops)| {
                let (mut player, mut fold, mut truth) = (Player::new(7), Fold::new(), Truth::default());
                let mut events = player.play(&Player::first_command(which)).events;
                events.iter().for_each(|event| fold.take(event));
                for (n, op) in ops.iter().enumerate() {
                    let command: Command = player.command(op);
                    let before = player.line.snapshot().clone();
                    let applied = player.play(&command);
                    truth.pass(&before, player.line.snapshot().clock.now_ms);
                    applied.events.iter().for_each(|event| fold.take(event));
                    events.extend(applied.events);
                    if n % 50 != 49 && n + 1 != ops.len() {
                        continue;
                    }
                    let line = player.line.snapshot();
                    let (now, policy) = (line.clock.now_ms, line.policy.as_ref().unwrap());
                    for window in [window, u64::MAX] {
                        let (folded, expected) =
                            (fold.report(window, now, policy), recomputed(&events, window, now, policy));
                        let same = close(folded.occupancy, expected.occupancy);
                        prop_assert!(same, "{} is not {}", folded.occupancy, expected.occupancy);
                        prop_assert_eq!(Kpis { occupancy: 0.0, ..folded }, Kpis { occupancy: 0.0, ..expected });
                    }
                    let whole = fold.report(u64::MAX, now, policy);
                    // The fold takes wrap-ups from the policy of now, be it a moment old.
                    let notes = truth.notes || policy.numbers.wrap_up_ms != [0; 4];
                    if !notes && truth.there > 0 {
                        let true_share = truth.occupied as f64 / truth.there as f64;
                        prop_assert!(close(whole.occupancy, true_share), "{} {true_share}", whole.occupancy);
                    }
                    if let Some(all) = &whole.all {
                        prop_assert_eq!(all.requested, line.ledger.accepted);
                    }
                }
                Ok(())
            })
            .unwrap();
    }
}
