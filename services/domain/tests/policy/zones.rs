//! The opening hours against an oracle that knows no offsets: it walks through the minutes, looks at the clock on the
//! wall at each of them, and asks of each range whether that time has been reached and whether it is yet to be left.
//!
//! Around every transition from 1970 to 2037, with hours that begin and end in, at and around the minutes that the
//! transition skips or repeats. By default over a sample of the zones, and further away from the transition not at every
//! minute (the next change is compared, so those between are answered for); `HOLDFAST_ALL_ZONES=1` takes all of both.

use holdfast_domain::Policy;
use holdfast_domain::policy::{Closed, Exception, Hours, Range, Zone};
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::collections::BTreeSet;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;
/// How far around a transition the answers are compared.
const AROUND: i64 = 36 * 60;
/// And how far at every minute, in the short form.
const CLOSE: usize = 4 * 60;
/// What the oracle sees beyond that: a range may have begun two days before, and clocks have skipped a day.
const BEYOND: i64 = 4 * DAY_MINUTES;

/// Zones with a past worth a look: skipped days, half-hour shifts, odd offsets, rules around the year's festivals.
const ODD: [&str; 24] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Monrovia",
    "America/Caracas",
    "America/Juneau",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Volgograd",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Enderbury",
    "Pacific/Kwajalein",
];

fn everything() -> bool {
    std::env::var_os("HOLDFAST_ALL_ZONES").is_some()
}

fn zones() -> BTreeSet<String> {
    let all: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    let every = if everything() { 1 } else { 12 };
    all.into_iter().step_by(every).chain(ODD.map(str::to_owned)).collect()
}

/// Small numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::try_from(self.below(values.len() as u64)).unwrap()]
    }
}

/// Hours as the oracle reads them: minutes after midnight of the day on which a range begins.
struct Plan {
    week: [Vec<(i64, i64)>; 7],
    exception: Option<(Date, Vec<(i64, i64)>)>,
}

impl Plan {
    /// Hours whose ends lie around the local times of a transition.
    fn around(transition: Timestamp, zone: &TimeZone, dice: &mut Dice) -> Self {
        let clock = |t: Timestamp| {
            let local = zone.to_datetime(t);
            i64::from(local.hour()) * 60 + i64::from(local.minute())
        };
        let (before, after) = (clock(transition - SignedDuration::from_mins(1)) + 1, clock(transition));
        let edges: Vec<i64> = [before, after, (before + after) / 2, 0, 9 * 60, 18 * 60]
            .into_iter()
            .flat_map(|edge| [-45, -1, 0, 0, 1, 20].map(|off| (edge + off).rem_euclid(DAY_MINUTES)))
            .collect();
        let mut day = || -> Vec<(i64, i64)> {
            let count = dice.one_of(&[0, 1, 1, 1, 2, 3]);
            let mut ranges: Vec<(i64, i64)> = (0..count).map(|_| range(dice, &edges)).collect();
            ranges.sort_unstable();
            ranges
        };
        let week = std::array::from_fn(|_| day());
        let ranges = day();
        let date = zone.to_datetime(transition).date();
        let exception = (dice.below(3) == 0).then_some((date, ranges));
        Self { week, exception }
    }

    fn on(&self, date: Date) -> &[(i64, i64)] {
        match &self.exception {
            Some((day, ranges)) if *day == date => ranges,
            _ => &self.week[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap()],
        }
    }

    fn policy(&self, name: &str) -> Policy {
        let mut days = self.week.iter().map(|ranges| written(ranges));
        let mut next = || days.next().unwrap();
        let exception = |(date, ranges): &(Date, Vec<(i64, i64)>)| Exception {
            date: date.to_string().try_into().unwrap(),
            name: "a day apart".to_owned(),
            open: written(ranges),
        };
        let hours = Hours {
            time_zone: Zone::try_from(name.to_owned()).unwrap(),
            closed: Closed::Resources,
            mon: next(),
            tue: next(),
            wed: next(),
            thu: next(),
            fri: next(),
            sat: next(),
            sun: next(),
            except: self.exception.iter().map(exception).collect(),
        };
        Policy { hours: Some(hours), ..Policy::default() }
    }
}

fn range(dice: &mut Dice, edges: &[i64]) -> (i64, i64) {
    let (from, to) = (dice.one_of(edges), dice.one_of(edges));
    match dice.below(8) {
        0 => (0, DAY_MINUTES),
        _ if to > from => (from, to),
        _ if to == from => (from, from + DAY_MINUTES - 1),
        _ => (from, to + DAY_MINUTES),
    }
}

fn written(ranges: &[(i64, i64)]) -> Vec<Range> {
    let clock = |m: i64| {
        let m = if m > DAY_MINUTES { m - DAY_MINUTES } else { m };
        format!("{:02}:{:02}", m / 60, m % 60)
    };
    ranges.iter().map(|(from, to)| format!("{}-{}", clock(*from), clock(*to)).try_into().unwrap()).collect()
}

/// What the clock on the wall shows, minute by minute.
struct Wall {
    first_minute: i64,
    /// Seconds since 1970 as the wall has it.
    shows: Vec<i64>,
    /// The latest time that was shown so far.
    reached: Vec<i64>,
    /// The earliest time that is yet to be shown, this minute included.
    to_come: Vec<i64>,
}

