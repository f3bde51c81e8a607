//! The lines above the lists: how the floor stands, and how the line has served.

use std::time::Duration;

use holdfast_proto::v1::{GetFloorResponse, Kpis, UrgencyKpis};

use crate::words::{self, span};

/// What stands for a number that so few people are behind that it could tell of one of them.
const SUPPRESSED: &str = "<5";

/// Open or closed, who is on shift, how full it is, what is different from usual.
pub(super) fn standing(floor: &GetFloorResponse) -> String {
    let mut said = vec![if floor.open { "open" } else { "CLOSED" }.to_owned(), on_shift(floor)];
    said.push(format!("load {} %", floor.load_percent));
    said.push(match floor.surge_stage_number {
        0 => "no surge".to_owned(),
        number => format!("SURGE: {} (stage {number})", floor.surge_stage),
    });
    if floor.reroutes > 0 {
        said.push(format!("{} rerouted", counted(floor.reroutes.into(), "requirement")));
    }
    said.join("   ")
}

/// Below the minimum nothing is offered, which nobody must overlook.
fn on_shift(floor: &GetFloorResponse) -> String {
    let (here, least) = (floor.on_shift, floor.min_on_shift);
    match least {
        0 => format!("{here} on shift"),
        least if here < least => format!("GATE CLOSED: {here} on shift, nothing is offered below {least}"),
        least => format!("{here} on shift (at least {least})"),
    }
}

/// How honest and how fair the line has been.
pub(super) fn quality(floor: &GetFloorResponse) -> String {
    let cooling = floor.responders.iter().filter(|one| !words::duration(one.cooling_down_for.as_ref()).is_zero());
    let held = match floor.waits_shown {
        0 => "none has ended".to_owned(),
        shown => format!("{} of {shown} held", percent(floor.wait_coverage)),
    };
    format!("{} cooling down   load fairness {:.2}   shown waits: {held}", cooling.count(), floor.load_fairness)
}

/// How the line has served lately, and the longest wait of each urgency; or why that is not known.
pub(super) fn served(kpis: &Result<Kpis, String>) -> String {
    match kpis {
        Ok(kpis) => format!("{}\n{}", overall(kpis), longest(kpis)),
        Err(reason) => format!("no figures: {reason}"),
    }
}

fn overall(kpis: &Kpis) -> String {
    let lately = format!("last {}", span(words::duration(kpis.window.as_ref())));
    let Some(all) = kpis.all.as_ref().filter(|all| !all.suppressed) else {
        return format!("{lately}: {SUPPRESSED} visitors");
    };
    format!(
        "{lately}: {} came   {} answered   {} abandoned   {} in time   {} to answer   {} busy",
        all.requested,
        percent(all.answer_rate),
        percent(all.abandonment_rate),
        percent(all.service_level),
        all.average_speed_to_answer.as_ref().map_or("-".to_owned(), |speed| span(words::duration(Some(speed)))),
        percent(kpis.occupancy),
    )
}

/// The most urgent first.
fn longest(kpis: &Kpis) -> String {
    let mut cells: Vec<&UrgencyKpis> = kpis.by_urgency.iter().collect();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.urgency));
    let said: Vec<_> =
        cells.iter().map(|cell| format!("{} {}", words::urgency(cell.urgency), delay(cell))).collect();
    format!("longest wait: {}", said.join("   "))
}

fn delay(cell: &UrgencyKpis) -> String {
    if cell.suppressed {
        return SUPPRESSED.to_owned();
    }
    match cell.longest_delay.as_ref().map(|delay| words::duration(Some(delay))) {
        None | Some(Duration::ZERO) => "-".to_owned(),
        Some(delay) => span(delay),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use holdfast_proto::v1::{FloorResponder, Urgency};

    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn a_floor_in_a_surge_says_so_and_what_is_different() {
        let floor = GetFloorResponse {
            open: true,
            on_shift: 4,
            min_on_shift: 2,
            load_percent: 350,
            surge_stage: "busy".to_owned(),
            surge_stage_number: 1,
            reroutes: 1,
            ..GetFloorResponse::default()
        };
        let said = "open   4 on shift (at least 2)   load 350 %   SURGE: busy (stage 1)   1 requirement rerouted";
        assert_eq!(standing(&floor), said);
    }

    #[test]
    fn a_closed_gate_is_shouted() {
        let floor = GetFloorResponse { on_shift: 1, min_on_shift: 2, ..GetFloorResponse::default() };
        let said = "CLOSED   GATE CLOSED: 1 on shift, nothing is offered below 2   load 0 %   no surge";
        assert_eq!(standing(&floor), said);
    }

    #[test]
    fn quality_is_told_with_how_much_it_rests_on() {
        let resting = FloorResponder { cooling_down_for: seconds(60), ..FloorResponder::default() };
        let floor = GetFloorResponse {
            responders: vec![resting, FloorResponder::default()],
            load_fairness: 0.934,
            wait_coverage: 0.8,
            waits_shown: 40,
            ..GetFloorResponse::default()
        };
        assert_eq!(quality(&floor), "1 cooling down   load fairness 0.93   shown waits: 80 % of 40 held");
        let fresh = GetFloorResponse::default();
        assert!(quality(&fresh).ends_with("none has ended"));
    }

    #[test]
    fn cells_of_few_people_are_not_shown() {
        let cell = |urgency: Urgency| UrgencyKpis { urgency: urgency.into(), ..UrgencyKpis::default() };
        let kpis = Kpis {
            window: seconds(3600),
            all: Some(UrgencyKpis {
                requested: 41,
                answer_rate: 0.93,
                abandonment_rate: 0.05,
                service_level: 0.88,
                average_speed_to_answer: seconds(24),
                ..UrgencyKpis::default()
            }),
            by_urgency: vec![
                UrgencyKpis { longest_delay: seconds(250), ..cell(Urgency::Moderate) },
                UrgencyKpis { suppressed: true, ..cell(Urgency::Imminent) },
            ],
            occupancy: 0.5,
            ..Kpis::default()
        };
        let said = "last 1 h 0 min: 41 came   93 % answered   5 % abandoned   88 % in time   24.0 s to answer   50 % busy\n\
                    longest wait: IMMINENT <5   MODERATE 4 min 10 s";
        assert_eq!(served(&Ok(kpis)), said);
        let few = Kpis {
            window: seconds(60),
            all: Some(UrgencyKpis { suppressed: true, ..cell(Urgency::Low) }),
            ..Kpis::default()
        };
        assert!(served(&Ok(few)).starts_with("last 1 min 0 s: <5 visitors"));
        assert_eq!(served(&Err("x".to_owned())), "no figures: x");
    }
}
