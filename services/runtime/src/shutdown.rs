//! How a process ends: one stop signal with two phases, and the tasks that must not die unseen.

use std::{
    any::Any,
    collections::HashMap,
    error::Error,
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

type BoxError = Box<dyn Error + Send + Sync>;

/// The stop signal of a process, or of one service in it. Clones are the same signal.
///
/// 1. *draining*: finish what is in hand, tell peers to go elsewhere, take nothing new;
/// 2. *stopping*: end now.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl Stop {
    /// A signal that only [`trigger`](Self::trigger), [`stop_now`](Self::stop_now) or
    /// [`on_signals`](Self::on_signals) gives.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that follows this one, but can be given alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { draining: self.draining.child_token(), stopping: self.stopping.child_token() }
    }

    /// Begins the drain. Again is harmless.
    pub fn trigger(&self) {
        self.draining.cancel();
    }

    /// Ends everything at once, drained or not.
    pub fn stop_now(&self) {
        self.draining.cancel();
        self.stopping.cancel();
    }

    /// Resolves when the drain has begun.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.draining.clone().cancelled_owned()
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when there is no time left.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.stopping.clone().cancelled_owned()
    }

    /// Whether there is no time left.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Drains on the first SIGTERM or SIGINT and stops at once on the second. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When the system refuses the signal handlers.
    pub fn on_signals(&self) -> io::Result<()> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(self.clone().follow(terminate, interrupt));
        Ok(())
    }

    async fn follow(self, mut terminate: Signal, mut interrupt: Signal) {
        let first = either(&mut terminate, &mut interrupt).await;
        info!(signal = first, "draining; a second signal stops at once");
        self.trigger();
        let second = either(&mut terminate, &mut interrupt).await;
        warn!(signal = second, "stopping at once");
        self.stop_now();
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// How a background task ended.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It returned before the drain began.
    #[error("task {0} ended early")]
    EndedEarly(&'static str),
    /// It returned an error.
    #[error("task {name} failed: {source}")]
    Failed {
        /// The task.
        name: &'static str,
        /// What it returned.
        source: BoxError,
    },
    /// It panicked.
    #[error("task {0} panicked")]
    Panicked(&'static str),
    /// It had not ended by the deadline and was aborted.
    #[error("tasks still running at the deadline were aborted: {0}")]
    Unfinished(String),
}

/// What a background task may return: nothing, or a `Result` whose error is a failure.
pub trait TaskOutput: Send + 'static {
    /// The failure, if it is one.
    fn into_failure(self) -> Option<BoxError>;
}

impl TaskOutput for () {
    fn into_failure(self) -> Option<BoxError> {
        None
    }
}

impl<E: Into<BoxError> + Send + 'static> TaskOutput for Result<(), E> {
    fn into_failure(self) -> Option<BoxError> {
        self.err().map(Into::into)
    }
}

/// The background tasks of a service. Nobody dies silently: a task that panics, fails, or returns before the drain
/// has begun is logged and triggers the stop.
#[derive(Debug, Clone)]
pub struct TaskSet {
    stop: Stop,
    tracker: TaskTracker,
    abort: CancellationToken,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    next: AtomicU64,
    running: Mutex<HashMap<u64, &'static str>>,
    first_failure: Mutex<Option<TaskError>>,
}

