//! Carries commands to the store: the policy's tags become bits, the answer becomes words, both are measured.

use std::{sync::Arc, time::Instant};

use holdfast_domain::{Applied, Command, HelplineId, Refusal};
use holdfast_proto::v1;
use holdfast_runtime::clock;
use tokio::time::timeout_at;
use tracing::{Instrument, Span, error, field::Empty, info_span};

use crate::{
    convert::{self, Asked, Door},
    error::Failure,
    metrics::Metrics,
    policies::Policies,
    store::{Store, StoreError},
};

/// How often a command is made anew because the policy changed under it.
const ATTEMPTS: usize = 3;

/// What all calls share.
pub(crate) struct Desk {
    store: Arc<dyn Store>,
    policies: Policies,
    metrics: Metrics,
    /// The time of day, which opening hours go by; tests have their own.
    wall_ms: fn() -> u64,
}

impl Desk {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Metrics) -> Self {
        Self { policies: Policies::new(Arc::clone(&store)), store, metrics, wall_ms: clock::wall_ms }
    }

    /// Milliseconds since 1970, by the wall clock.
    pub(crate) fn wall_ms(&self) -> u64 {
        (self.wall_ms)()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Carries out a command. When `until` passes first, whether it was carried out is not known.
    pub(crate) async fn carry_out(
        &self,
        asked: &Asked,
        until: Option<tokio::time::Instant>,
    ) -> Result<v1::Outcome, Failure> {
        let work = self.attempt(asked);
        let result = match until {
            Some(until) => timeout_at(until, work).await.unwrap_or(Err(Failure::OutcomeUnknown)),
            None => work.await,
        };
        self.count(asked.word(), &result);
        result
    }

    /// Counts an answered command, and notes the outcome on its span.
    pub(crate) fn count<T>(&self, command: &'static str, result: &Result<T, Failure>) {
        let outcome = match result {
            Ok(_) => "ok".to_owned(),
            Err(failure) => failure.reason().word().to_lowercase(),
        };
        Span::current().record("outcome", outcome.as_str());
        self.metrics.command(command, outcome);
    }

    async fn attempt(&self, asked: &Asked) -> Result<v1::Outcome, Failure> {
        let helpline = &asked.helpline;
        let mut policy = self.policies.get(helpline).await?;
        let mut changed = Refusal::PolicyChanged { revision: policy.revision };
        for _ in 0..ATTEMPTS {
            let door = asked.door(&policy, self.wall_ms());
            let command = match asked.command(&policy, door) {
                Ok(command) => command,
                Err(invalid) => {
                    // A tag that is not known may be newer than the policy at hand.
                    let newer = self.policies.reload(helpline).await?;
                    if newer.revision == policy.revision {
                        return Err(invalid.into());
                    }
                    policy = newer;
                    continue;
                }
            };
            match self.execute(helpline, &command).await?.reply {
                Ok(reply) => return convert::outcome(reply, self.store.durability()),
                Err(Refusal::PolicyChanged { revision }) => {
                    if revision == policy.revision
                        && let Some(why) = turned_away(door)
                    {
                        return Err(why);
                    }
                    changed = Refusal::PolicyChanged { revision };
                }
                Err(Refusal::NoPolicy) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            policy = self.policies.reload(helpline).await?;
        }
        Err(changed.into())
    }

    /// One command in the store, measured, in a span of its own.
    pub(crate) async fn execute(&self, helpline: &HelplineId, command: &Command) -> Result<Applied, StoreError> {
        let word = command.word();
        // Ticks come all the time and belong to nobody's trace.
        let span = if matches!(command, Command::Tick { .. }) {
            Span::none()
        } else {
            info_span!("store", otel.name = %format_args!("store {word}"), otel.kind = "client")
        };
        let began = Instant::now();
        let applied = self.store.execute(helpline, command).instrument(span).await;
        self.metrics.store(word, began);
        if let Err(StoreError::Garbled(what)) = &applied {
            error!(%helpline, command = word, what, "the store cannot be understood");
        }
        applied
    }
}

/// Why a request that the line does not know yet is not let in.
fn turned_away(door: Door) -> Option<Failure> {
    match door {
        Door::Open | Door::Overflow => None,
        Door::Closed { opens_at_ms } => Some(Failure::Closed(opens_at_ms)),
        Door::OtherRules { revision } => Some(Refusal::PolicyChanged { revision }.into()),
    }
}

/// The span of a command: ids only.
pub(crate) fn command_span(asked: &Asked) -> Span {
    let span = info_span!(
        "command",
        otel.name = %format_args!("command {}", asked.word()),
        command = asked.word(),
        helpline = %asked.helpline,
        chat_id = Empty,
        outcome = Empty,
    );
    if let Some(chat) = &asked.chat {
        span.record("chat_id", chat.as_str());
    }
    span
}
