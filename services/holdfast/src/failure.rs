//! Why a command failed: one line for the person who typed it.

use std::{io, path::PathBuf};

use holdfast_runtime::{BoxError, client::ClientError, config::ConfigError, server::ServeError};

use crate::{audit::AuditFault, demo::DemoError, policy::PolicyFault};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing answers at the address.
    #[error("cannot reach {service} at {address}: {reason}")]
    Unreachable {
        /// Who was called.
        service: &'static str,
        /// Where.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A service said no.
    #[error("{service} refuses: {reason}")]
    Refused {
        /// Who.
        service: &'static str,
        /// What it said.
        reason: String,
    },
    /// A service said something that its contract does not allow.
    #[error("{service} answers without {missing}")]
    Incomplete {
        /// Who.
        service: &'static str,
        /// What should have been there.
        missing: &'static str,
    },
    /// An address is not one.
    #[error(transparent)]
    Address(#[from] ClientError),
    /// The terminal is gone.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// The command was stopped before it had done anything.
    #[error("stopped before {0} answered")]
    Stopped(&'static str),
    /// The same responder signed in elsewhere.
    #[error("{0} has signed in elsewhere: this session is over")]
    Replaced(String),
    /// A port is taken, or not ours.
    #[error(transparent)]
    Listen(#[from] ServeError),
    /// There are no ports so high.
    #[error("--port-base {0}: the ports after it end at 65535")]
    PortBase(u16),
    /// A setting was refused.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// `--config-dir` names a folder without settings.
    #[error("--config-dir: {} holds none of queue.toml, intake.toml and dispatch.toml", .0.display())]
    NoSettings(PathBuf),
    /// The throwaway policy could not be written.
    #[error("cannot write a throwaway policy: {0}")]
    Policy(#[source] io::Error),
    /// The throwaway certificates could not be made.
    #[error("cannot make throwaway certificates: {0}")]
    Certificates(#[source] io::Error),
    /// The issuer that `up` makes up could not be put down.
    #[error("cannot make an issuer of one's own: {0}")]
    Issuer(String),
    /// Nobody on this machine makes tokens for that address.
    #[error("no holdfast up of yours is at {0}: other services have an issuer of their own")]
    NoIssuer(String),
    /// A service that should run has ended.
    #[error("{service}: {source}")]
    Service {
        /// Which.
        service: String,
        /// Why.
        source: BoxError,
    },
    /// A service runs, but does not serve.
    #[error("{service} is not ready after {within}")]
    NotReady {
        /// Which.
        service: &'static str,
        /// How long it had.
        within: String,
    },
    /// The first chat did not arrive.
    #[error("the first chat was not through after {0}")]
    NoFirstChat(String),
    /// The first chat would have been in somebody's way.
    #[error("the line is in use, so no first chat: {0}")]
    LineInUse(String),
    /// A check failed.
    #[error("{failed} of {all} checks failed")]
    Unwell {
        /// So many.
        failed: usize,
        /// Of so many.
        all: usize,
    },
    /// A policy was not fit, not taken, or could not be played.
    #[error(transparent)]
    Rules(#[from] PolicyFault),
    /// An audit does not hold, or cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditFault),
    /// The demo could not be played, or shows something that must not be.
    #[error(transparent)]
    Demo(#[from] DemoError),
}
