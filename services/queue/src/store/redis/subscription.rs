//! Listens for notices on a connection of its own and passes them on in order. Whenever some may have been missed,
//! readers are told to look again.

use super::decode;
use super::dial::Dial;
use super::primary::Primary;
use crate::store::{Notice, StoreError, keys};
use futures::StreamExt;
use redis::Msg;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

const RETRY: Duration = Duration::from_millis(200);
/// A node that says nothing is asked this often whether it is still there, and given so long to say so.
const ASK_AFTER: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Where notices are heard.
pub(super) enum Source {
    /// At the primary, whichever it is.
    Primary(Primary),
    /// At any node: in a cluster each hears of all.
    AnyOf(Vec<Dial>),
}

/// Subscribes, and again after every loss, until stopped. `ready` is told of the first success.
pub(super) async fn keep(
    source: Source,
    notices: broadcast::Sender<Notice>,
    stop: CancellationToken,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    for attempt in 0.. {
        tokio::select! {
            () = stop.cancelled() => return,
            lost = source.listen(attempt, &notices, &mut ready) => {
                if let Err(error) = lost {
                    tracing::warn!(%error, "lost the subscription to notices; trying again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

impl Source {
    async fn listen(
        &self,
        attempt: usize,
        notices: &broadcast::Sender<Notice>,
        ready: &mut Option<oneshot::Sender<()>>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Primary(primary) => {
                let mut changes = primary.changes();
                let dial = primary.live().await?.dial;
                let moved = changes
                    .wait_for(|live| live.as_ref().is_none_or(|live| live.dial.address() != dial.address()));
                tokio::select! {
                    lost = listen(&dial, notices, ready) => lost,
                    _ = moved => Ok(()),
                }
            }
            Self::AnyOf(dials) => {
                let dial = dials.get(attempt % dials.len().max(1));
                let dial = dial.ok_or_else(|| StoreError::Unreachable("no address".to_owned()))?;
                listen(dial, notices, ready).await
            }
        }
    }
}

async fn listen(
    dial: &Dial,
    notices: &broadcast::Sender<Notice>,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Result<(), StoreError> {
    let client = dial.client()?;
    let connecting = async {
        let mut subscription = client.get_async_pubsub().await?;
        subscription.psubscribe(keys::NOTICE_PATTERN).await?;
        Ok(subscription)
    };
    let subscription = in_time(ASK_AFTER, connecting).await?;
    match ready.take() {
        Some(ready) => drop(ready.send(())),
        None => look_again(notices),
    }
    let (mut sink, mut messages) = subscription.split();
    let mut ask = interval(ASK_AFTER);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => pass_on(&message, notices),
                None => return Ok(()),
            },
            _ = ask.tick() => {
                // A frozen node, or one that is gone without a word, would otherwise be listened to for ever.
                let _: redis::Value = in_time(ANSWER_WITHIN, sink.ping()).await?;
            }
        }
    }
}

async fn in_time<T>(
    within: Duration,
    asking: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::Unreachable("no answer in time".to_owned());
    timeout(within, asking).await.map_err(late)?.map_err(super::store_error)
}

fn pass_on(message: &Msg, notices: &broadcast::Sender<Notice>) {
    let Some(helpline) = keys::helpline_of_channel(message.get_channel_name()) else {
        return;
    };
    let Ok(payload) = message.get_payload::<String>() else {
        return;
    };
    if let Some(events) = decode::notice(&payload) {
        // Nobody listening is no error.
        let _ = notices.send(Notice { helpline, events: Arc::new(events) });
    }
}

/// A notice without events: some may have been missed.
fn look_again(notices: &broadcast::Sender<Notice>) {
    if let Ok(helpline) = holdfast_domain::HelplineId::parse("any") {
        let _ = notices.send(Notice { helpline, events: Arc::new(Vec::new()) });
    }
}
