//! Listens for notices on a connection of its own and passes them on in order. Whenever some may have been missed,
//! readers are told to look again.

use super::decode;
use crate::store::{Notice, keys};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

const RETRY: Duration = Duration::from_millis(200);

/// Subscribes, and again after every loss, until stopped. `ready` is told of the first success.
pub(super) async fn keep(
    client: redis::Client,
    notices: broadcast::Sender<Notice>,
    stop: CancellationToken,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            lost = listen(&client, &notices, &mut ready) => {
                if let Err(e) = lost {
                    tracing::warn!(error = %e.category(), "lost the subscription to notices; trying again");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn listen(
    client: &redis::Client,
    notices: &broadcast::Sender<Notice>,
    ready: &mut Option<oneshot::Sender<()>>,
) -> redis::RedisResult<()> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.psubscribe(keys::NOTICE_PATTERN).await?;
    match ready.take() {
        Some(ready) => drop(ready.send(())),
        None => look_again(notices),
    }
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        let Some(helpline) = keys::helpline_of_channel(message.get_channel_name()) else {
            continue;
        };
        let payload: String = message.get_payload()?;
        if let Some(events) = decode::notice(&payload) {
            // Nobody listening is no error.
            let _ = notices.send(Notice { helpline, events: Arc::new(events) });
        }
    }
    Ok(())
}

/// A notice without events: some may have been missed.
fn look_again(notices: &broadcast::Sender<Notice>) {
    if let Ok(helpline) = holdfast_domain::HelplineId::parse("any") {
        let _ = notices.send(Notice { helpline, events: Arc::new(Vec::new()) });
    }
}
