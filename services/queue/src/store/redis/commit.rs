//! WAIT before the word is given. WAIT blocks whatever follows it on its connection, so it never runs on the shared one:
//! a few connections of their own each take what has come together, send it in one piece with one WAIT that covers all
//! of it, and hand out the answers when that says that enough replicas have them.
//!
//! | what happens | what becomes of the commands |
//! | --- | --- |
//! | enough replicas | answered |
//! | too few in time, a broken connection, no answer | unknown: `NotReplicated`, `Unreachable`; asked again with the same key |
//! | the node does not have the script | loaded and run again in another round, and only the WAIT of that round counts |
//! | refused by the node (OOM, READONLY, …), moved to another | nothing was changed, whatever the WAIT says |

use super::primary::{Live, Primary};
use super::scripts::Script;
use super::{Answer, CallError};
use crate::store::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Connections beside each other: while one waits for replicas, the next batch goes by another.
const LANES: usize = 4;
/// Commands in one piece.
const BATCH: usize = 64;
/// Commands that wait for their turn in one lane; more are kept waiting before it.
const QUEUE: usize = 256;

/// One command, and the script that it runs.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) cmd: Cmd,
    pub(super) script: Option<Arc<Script>>,
}

struct Job {
    call: Call,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

/// How many replicas must have what was written, and how long they may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) replicas: u32,
    pub(super) within: Duration,
    pub(super) response_timeout: Duration,
}

/// The durable connections to one primary.
pub(super) struct Lanes {
    lanes: Vec<mpsc::Sender<Job>>,
    turn: AtomicUsize,
    patience: Duration,
}

impl Lanes {
    /// Ends with the last sender.
    pub(super) fn open(primary: &Primary, wanted: Wanted) -> Self {
        let lanes = (0..LANES).map(|_| Lane::open(primary.clone(), wanted)).collect();
        Self { lanes, turn: AtomicUsize::new(0), patience: wanted.response_timeout }
    }

    /// Carries out a command and gives the answer when enough replicas have what it wrote.
    pub(super) async fn commit(&self, call: Call) -> Result<Answer, CallError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.lanes.len().max(1);
        let Some(lane) = self.lanes.get(turn) else {
            return Err(broken().into());
        };
        let (answer, answered) = oneshot::channel();
        let sent = lane.send_timeout(Job { call, answer }, self.patience).await;
        sent.map_err(|_| StoreError::Refusing("too many commands wait for replicas".to_owned()))?;
        answered.await.unwrap_or_else(|_| Err(broken().into()))
    }
}

fn broken() -> StoreError {
    StoreError::Unreachable("the connection was lost".to_owned())
}

/// One durable connection.
struct Lane {
    primary: Primary,
    wanted: Wanted,
    connected: Option<(Live, MultiplexedConnection)>,
}

impl Lane {
    fn open(primary: Primary, wanted: Wanted) -> mpsc::Sender<Job> {
        let (sender, mut jobs) = mpsc::channel(QUEUE);
        let mut lane = Self { primary, wanted, connected: None };
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while jobs.recv_many(&mut batch, BATCH).await > 0 {
                lane.carry_out(std::mem::take(&mut batch)).await;
            }
        });
        sender
    }

    async fn carry_out(&mut self, jobs: Vec<Job>) {
        let missing = self.round(jobs, false).await;
        if missing.is_empty() {
            return;
        }
        for job in self.round(missing, true).await {
            let _ = job.answer.send(Err(StoreError::Refusing("scripts are not kept".to_owned()).into()));
        }
    }

    /// Sends everything with one WAIT, and answers everybody but those whose script the node does not have.
    async fn round(&mut self, jobs: Vec<Job>, load: bool) -> Vec<Job> {
        let sent = match self.connect().await {
            Ok((live, mut connection)) => {
                let (pipeline, loads) = self.pipeline(&jobs, load);
                let count = loads + jobs.len() + 1;
                let answers = connection.send_packed_commands(&pipeline, 0, count).await;
                let answers = answers.map(|answers| answers.into_iter().skip(loads).collect::<Vec<_>>());
                answers.map(|answers| (live.number, answers)).map_err(|error| self.lost(live.number, error))
            }
            Err(error) => Err(error),
        };
        match sent {
            Ok((number, answers)) => self.hand_out(number, jobs, answers),
            Err(error) => {
                for job in jobs {
                    let _ = job.answer.send(Err(error.clone().into()));
                }
                Vec::new()
            }
        }
    }

    fn pipeline(&self, jobs: &[Job], load: bool) -> (Pipeline, usize) {
        let mut pipeline = redis::pipe();
        let mut loaded: Vec<&str> = Vec::new();
        for script in jobs.iter().filter_map(|job| job.call.script.as_deref()).filter(|_| load) {
            if !loaded.contains(&script.hash()) {
                loaded.push(script.hash());
                pipeline.cmd("SCRIPT").arg("LOAD").arg(script.code());
            }
        }
        for job in jobs {
            pipeline.add_command(job.call.cmd.clone());
        }
        let within = u64::try_from(self.wanted.within.as_millis()).unwrap_or(u64::MAX);
        pipeline.cmd("WAIT").arg(self.wanted.replicas).arg(within);
        (pipeline, loaded.len())
    }

    fn hand_out(&mut self, number: u64, jobs: Vec<Job>, mut answers: Vec<Value>) -> Vec<Job> {
        let acked = answers.pop().map_or(Err(broken()), |waited| self.acked(number, waited));
        let mut missing = Vec::new();
        for (job, answer) in jobs.into_iter().zip(answers) {
            let answer = answer.extract_error();
            if answer.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
                missing.push(job);
                continue;
            }
            let said = match (answer, &acked) {
                (Err(error), _) => Err(self.refused(number, error)),
                (Ok(value), Ok(replicas)) => Ok(Answer { value, replicas: *replicas, number }),
                (Ok(_), Err(error)) => Err(error.clone().into()),
            };
            // Nobody may be waiting any more.
            let _ = job.answer.send(said);
        }
        missing
    }

    /// How many replicas have it, when they are enough.
    fn acked(&self, number: u64, waited: Value) -> Result<u32, StoreError> {
        let acked: u32 = waited
            .extract_error()
            .map_err(|error| self.lost(number, error))
            .and_then(|value| redis::from_redis_value(value).map_err(|_| broken()))?;
        if acked >= self.wanted.replicas {
            return Ok(acked);
        }
        // A primary that has lost its replicas may be one that was replaced.
        self.primary.doubt();
        Err(StoreError::NotReplicated { acked, wanted: self.wanted.replicas })
    }

    fn refused(&self, number: u64, error: RedisError) -> CallError {
        CallError::of(error, |error| super::primary::failed(&self.primary, number, error))
    }

    fn lost(&self, number: u64, error: RedisError) -> StoreError {
        self.primary.note(number, &error);
        super::store_error(error)
    }

    /// A connection of its own to the primary as it is now.
    async fn connect(&mut self) -> Result<(Live, MultiplexedConnection), StoreError> {
        if let Some((live, connection)) = &self.connected
            && self.primary.is_current(live.number)
        {
            return Ok((live.clone(), connection.clone()));
        }
        self.connected = None;
        let live = self.primary.live().await?;
        let patience = self.wanted.response_timeout + self.wanted.within;
        let connection = match live.dial.with_response_timeout(patience).connect_to_primary().await {
            Ok(connection) => connection,
            Err(error) => {
                self.primary.gave_up(live.number);
                return Err(error);
            }
        };
        self.connected = Some((live.clone(), connection.clone()));
        Ok((live, connection))
    }
}
