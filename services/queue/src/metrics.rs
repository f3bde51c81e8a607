//! What operators see: instruments, and the task that measures the lines.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_domain::{HelplineId, Status};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    content::Count,
    convert,
    desk::Desk,
    store::{Floor, Standing, StoreError},
};

/// Bucket bounds of a store call, in seconds.
const SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];
/// How many chats and responders of a helpline are looked at to measure it.
const LOOK_AT: usize = 500;

/// The instruments.
pub(crate) struct Metrics {
    commands: Counter<u64>,
    store: Histogram<f64>,
    overflow: Counter<u64>,
    pages: Counter<u64>,
    content: Counter<u64>,
    attached: UpDownCounter<i64>,
    ledger_difference: Gauge<i64>,
    in_line: Gauge<u64>,
    oldest_waiting: Gauge<f64>,
    clock_lag: Gauge<f64>,
    responders: Gauge<u64>,
    surge_stage: Gauge<u64>,
    gate_open: Gauge<u64>,
    wait_coverage: Gauge<f64>,
    calls_for_supervisors: Gauge<u64>,
    delivery_failing: Gauge<u64>,
    policy_revision: Gauge<u64>,
    persistence: Gauge<u64>,
    replicas: Gauge<u64>,
    floor_ok: Gauge<u64>,
    declared: Gauge<u64>,
    too_few: Counter<u64>,
    audited: Counter<u64>,
    audit_behind: Gauge<f64>,
    audit_left: Gauge<u64>,
}

