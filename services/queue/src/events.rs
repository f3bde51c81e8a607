//! WatchEvents: what happened since a cursor, page by page, then each event as it happens.

use std::{sync::Arc, time::Duration};

use holdfast_domain::HelplineId;
use holdfast_proto::v1;
use holdfast_runtime::Stop;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tonic::Status;

use crate::{
    convert,
    desk::Desk,
    error::{Failure, Invalid},
    store::{Cursor, Notice, Placed},
};

/// A lost notice delays an event by this much.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest cursor that is read.
const MAX_CURSOR_BYTES: usize = 128;

/// A cursor as text: generation, term and sequence.
pub(crate) fn cursor_text(cursor: &Cursor) -> String {
    format!("{}.{}.{}", cursor.generation, cursor.term, cursor.sequence)
}

/// Reads [`cursor_text`] back; empty is the oldest event that is kept.
pub(crate) fn cursor(field: &str, text: &str) -> Result<Cursor, Invalid> {
    if text.is_empty() {
        return Ok(Cursor::default());
    }
    parse(text).ok_or_else(|| Invalid::new(field, "must be a cursor as an event carried it, or empty"))
}

fn parse(text: &str) -> Option<Cursor> {
    if text.len() > MAX_CURSOR_BYTES {
        return None;
    }
    let mut parts = text.rsplitn(3, '.');
    let sequence = number(parts.next()?)?;
    let term = number(parts.next()?)?;
    let generation = parts.next()?;
    let plain = generation.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    plain.then(|| Cursor { generation: generation.to_owned(), term, sequence })
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| *n < convert::EXACT)
}

/// What a stream of events needs.
pub(crate) struct Following {
    pub(crate) desk: Arc<Desk>,
    pub(crate) stop: Stop,
    pub(crate) helpline: HelplineId,
    pub(crate) after: Cursor,
    pub(crate) page: usize,
    /// One of the streams that may be open at once, given back at the end.
    pub(crate) _place: OwnedSemaphorePermit,
}

type Reader = mpsc::Sender<Result<v1::WatchEventsResponse, Status>>;

/// Sends events until the reader is gone, the drain begins or the store fails; the reader comes back with its cursor.
pub(crate) async fn follow(mut following: Following, reader: Reader) {
    // Registered before the first look, so that nothing falls between.
    let mut notices = following.desk.store().notices();
    let draining = following.stop.draining();
    let ended = tokio::select! {
        ended = following.send_all(&mut notices, &reader) => ended,
        () = draining => Some(Failure::Draining),
        () = reader.closed() => None,
    };
    if let Some(failure) = ended {
        // Nobody may be there to hear it.
        let _ = tokio::time::timeout(LOOK_EVERY, reader.send(Err(failure.status()))).await;
    }
}

impl Following {
    async fn send_all(&mut self, notices: &mut broadcast::Receiver<Notice>, reader: &Reader) -> Option<Failure> {
        loop {
            let page = match self.desk.store().events(&self.helpline, &self.after, self.page).await {
                Ok(page) => page,
                Err(error) => return Some(error.into()),
            };
            let more = page.len() >= self.page;
            for placed in page {
                if reader.send(Ok(shown(&placed))).await.is_err() {
                    return None;
                }
                self.after = placed.cursor;
            }
            if !more {
                // Late or lost, a notice is only a hint.
                let _ = tokio::time::timeout(LOOK_EVERY, news(notices, &self.helpline)).await;
            }
        }
    }
}

fn shown(placed: &Placed) -> v1::WatchEventsResponse {
    v1::WatchEventsResponse { event: Some(convert::event(&placed.cursor, &placed.event)) }
}

/// Resolves when something may have happened at a helpline.
async fn news(notices: &mut broadcast::Receiver<Notice>, helpline: &HelplineId) {
    loop {
        match notices.recv().await {
            Ok(notice) if notice.events.is_empty() || notice.helpline == *helpline => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let there = Cursor { generation: "a1-b2".to_owned(), term: 7, sequence: 42 };
        assert_eq!(cursor("f", &cursor_text(&there)), Ok(there));
        assert_eq!(cursor("f", ""), Ok(Cursor::default()));
        assert_eq!(cursor("f", &cursor_text(&Cursor::default())), Ok(Cursor::default()));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let long = format!("{}.1.1", "a".repeat(MAX_CURSOR_BYTES));
        for bad in ["1", "1.1", "g.1.-1", "g.1.", "g.+1.1", "g g.1.1", "g.1.18446744073709551615", &long] {
            assert_eq!(cursor("from_cursor", bad).unwrap_err().field, "from_cursor", "{bad}");
        }
    }
}
