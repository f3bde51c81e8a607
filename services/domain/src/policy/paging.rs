//! Where off-shift volunteers are called up.

use super::Policy;
use super::check::Mistakes;
use serde::{Deserialize, Serialize};

/// Longest address, in bytes.
const MAX_URL_BYTES: usize = 2000;

/// How off-shift volunteers are called up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// A webhook of the helpline's own: `https`, or `http` on this machine. It holds no secret: everybody who may read
    /// the policy reads it. What proves that a call comes from us is in the configuration of the service.
    pub url: String,
}

impl Policy {
    pub(super) fn check_paging(&self, mistakes: &mut Mistakes) {
        if let Some(problem) = self.paging.as_ref().and_then(|paging| problem_of(&paging.url)) {
            mistakes.add("paging.url", problem);
        }
    }
}

/// What is wrong with an address.
fn problem_of(url: &str) -> Option<&'static str> {
    if url.len() > MAX_URL_BYTES || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("must be an address of at most 2000 bytes, without spaces");
    }
    let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Some("must begin with https://"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.contains('@') || rest.contains(['?', '#']) {
        return Some("must hold no user, password or query: a policy holds no secrets");
    }
    let host = host_of(authority);
    if host.is_empty() {
        return Some("names no host");
    }
    let here = host == "localhost"
        || host == "[::1]"
        || host.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback());
    if secure || here { None } else { Some("must be https, or http to this machine") }
}

/// The host without its port.
fn host_of(authority: &str) -> &str {
    if let Some(end) = authority.find(']') {
        return authority.get(..=end).unwrap_or("");
    }
    authority.split(':').next().unwrap_or("")
}