impl Wall {
    fn around(zone: &TimeZone, transition: Timestamp) -> Self {
        let first_minute = transition.as_second().div_euclid(60) - AROUND - BEYOND;
        let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
        let shows: Vec<i64> = (0..2 * (AROUND + BEYOND))
            .map(|i| zone.to_datetime(Timestamp::from_second((first_minute + i) * 60).unwrap()))
            .map(|local| local.duration_since(epoch).as_secs())
            .collect();
        let mut reached = shows.clone();
        (1..reached.len()).for_each(|i| reached[i] = reached[i].max(reached[i - 1]));
        let mut to_come = shows.clone();
        (0..to_come.len() - 1).rev().for_each(|i| to_come[i] = to_come[i].min(to_come[i + 1]));
        Self { first_minute, shows, reached, to_come }
    }

    /// Which minutes are open.
    fn open(&self, plan: &Plan) -> Vec<bool> {
        let day = |seconds: i64| seconds.div_euclid(86_400);
        let (first, last) = (day(self.shows[0]) - 3, day(*self.shows.last().unwrap()) + 1);
        let mut ranges = Vec::new();
        for day in first..=last {
            let date = jiff::civil::date(1970, 1, 1) + day.days();
            let at = |minutes: i64| day * 86_400 + minutes * 60;
            ranges.extend(plan.on(date).iter().map(|(from, to)| (at(*from), at(*to))));
        }
        let open = |i: usize| ranges.iter().any(|(from, to)| self.reached[i] >= *from && self.to_come[i] < *to);
        (0..self.shows.len()).map(open).collect()
    }
}

/// How many answers were compared.
fn compare(name: &str, zone: &TimeZone, transition: Timestamp, seed: u64) -> usize {
    let plan = Plan::around(transition, zone, &mut Dice(seed));
    let wall = Wall::around(zone, transition);
    let open = wall.open(&plan);
    let policy = plan.policy(name);
    let (first, last) = (usize::try_from(BEYOND).unwrap(), usize::try_from(BEYOND + 2 * AROUND).unwrap());
    let mut compared = 0;
    let mut change = first;
    for i in first..last {
        let minute = |i: usize| (wall.first_minute + i64::try_from(i).unwrap()) * MINUTE_MS;
        let now = minute(i);
        let close = i.abs_diff(usize::midpoint(first, last)) < CLOSE || i + 2 > change;
        if now < 0 || !(close || i % 7 == 0 || everything()) {
            continue;
        }
        let said = policy.opening(u64::try_from(now).unwrap());
        let about = || format!("{name}, transition {transition}, at {now}: {:?}", policy.hours);
        assert_eq!(said.open, open[i], "{}", about());
        if change <= i {
            change = (i..last).find(|later| open[*later] != open[i]).unwrap_or(last);
        }
        match (said.until_ms.map(|ms| i64::try_from(ms).unwrap()), (change < last).then_some(change)) {
            (until, None) => assert!(until.is_none_or(|until| until > minute(last - 1)), "{}", about()),
            (None, Some(_)) => panic!("no change is told: {}", about()),
            (Some(until), Some(change)) => {
                // Where an offset has seconds, a change falls between two minutes.
                let offset = |ms| zone.to_offset(Timestamp::from_millisecond(ms).unwrap()).seconds();
                let whole = offset(until) % 60 == 0 && offset(until - 1) % 60 == 0;
                let told = if whole { until } else { (until + MINUTE_MS - 1).div_euclid(MINUTE_MS) * MINUTE_MS };
                assert_eq!(told, minute(change), "{}", about());
            }
        }
        compared += 1;
    }
    compared
}

/// Transitions and answers compared, of one zone.
fn compare_zone(name: &str) -> (usize, usize) {
    let end = Timestamp::from_second(2_145_916_800).unwrap();
    let zone = TimeZoneDatabase::bundled().get(name).unwrap();
    let mut counts = (0, 0);
    for transition in zone.following(Timestamp::UNIX_EPOCH).take_while(|t| t.timestamp() < end) {
        let seed = name.bytes().fold(counts.0 as u64, |seed, b| seed.wrapping_mul(31).wrapping_add(b.into()));
        counts.1 += compare(name, &zone, transition.timestamp(), seed);
        counts.0 += 1;
    }
    counts
}

#[test]
fn hours_hold_around_every_transition() {
    let zones: Vec<String> = zones().into_iter().collect();
    assert!(zones.len() >= 60, "{} zones", zones.len());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let work = |w| zones.iter().skip(w).step_by(workers).map(|name| compare_zone(name)).collect::<Vec<_>>();
        let running: Vec<_> = (0..workers).map(|w| scope.spawn(move || work(w))).collect();
        running.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let (transitions, compared) = counts.iter().fold((0, 0), |sum, zone| (sum.0 + zone.0, sum.1 + zone.1));
    println!("{} zones, {transitions} transitions, {compared} answers", zones.len());
    assert!(transitions > 3000 && compared > 3_000_000);
}
