//! The events of the helpline, as an operator's tool reads them.

use crate::inbox::Inbox;
use crate::processes::{HELPLINE, Process, connect};
use holdfast_proto::v1::queue_service_client::QueueServiceClient;
use holdfast_proto::v1::{Event, WatchEventsRequest, WatchEventsResponse};
use tonic::Status;

/// A stream of events.
pub struct Events {
    /// The events, as they came.
    pub inbox: Inbox<WatchEventsResponse>,
}

impl Events {
    /// Reads at a queue replica what came after a cursor; after an empty one, everything.
    pub async fn after(queue: &Process, cursor: &str) -> Self {
        let mut client = QueueServiceClient::new(connect(&queue.url()).await);
        let request = WatchEventsRequest { helpline: HELPLINE.to_owned(), from_cursor: cursor.to_owned() };
        let opened = client.watch_events(request).await;
        let inbox = Inbox::new("events", |inbox| async move {
            let mut stream = match opened {
                Ok(opened) => opened.into_inner(),
                Err(status) => {
                    let _ = inbox.send(Err::<WatchEventsResponse, Status>(status));
                    return;
                }
            };
            while let Some(message) = stream.message().await.transpose() {
                let over = message.is_err();
                if inbox.send(message).is_err() || over {
                    return;
                }
            }
        });
        Self { inbox }
    }

    /// The next event of a kind; those before it are gone.
    pub async fn until(&mut self, kind: &str) -> Event {
        let pick = |response: &WatchEventsResponse| response.event.clone().filter(|event| event.kind == kind);
        self.inbox.until(kind, pick).await
    }

    /// The next so many events.
    pub async fn next(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.extend(self.inbox.until("event", |response| Some(response.event.clone())).await);
        }
        events
    }
}
