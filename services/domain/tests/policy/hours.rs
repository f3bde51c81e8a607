//! Opening hours as people mean them. `zones.rs` compares them minute by minute; here are the cases with names.

use holdfast_domain::Policy;
use holdfast_domain::policy::Opening;

fn policy(hours: &str) -> Policy {
    let text = format!("helpline = \"river\"\nname = \"River\"\n[hours]\n{hours}");
    Policy::from_toml(&text).unwrap_or_else(|e| panic!("{e}"))
}

fn ms(time: &str) -> u64 {
    u64::try_from(time.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap()
}

fn open_until(time: &str) -> Opening {
    Opening { open: true, until_ms: Some(ms(time)) }
}

fn closed_until(time: &str) -> Opening {
    Opening { open: false, until_ms: Some(ms(time)) }
}

const NIGHTS: &str = r#"
time_zone = "Europe/Vienna"
mon = ["18:00-02:00"]
tue = ["18:00-24:00"]
wed = ["00:00-04:00", "18:00-24:00"]

[[hours.except]]
date = "2026-12-21" # a Monday
name = "longest night"
open = ["16:00-08:00"]

[[hours.except]]
date = "2026-12-28" # a Monday
name = "closed"
"#;

#[test]
fn without_hours_the_line_is_always_open() {
    let always = Opening { open: true, until_ms: None };
    assert_eq!(Policy::default().opening(0), always);
    assert_eq!(Policy::default().opening(u64::MAX), always);
}

#[test]
fn a_range_over_midnight_belongs_to_the_day_it_begins_on() {
    let nights = policy(NIGHTS);
    assert_eq!(nights.opening(ms("2026-11-23T16:59:59Z")), closed_until("2026-11-23T17:00:00Z"));
    assert_eq!(nights.opening(ms("2026-11-23T17:00:00Z")), open_until("2026-11-24T01:00:00Z"));
    assert_eq!(nights.opening(ms("2026-11-24T00:59:59Z")), open_until("2026-11-24T01:00:00Z"));
    assert_eq!(nights.opening(ms("2026-11-24T01:00:00Z")), closed_until("2026-11-24T17:00:00Z"));
}

#[test]
fn ranges_that_touch_are_one_opening() {
    let nights = policy(NIGHTS);
    assert_eq!(nights.opening(ms("2026-11-24T20:00:00Z")), open_until("2026-11-25T03:00:00Z"));
}

#[test]
fn an_exception_replaces_what_begins_on_its_day() {
    let nights = policy(NIGHTS);
    assert_eq!(nights.opening(ms("2026-12-21T15:00:00Z")), open_until("2026-12-22T07:00:00Z"));
    assert_eq!(nights.opening(ms("2026-12-28T18:00:00Z")), closed_until("2026-12-29T17:00:00Z"));
}

#[test]
fn an_opening_in_the_hour_that_spring_skips_begins_when_the_hour_is_over() {
    // On 29 March 2026 clocks in Vienna go from 02:00 to 03:00, at 01:00 UTC.
    let spring = policy("time_zone = \"Europe/Vienna\"\nsun = [\"02:15-05:00\"]\n");
    assert_eq!(spring.opening(ms("2026-03-29T00:30:00Z")), closed_until("2026-03-29T01:00:00Z"));
    assert_eq!(spring.opening(ms("2026-03-29T01:00:00Z")), open_until("2026-03-29T03:00:00Z"));
    let over_it = policy("time_zone = \"Europe/Vienna\"\nsun = [\"00:00-02:30\"]\n");
    assert_eq!(over_it.opening(ms("2026-03-29T00:30:00Z")), open_until("2026-03-29T01:00:00Z"));
    let within = policy("time_zone = \"Europe/Vienna\"\nsun = [\"02:15-02:45\"]\n");
    assert_eq!(within.opening(ms("2026-03-29T00:30:00Z")), closed_until("2026-04-05T00:15:00Z"));
}

#[test]
fn in_the_hour_that_autumn_repeats_the_line_stays_open_through_both() {
    // On 25 October 2026 clocks in Vienna go from 03:00 back to 02:00, at 01:00 UTC.
    let autumn = policy("time_zone = \"Europe/Vienna\"\nsun = [\"02:15-02:45\"]\n");
    assert_eq!(autumn.opening(ms("2026-10-25T00:00:00Z")), closed_until("2026-10-25T00:15:00Z"));
    assert_eq!(autumn.opening(ms("2026-10-25T00:50:00Z")), open_until("2026-10-25T01:45:00Z"));
    let until_then = policy("time_zone = \"Europe/Vienna\"\nsun = [\"00:00-02:00\"]\n");
    assert_eq!(until_then.opening(ms("2026-10-24T23:00:00Z")), open_until("2026-10-25T00:00:00Z"));
}

#[test]
fn a_day_that_the_calendar_skips_loses_nothing_but_itself() {
    // Samoa had no 30 December 2011: a Friday.
    let samoa = policy("time_zone = \"Pacific/Apia\"\nfri = [\"18:00-02:00\"]\n");
    assert_eq!(samoa.opening(ms("2011-12-30T09:59:00Z")), closed_until("2011-12-30T10:00:00Z"));
    assert_eq!(samoa.opening(ms("2011-12-30T10:00:00Z")), open_until("2011-12-30T12:00:00Z"));
}

#[test]
fn what_never_changes_has_no_end() {
    let all: String =
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].map(|d| format!("{d} = [\"00:00-24:00\"]\n")).concat();
    let always = policy(&format!("time_zone = \"UTC\"\n{all}"));
    assert_eq!(always.opening(ms("2026-11-23T12:00:00Z")), Opening { open: true, until_ms: None });
    let never = policy("time_zone = \"UTC\"\n");
    assert_eq!(never.opening(ms("2026-11-23T12:00:00Z")), Opening { open: false, until_ms: None });
    let once = policy(
        "time_zone = \"UTC\"\n[[hours.except]]\ndate = \"2027-11-23\"\nname = \"once\"\nopen = [\"10:00-11:00\"]\n",
    );
    assert_eq!(once.opening(ms("2026-11-23T12:00:00Z")), closed_until("2027-11-23T10:00:00Z"));
    assert_eq!(once.opening(ms("2027-11-23T11:00:00Z")), Opening { open: false, until_ms: None });
}
