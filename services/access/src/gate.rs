//! In front of every RPC: who calls, and whether the call is for them. What the table does not know is not let through, and
//! a stream ends when the credential that it was opened with is good no longer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use holdfast_runtime::{BoxError, Stop, TaskSet, clock::wall_ms};
use http::{HeaderMap, header::AUTHORIZATION};
use http_body::{Body as _, Frame, SizeHint};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use tokio::sync::watch;
use tonic::service::Routes;

use crate::{
    Grant, Lease, Principal, Refused,
    api_keys::{self, ApiKeys},
    jwks::{Keys, Source},
    lease::GRACE,
    principal::Caller,
    settings::{AccessError, Means},
    table::{self, Who},
    tokens::Tokens,
};

/// Handlers that watch the lease themselves end their streams in order before the gate cuts them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The scheme of the header, before the credential.
const BEARER: &str = "bearer ";

/// Who may come in. Clones are the same.
#[derive(Debug, Clone)]
pub struct Access(Option<Arc<Gate>>);

#[derive(Debug)]
struct Gate {
    tokens: Option<Tokens>,
    keys: Option<Arc<ApiKeys>>,
    calls: Counter<u64>,
}

impl Access {
    /// As the settings say. Refused calls are counted.
    ///
    /// # Errors
    /// One line for what is missing, makes no sense or cannot be read.
    pub async fn of(means: &Means<'_>, meter: &Meter) -> Result<Self, AccessError> {
        if !means.are_there()? {
            return Ok(Self(None));
        }
        let issuer = means.issuer;
        let tokens = if issuer.is_set() {
            let source = issuer.source()?;
            let keys = Arc::new(Keys::new(source.clone(), issuer.rhythm()));
            if let Source::File(_) = source {
                keys.refresh().await?;
            }
            Some(Tokens::new(issuer.clone(), keys))
        } else {
            None
        };
        let keys = means.keys_file().map(ApiKeys::open).transpose()?.map(Arc::new);
        let calls = meter
            .u64_counter("holdfast.access.refused")
            .with_description("Calls that were not let through, by the reason")
            .build();
        Ok(Self(Some(Arc::new(Gate { tokens, keys, calls }))))
    }

    /// Checks what can be checked of the settings without asking anybody.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn check(means: &Means<'_>) -> Result<(), AccessError> {
        if !means.are_there()? {
            return Ok(());
        }
        if means.issuer.is_set() {
            means.issuer.source()?;
        }
        means.keys_file().map(ApiKeys::open).transpose()?;
        Ok(())
    }

    /// Keeps keys fresh until `stop`.
    pub fn keep_fresh(&self, stop: &Stop, tasks: &TaskSet) {
        let Some(gate) = &self.0 else { return };
        if let Some(tokens) = &gate.tokens {
            let keeping = Arc::clone(tokens.keys()).follow(stop.clone());
            tasks.spawn("issuer keys", async move {
                keeping.await;
                Ok::<(), BoxError>(())
            });
        }
        if let Some(keys) = &gate.keys {
            let keeping = Arc::clone(keys).follow(stop.clone());
            tasks.spawn("api keys", async move {
                keeping.await;
                Ok::<(), BoxError>(())
            });
        }
    }

    /// Whether the issuer's keys are known, as it changes; `None` where there is no issuer.
    #[must_use]
    pub fn has_keys(&self) -> Option<watch::Receiver<bool>> {
        Some(self.0.as_ref()?.tokens.as_ref()?.keys().there())
    }

    /// Puts the gate in front of all of a service's calls.
    #[must_use]
    pub fn protect(&self, routes: Routes) -> Routes {
        Routes::from(routes.into_axum_router().layer(from_fn_with_state(self.clone(), pass)))
    }

    /// Somebody who holds a stream shows a fresh token: the same person, still allowed what `grant` says at `helpline`.
    /// Their lease is as long as the token's.
    ///
    /// # Errors
    /// When the token is not good, or not theirs, or no longer for this.
    pub async fn renew(&self, caller: &Caller, token: &str, helpline: &str, grant: Grant) -> Result<(), Refused> {
        let (Some(gate), Some(lease)) = (&self.0, caller.lease()) else {
            return Ok(());
        };
        let (principal, fresh) = gate.known(token).await?;
        let same = caller.subject() == Some(&principal.subject);
        if !same || !principal.grants.contains(&grant) || !principal.helplines.contain(helpline) {
            return Err(Refused::not_for_this());
        }
        match fresh.ends() {
            Some(until) => lease.renew(until),
            None => return Err(Refused::not_for_this()),
        }
        Ok(())
    }
}

impl Gate {
    async fn caller(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Refused> {
        let grants = match table::of(path) {
            Some(Who::Anybody | Who::Visitor) => return Ok(Caller::Anybody),
            Some(Who::Granted(grants)) => grants,
            Some(Who::Nobody) | None => return Err(Refused::UnknownRpc),
        };
        let (principal, lease) = self.known(credential(headers)?).await?;
        let is_for_them = grants.iter().any(|grant| principal.grants.contains(grant));
        if is_for_them { Ok(Caller::Known(principal, lease)) } else { Err(Refused::not_for_this()) }
    }

    /// Whose credential this is.
    async fn known(&self, credential: &str) -> Result<(Arc<Principal>, Lease), Refused> {
        if credential.starts_with(api_keys::PREFIX) {
            return self.keys.as_ref().ok_or(Refused::NotAuthenticated)?.verify(credential);
        }
        let tokens = self.tokens.as_ref().ok_or(Refused::NotAuthenticated)?;
        tokens.verify(credential, wall_ms() / 1000).await
    }
}

/// The credential of a call; there must be one, and no more.
fn credential(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return Err(Refused::NotAuthenticated);
    };
    let text = only.to_str().map_err(|_| Refused::NotAuthenticated)?;
    let (scheme, credential) = text.split_at_checked(BEARER.len()).ok_or(Refused::NotAuthenticated)?;
    if scheme.eq_ignore_ascii_case(BEARER) && !credential.is_empty() {
        return Ok(credential);
    }
    Err(Refused::NotAuthenticated)
}

async fn pass(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let Some(gate) = &access.0 else {
        request.extensions_mut().insert(Caller::Unknown);
        return next.run(request).await;
    };
    let caller = match gate.caller(request.uri().path(), request.headers()).await {
        Ok(caller) => caller,
        Err(refused) => {
            gate.calls.add(1, &[KeyValue::new("reason", refused.reason())]);
            return refused.status().into_http();
        }
    };
    // Nobody behind the gate has any use for it.
    request.headers_mut().remove(AUTHORIZATION);
    let lease = caller.lease().cloned();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    match lease {
        Some(lease) if !response.body().is_end_stream() => {
            response.map(|body| Body::new(Leased::new(body, &lease)))
        }
        Some(_) | None => response,
    }
}

/// A response that goes on no longer than the credential of the call.
struct Leased {
    /// Nothing more once it is over.
    body: Option<Body>,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Leased {
    fn new(body: Body, lease: &Lease) -> Self {
        Self { body: Some(body), over: Box::pin(lease.over(GRACE + LAST_WORDS)) }
    }
}

impl http_body::Body for Leased {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // First, for a stream that always has something to say must end as well.
        if this.over.as_mut().poll(cx).is_pending() {
            return Pin::new(body).poll_frame(cx);
        }
        this.body = None;
        let mut trailers = HeaderMap::new();
        // Fails only for a message that cannot be a header, and this one can.
        let _ = Refused::TokenExpired.status().add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}