impl TaskSet {
    /// An empty set whose tasks live until `stop`.
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self { stop, tracker: TaskTracker::new(), abort: CancellationToken::new(), ledger: Arc::default() }
    }

    /// Runs `future` until it ends, which it should do soon after [`Stop::draining`] or [`Stop::stopping`].
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let (abort, stop, ledger) = (self.abort.clone(), self.stop.clone(), Arc::clone(&self.ledger));
        let id = ledger.enter(name);
        self.tracker.spawn(async move {
            let guarded = AssertUnwindSafe(future).catch_unwind();
            let ended = abort.run_until_cancelled(guarded).await;
            if let Some(failure) = ended.and_then(|ended| verdict(name, ended, &stop)) {
                error!(task = name, error = %failure, "a background task is gone, so this process stops");
                ledger.fail(failure);
                stop.trigger();
            }
            ledger.leave(id);
        });
    }

    /// Waits for all tasks, at most `deadline`; then aborts what is left.
    ///
    /// # Errors
    /// The first task that failed, or else the names of those that were aborted.
    pub async fn join(&self, deadline: Duration) -> Result<(), TaskError> {
        self.tracker.close();
        let late = tokio::time::timeout(deadline, self.tracker.wait()).await.is_err();
        let unfinished = late.then(|| self.ledger.names());
        if let Some(names) = &unfinished {
            warn!(tasks = %names, "aborting the tasks that did not end in time");
            self.abort.cancel();
        }
        match (self.ledger.take_failure(), unfinished) {
            (Some(failure), _) => Err(failure),
            (None, Some(names)) => Err(TaskError::Unfinished(names)),
            (None, None) => Ok(()),
        }
    }
}

fn verdict<T: TaskOutput>(
    name: &'static str,
    ended: Result<T, Box<dyn Any + Send>>,
    stop: &Stop,
) -> Option<TaskError> {
    match ended.map(TaskOutput::into_failure) {
        Err(_panic) => Some(TaskError::Panicked(name)),
        Ok(Some(source)) => Some(TaskError::Failed { name, source }),
        Ok(None) if !stop.is_draining() => Some(TaskError::EndedEarly(name)),
        Ok(None) => None,
    }
}

impl Ledger {
    fn enter(&self, name: &'static str) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.running().insert(id, name);
        id
    }

    fn leave(&self, id: u64) {
        self.running().remove(&id);
    }

    fn names(&self) -> String {
        let mut names: Vec<_> = self.running().values().copied().collect();
        names.sort_unstable();
        names.join(", ")
    }

    fn fail(&self, failure: TaskError) {
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    fn take_failure(&self) -> Option<TaskError> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<u64, &'static str>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn draining_comes_before_stopping() {
        let stop = Stop::new();
        assert!(!stop.is_draining());
        stop.trigger();
        stop.draining().await;
        assert!(!stop.is_stopping());
        stop.stop_now();
        stop.stopping().await;
    }

    #[tokio::test]
    async fn a_child_follows_its_parent_but_not_the_other_way() {
        let parent = Stop::new();
        let child = parent.child();
        child.stop_now();
        assert!(!parent.is_draining());
        let other = parent.child();
        parent.trigger();
        other.draining().await;
    }

    #[tokio::test]
    async fn a_task_that_ends_after_the_drain_is_fine() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("patient", stop.draining());
        stop.trigger();
        assert!(tasks.join(LONG).await.is_ok());
    }

    #[tokio::test]
    async fn a_task_that_ends_early_stops_the_process() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("hasty", async {});
        stop.draining().await;
        assert_eq!(tasks.join(LONG).await.unwrap_err().to_string(), "task hasty ended early");
    }

    #[tokio::test]
    async fn a_task_that_panics_stops_the_process() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("clumsy", clumsy());
        stop.draining().await;
        assert_eq!(tasks.join(LONG).await.unwrap_err().to_string(), "task clumsy panicked");
    }

    async fn clumsy() {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_task_that_fails_is_reported_with_its_error() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("unlucky", async { Err::<(), _>(io::Error::other("no paper")) });
        stop.draining().await;
        assert_eq!(tasks.join(LONG).await.unwrap_err().to_string(), "task unlucky failed: no paper");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_aborted_at_the_deadline() {
        let stop = Stop::new();
        let tasks = TaskSet::new(stop.clone());
        tasks.spawn("endless", pending::<()>());
        stop.trigger();
        let error = tasks.join(LONG).await.unwrap_err().to_string();
        assert_eq!(error, "tasks still running at the deadline were aborted: endless");
        tasks.tracker.wait().await;
    }
}
