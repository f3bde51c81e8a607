//! What somebody has received over a stream, in order, waited for with a deadline.

use crate::processes::PATIENCE;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// The messages of one stream. Dropping it ends the stream.
pub struct Inbox<T> {
    who: String,
    messages: mpsc::UnboundedReceiver<Result<T, Status>>,
    kept: VecDeque<T>,
    seen: Vec<String>,
    end: Option<Result<(), Status>>,
    reader: JoinHandle<()>,
}

impl<T: Debug + Send + 'static> Inbox<T> {
    /// Runs a reader, which passes on what it reads and ends with its stream.
    pub fn new<F>(who: &str, reader: impl FnOnce(mpsc::UnboundedSender<Result<T, Status>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, messages) = mpsc::unbounded_channel();
        let reader = tokio::spawn(reader(sender));
        Self { who: who.to_owned(), messages, kept: VecDeque::new(), seen: Vec::new(), end: None, reader }
    }

    /// The first message that `pick` takes; the others stay.
    pub async fn pick<R>(&mut self, what: &str, mut pick: impl FnMut(&T) -> Option<R>) -> R {
        let found = self.kept.iter().enumerate().find_map(|(i, message)| Some((i, pick(message)?)));
        if let Some((i, picked)) = found {
            self.kept.remove(i);
            return picked;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let message = self.next(what, until).await;
            match pick(&message) {
                Some(picked) => return picked,
                None => self.kept.push_back(message),
            }
        }
    }

    /// The first message that `pick` takes; those before it are gone.
    pub async fn until<R>(&mut self, what: &str, mut pick: impl FnMut(&T) -> Option<R>) -> R {
        while let Some(message) = self.kept.pop_front() {
            if let Some(picked) = pick(&message) {
                return picked;
            }
        }
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(picked) = pick(&self.next(what, until).await) {
                return picked;
            }
        }
    }

    /// How the stream ends.
    pub async fn end(&mut self) -> Result<(), Status> {
        let until = Instant::now() + PATIENCE;
        while self.end.is_none() {
            self.receive("the end", until).await;
        }
        self.end.clone().expect("an end")
    }

    /// Whether a message that `pick` takes has come, or comes within a time. For what must not happen.
    pub async fn comes_within<R>(&mut self, within: Duration, mut pick: impl FnMut(&T) -> Option<R>) -> Option<R> {
        if let Some(picked) = self.kept.iter().find_map(&mut pick) {
            return Some(picked);
        }
        let until = Instant::now() + within;
        while let Ok(message) = timeout_at(until, self.messages.recv()).await {
            let Some(Ok(message)) = message else {
                self.end.get_or_insert(message.map_or(Ok(()), |ended| ended.map(drop)));
                return None;
            };
            self.seen.push(format!("  {message:?}"));
            let picked = pick(&message);
            self.kept.push_back(message);
            if picked.is_some() {
                return picked;
            }
        }
        None
    }

    /// The first message that `pick` takes, if one has come or comes within a time; the others stay.
    pub async fn take_within<R>(&mut self, within: Duration, mut pick: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let picked = self.comes_within(within, &mut pick).await?;
        let at = self.kept.iter().position(|message| pick(message).is_some());
        at.map(|at| self.kept.remove(at));
        Some(picked)
    }

    /// Whether the stream is over.
    pub fn has_ended(&self) -> bool {
        self.end.is_some() || self.reader.is_finished() && self.messages.is_empty()
    }

    async fn next(&mut self, what: &str, until: Instant) -> T {
        loop {
            if let Some(end) = &self.end {
                panic!("{}: the stream ended, {end:?}, before {what}; came:\n{}", self.who, self.seen.join("\n"));
            }
            if let Some(message) = self.receive(what, until).await {
                return message;
            }
        }
    }

    async fn receive(&mut self, what: &str, until: Instant) -> Option<T> {
        match timeout_at(until, self.messages.recv()).await {
            Ok(Some(Ok(message))) => {
                self.seen.push(format!("  {message:?}"));
                Some(message)
            }
            Ok(Some(Err(status))) => {
                self.end = Some(Err(status));
                None
            }
            Ok(None) => {
                self.end.get_or_insert(Ok(()));
                None
            }
            Err(_) => panic!("{}: no {what} within {PATIENCE:?}; came:\n{}", self.who, self.seen.join("\n")),
        }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