impl Metrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            commands: meter
                .u64_counter("holdfast_commands")
                .with_description("Commands answered, by command and by outcome: ok or the reason in lower case")
                .build(),
            store: meter
                .f64_histogram("holdfast_store_seconds")
                .with_description("Time of a command in the store, in seconds")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            overflow: meter
                .u64_counter("holdfast_overflow_errands")
                .with_description(
                    "Errands about chats on their way to a partner's line, by outcome: admitted, refused, released, \
                     left or unanswered",
                )
                .build(),
            pages: meter
                .u64_counter("holdfast_pages")
                .with_description("Waves of volunteers that were to be called up, by outcome: paged or failed")
                .build(),
            content: meter
                .u64_counter("holdfast_content")
                .with_description(
                    "Pieces of content, by what was done: sealed, opened or rewrapped; not_sealed, not_opened and \
                     not_rewrapped are content that its reader went without, keys_not_read a look at the keys that \
                     failed",
                )
                .build(),
            attached: meter
                .i64_up_down_counter("holdfast_attached_streams")
                .with_description("Attached replicas, by role")
                .build(),
            ledger_difference: meter
                .i64_gauge("holdfast_ledger_difference")
                .with_description(
                    "Accepted chats that are in no state: anything but 0 is a person lost or counted twice",
                )
                .build(),
            in_line: meter
                .u64_gauge("holdfast_in_line")
                .with_description("Chats that stand in the line, away visitors left out")
                .build(),
            oldest_waiting: meter
                .f64_gauge("holdfast_oldest_waiting_seconds")
                .with_description("The longest wait among the first 500 in line, in seconds")
                .build(),
            clock_lag: meter
                .f64_gauge("holdfast_service_clock_lag_seconds")
                .with_description("How far the service clock lags behind the wall, in seconds")
                .build(),
            persistence: meter
                .u64_gauge("holdfast_store_persistence")
                .with_description("How the store keeps changes: 0 in memory, 1 some time later, 2 on disk at once")
                .build(),
            replicas: meter
                .u64_gauge("holdfast_store_replicas")
                .with_description("Replicas that had the last canary write in time")
                .build(),
            floor_ok: meter
                .u64_gauge("holdfast_store_floor_ok")
                .with_description("1 while the store is at or above the durability floor, so that new chats are taken")
                .build(),
            declared: meter
                .u64_gauge("holdfast_store_declared")
                .with_description("1 while the persistence is declared by the operator and not verified")
                .build(),
            too_few: meter
                .u64_counter("holdfast_store_not_replicated")
                .with_description("Commands that too few replicas confirmed in time, outcome unknown")
                .build(),
            audited: meter
                .u64_counter("holdfast_audit_entries")
                .with_description(
                    "Entries that this replica appended to audits, by act; gap: events were gone before they were in it, \
                     rewound: entries that had been there were not, or not as they were",
                )
                .build(),
            audit_behind: meter
                .f64_gauge("holdfast_audit_lag_seconds")
                .with_description("Since when decisions wait to be in the audit, in seconds; 0 when all are")
                .build(),
            audit_left: meter
                .u64_gauge("holdfast_audit_lag_events")
                .with_description("Events that were not read for the audit after the last look")
                .build(),
            responders: meter
                .u64_gauge("holdfast_responders")
                .with_description("Responders who are here, by status, among the first 500")
                .build(),
            surge_stage: meter
                .u64_gauge("holdfast_surge_stage")
                .with_description("The stage of the surge in force, from 1; 0 for none")
                .build(),
            gate_open: meter
                .u64_gauge("holdfast_gate_open")
                .with_description("1 while enough are on shift for chats to be offered, else 0")
                .build(),
            wait_coverage: meter
                .f64_gauge("holdfast_wait_coverage")
                .with_description("Share of the shown waits that held, of those that ended with somebody; aim 0.8")
                .build(),
            calls_for_supervisors: meter
                .u64_gauge("holdfast_calls_for_supervisors")
                .with_description("Chats to which their responder asks a supervisor to come, of the first 500 responders")
                .build(),
            delivery_failing: meter
                .u64_gauge("holdfast_delivery_failing")
                .with_description(
                    "Chats that failed so often to reach whoever they were given to that a supervisor should look",
                )
                .build(),
            policy_revision: meter
                .u64_gauge("holdfast_policy_revision")
                .with_description("The revision of the policy that this replica goes by; 0 for none")
                .build(),
        }
    }

    pub(crate) fn command(&self, command: &'static str, outcome: String) {
        self.commands.add(1, &[KeyValue::new("command", command), KeyValue::new("outcome", outcome)]);
    }

    pub(crate) fn store(&self, command: &'static str, began: Instant) {
        self.store.record(began.elapsed().as_secs_f64(), &[KeyValue::new("command", command)]);
    }

    pub(crate) fn not_replicated(&self, command: &'static str) {
        self.too_few.add(1, &[KeyValue::new("command", command)]);
    }

    pub(crate) fn audited(&self, act: &str) {
        self.audited.add(1, &[KeyValue::new("act", act.to_owned())]);
    }

    pub(crate) fn audit_behind(&self, helpline: &HelplineId, since: Duration) {
        self.audit_behind.record(since.as_secs_f64(), &[KeyValue::new("helpline", helpline.to_string())]);
    }

    pub(crate) fn audit_left(&self, helpline: &HelplineId, events: u64) {
        self.audit_left.record(events, &[KeyValue::new("helpline", helpline.to_string())]);
    }

    fn standing(&self, standing: &Standing) {
        self.persistence.record(standing.persistence as u64, &[]);
        self.replicas.record(u64::from(standing.replicas), &[]);
        self.floor_ok.record(u64::from(standing.below.is_none()), &[]);
        self.declared.record(u64::from(standing.is_declared), &[]);
    }

    pub(crate) fn overflow(&self, outcome: &'static str) {
        self.overflow.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(crate) fn page(&self, outcome: &'static str) {
        self.pages.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    fn policy(&self, helpline: &HelplineId, revision: u64) {
        self.policy_revision.record(revision, &[KeyValue::new("helpline", helpline.to_string())]);
    }

    /// Counts what was done to a piece of content.
    pub(crate) fn content(&self) -> Count {
        let content = self.content.clone();
        Arc::new(move |done| content.add(1, &[KeyValue::new("done", done)]))
    }

    /// Counts an attached stream until the guard is dropped.
    pub(crate) fn attached(&self, role: &'static str) -> Attached {
        let attached = Attached { counter: self.attached.clone(), role };
        attached.add(1);
        attached
    }

    fn floor(&self, helpline: &HelplineId, floor: &Floor, min_on_shift: u64) {
        let of = [KeyValue::new("helpline", helpline.to_string())];
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        let now_ms = floor.clock.now_ms;
        let oldest = floor.waiting.iter().map(|c| now_ms.saturating_sub(c.arrival_ms)).max();
        self.ledger_difference.record(i64::try_from(floor.ledger.difference()).unwrap_or(i64::MAX), &of);
        self.in_line.record(floor.in_line, &of);
        self.oldest_waiting.record(seconds(oldest.unwrap_or(0)), &of);
        self.clock_lag.record(seconds(floor.clock.lag_ms()), &of);
        self.surge_stage.record(floor.surge.stage, &of);
        self.gate_open.record(u64::from(floor.on_shift >= min_on_shift), &of);
        if floor.waits.shown > 0 {
            self.wait_coverage.record(convert::coverage(&floor.waits), &of);
        }
        let calls = floor.responders.iter().flat_map(|r| &r.holdings).filter(|held| held.called_ms > 0).count();
        self.calls_for_supervisors.record(calls as u64, &of);
        self.delivery_failing.record(floor.failing_in_all, &of);
        for (status, count) in by_status(floor) {
            let [helpline] = of.clone();
            self.responders.record(count, &[helpline, KeyValue::new("status", status)]);
        }
    }
}

/// All statuses, so that one that nobody has any more goes to 0.
fn by_status(floor: &Floor) -> BTreeMap<&'static str, u64> {
    let here = Status::ALL.into_iter().filter(|s| *s != Status::Offline);
    let mut counts: BTreeMap<&'static str, u64> = here.map(|s| (s.word(), 0)).collect();
    counts.insert("cooling_down", 0);
    for responder in &floor.responders {
        let cools = responder.status == Status::Ready && responder.cooling_until_ms > floor.clock.now_ms;
        let word = if cools { "cooling_down" } else { responder.status.word() };
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// One attached stream.
pub(crate) struct Attached {
    counter: UpDownCounter<i64>,
    role: &'static str,
}

impl Attached {
    fn add(&self, n: i64) {
        self.counter.add(n, &[KeyValue::new("role", self.role)]);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.add(-1);
    }
}

/// Measures every helpline, again and again, and puts a policy back in force that the store has lost. How the store
/// stands is told at once.
pub(crate) async fn measure(desk: Arc<Desk>, every: Duration, done: CancellationToken) {
    let known = desk.policies().known();
    let mut standing = desk.standing();
    let mut moments = tokio::time::interval(every);
    moments.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        desk.metrics().standing(&standing.borrow_and_update());
        tokio::select! {
            () = done.cancelled() => return,
            Ok(()) = standing.changed() => continue,
            _ = moments.tick() => {}
        }
        let helplines = known.borrow().clone();
        for helpline in &helplines {
            if let Err(error) = look(&desk, helpline).await {
                debug!(%helpline, %error, "not measured");
            }
        }
    }
}

/// Measures a helpline, and notices when its policy is lost or another one.
pub(crate) async fn look(desk: &Desk, helpline: &HelplineId) -> Result<(), StoreError> {
    let floor = desk.store().floor(helpline, LOOK_AT).await?;
    let min_on_shift = desk.policies().last(helpline).map_or(0, |policy| policy.numbers.min_on_shift);
    desk.metrics().floor(helpline, &floor, min_on_shift);
    if floor.ledger.difference() != 0 {
        error!(%helpline, difference = %floor.ledger.difference(), "the ledger does not add up");
    }
    if floor.policy_revision != desk.policies().revision(helpline) {
        // A helpline without a policy is told so by whoever asks for it.
        let _ = desk.policies().reload(helpline).await;
    }
    desk.metrics().policy(helpline, desk.policies().revision(helpline));
    Ok(())
}
