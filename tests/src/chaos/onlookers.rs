//! Those who only look: at the events of the line, at its own count of all chats, and at this machine.

use super::history::{Event, Fence, Floor, Record, Recorder, Stall};
use super::people::{PATIENCE, channel, outcome};
use crate::processes::HELPLINE;
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::{self, GetFloorRequest, Urgency, WatchEventsRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

const FLOOR_EVERY: Duration = Duration::from_secs(1);
const BREATH: Duration = Duration::from_millis(50);
/// A breath that takes so much longer is told of.
const GASP: Duration = Duration::from_millis(250);

/// Reads every event of the line, on another replica when one is gone, until aborted.
pub async fn read_events(recorder: Arc<Recorder>, queues: Vec<String>) {
    let mut cursor = String::new();
    for turn in 0.. {
        let mut client = QueueServiceClient::new(channel(&queues[turn % queues.len()]));
        let request = WatchEventsRequest { helpline: HELPLINE.to_owned(), from_cursor: cursor.clone() };
        let mut opened = match timeout(PATIENCE, client.watch_events(request)).await {
            Ok(Ok(opened)) => Ok(opened.into_inner()),
            Ok(Err(refused)) => Err(refused),
            Err(_) => continue,
        };
        let broken = loop {
            match &mut opened {
                Ok(stream) => match stream.message().await {
                    Ok(Some(message)) => {
                        let event = message.event.unwrap_or_default();
                        cursor.clone_from(&event.cursor);
                        recorder.take(Record::Event(seen(&recorder, event)));
                    }
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                },
                Err(status) => break Some(status.clone()),
            }
        };
        // The store is another one: its events are read from the first one.
        if broken.is_some_and(|status| status.code() == Code::OutOfRange) {
            cursor.clear();
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn seen(recorder: &Recorder, event: v1::Event) -> Event {
    let (outcome, urgency) = (outcome(event.outcome()), rank(event.urgency()));
    let status = event.status().as_str_name().trim_start_matches("RESPONDER_STATUS_").to_lowercase();
    Event {
        at_ms: recorder.now(),
        generation: event.cursor.split('.').next().unwrap_or_default().to_owned(),
        sequence: event.sequence,
        clock_ms: event.at_ms,
        kind: event.kind,
        chat: event.chat_id,
        responder: event.responder_id,
        urgency,
        offer: event.offer_number,
        fence: event.fence.map(|fence| Fence { epoch: fence.epoch, minted_by: fence.minted_by }),
        outcome,
        reason: event.reason,
        status,
    }
}

fn rank(urgency: Urgency) -> u8 {
    match urgency {
        Urgency::Low => 0,
        Urgency::Moderate | Urgency::Unspecified => 1,
        Urgency::High => 2,
        Urgency::Imminent => 3,
    }
}

/// Asks where every chat is, every second, until aborted.
pub async fn count(recorder: Arc<Recorder>, queues: Vec<String>) {
    for turn in 0.. {
        if let Some(floor) = floor(&recorder, &queues[turn % queues.len()]).await {
            recorder.take(Record::Floor(floor));
        }
        sleep(FLOOR_EVERY).await;
    }
}

/// Where every chat is, as a replica says.
pub async fn floor(recorder: &Recorder, queue: &str) -> Option<Floor> {
    let mut client = QueueServiceClient::new(channel(queue));
    let request = GetFloorRequest { helpline: HELPLINE.to_owned(), limit: 1 };
    let floor = timeout(PATIENCE, client.get_floor(request)).await.ok()?.ok()?.into_inner();
    let ledger = floor.ledger?;
    Some(Floor {
        at_ms: recorder.now(),
        accepted: ledger.accepted,
        waiting: ledger.waiting,
        offered: ledger.offered,
        active: ledger.active,
        ended: ledger.ended.iter().map(|ended| ended.count).sum(),
        difference: ledger.difference,
        last: false,
    })
}

/// Breathes, and tells when the machine holds its breath: what happens then says nothing about the services.
pub async fn breathe(recorder: Arc<Recorder>) {
    loop {
        let (began, from_ms) = (Instant::now(), recorder.now());
        sleep(BREATH).await;
        if began.elapsed() > GASP {
            recorder.take(Record::Stall(Stall { from_ms, to_ms: recorder.now() }));
        }
    }
}
