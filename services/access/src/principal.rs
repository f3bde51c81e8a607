//! Who calls, and what they may speak for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use http::Extensions;

use crate::{Grant, Lease, Refused};

/// The longest name of somebody.
pub const MAX_SUBJECT_BYTES: usize = 200;
/// Helplines of one credential.
pub const MAX_HELPLINES: usize = 1000;
/// Capabilities of one credential.
pub const MAX_CAPABILITIES: usize = 256;

/// Whether somebody may be called so. Control characters separate names from other things elsewhere.
#[must_use]
pub fn is_subject(name: &str) -> bool {
    (1..=MAX_SUBJECT_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Which helplines a credential is for.
#[derive(Clone, PartialEq, Eq)]
pub enum Helplines {
    /// All of them: services among themselves, and operators of the whole installation.
    All,
    /// These.
    These(BTreeSet<String>),
}

impl Helplines {
    /// Whether this one is among them.
    #[must_use]
    pub fn contain(&self, helpline: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(helplines) => helplines.contains(helpline),
        }
    }
}

/// Somebody whose credential was good. It prints nothing of who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who: what the issuer, or the key's entry, calls them. For a responder it is their id.
    pub subject: String,
    /// For which helplines.
    pub helplines: Helplines,
    /// For what.
    pub grants: BTreeSet<Grant>,
    /// What they can do, by tag, up to which level; `None` where the issuer says nothing about it.
    pub capabilities: Option<BTreeMap<String, u32>>,
    /// When the credential expires, in seconds of wall time.
    pub expires_at: Option<u64>,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("grants", &self.grants).finish_non_exhaustive()
    }
}

/// Who calls, as far as that call needs to know. The gate puts it among the extensions of every request that it lets
/// through; where it is missing, nobody was let through.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Authentication is off, and the operator said so: everybody may everything.
    Unknown,
    /// The call is open, or its message proves the right to it.
    Anybody,
    /// Somebody known, for as long as the lease holds.
    Known(Arc<Principal>, Lease),
}

impl Caller {
    /// Who makes the call that has these extensions.
    ///
    /// # Errors
    /// When it did not pass the gate.
    pub fn of(extensions: &Extensions) -> Result<Self, Refused> {
        extensions.get::<Self>().cloned().ok_or(Refused::NotAuthenticated)
    }

    /// The helpline is one of theirs. One that is not looks like one that does not exist.
    ///
    /// # Errors
    /// When it is not.
    pub fn at(&self, helpline: &str) -> Result<(), Refused> {
        match self {
            Self::Unknown => Ok(()),
            Self::Known(principal, _) if principal.helplines.contain(helpline) => Ok(()),
            Self::Known(..) => Err(Refused::UnknownHelpline),
            Self::Anybody => Err(Refused::NotAuthenticated),
        }
    }

    /// The name in `field` is their own.
    ///
    /// # Errors
    /// When it is not.
    pub fn is(&self, field: &str, name: &str) -> Result<(), Refused> {
        match self {
            Self::Unknown => Ok(()),
            Self::Known(principal, _) if principal.subject == name => Ok(()),
            Self::Known(..) => Err(Refused::not_allowed(field, "must be who the credential names")),
            Self::Anybody => Err(Refused::NotAuthenticated),
        }
    }

    /// They can do this, up to that level, as far as the issuer says anything about it.
    #[must_use]
    pub fn can(&self, tag: &str, level: u32) -> bool {
        match self {
            Self::Unknown => true,
            Self::Anybody => false,
            Self::Known(principal, _) => match &principal.capabilities {
                None => true,
                Some(capabilities) => capabilities.get(tag).is_some_and(|most| level <= *most),
            },
        }
    }

    /// They have the grant.
    #[must_use]
    pub fn has(&self, grant: Grant) -> bool {
        match self {
            Self::Unknown => true,
            Self::Anybody => false,
            Self::Known(principal, _) => principal.grants.contains(&grant),
        }
    }

    /// Who they are, where that is known.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Known(principal, _) => Some(&principal.subject),
            Self::Unknown | Self::Anybody => None,
        }
    }

    /// For how long their credential holds; `None` where they need none.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Known(_, lease) => Some(lease),
            Self::Unknown | Self::Anybody => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ana() -> Caller {
        let principal = Principal {
            subject: "ana".to_owned(),
            helplines: Helplines::These(BTreeSet::from(["north".to_owned()])),
            grants: BTreeSet::from([Grant::Responder]),
            capabilities: Some(BTreeMap::from([("lang:es".to_owned(), 5), ("skill:minors".to_owned(), 2)])),
            expires_at: None,
        };
        Caller::Known(Arc::new(principal), Lease::open_ended())
    }

    #[test]
    fn somebody_speaks_for_themselves_at_their_own_helpline() {
        assert_eq!((ana().at("north"), ana().is("responder_id", "ana")), (Ok(()), Ok(())));
        assert_eq!(ana().at("south"), Err(Refused::UnknownHelpline));
        assert!(matches!(ana().is("responder_id", "bea"), Err(Refused::NotAllowed { .. })));
    }

    #[test]
    fn somebody_can_do_what_the_issuer_says_and_no_more() {
        assert!(ana().can("lang:es", 5) && ana().can("skill:minors", 2));
        assert!(!ana().can("skill:minors", 3) && !ana().can("lang:fr", 0));
    }

    #[test]
    fn a_request_that_did_not_pass_the_gate_is_nobodys() {
        assert_eq!(Caller::of(&Extensions::new()).unwrap_err(), Refused::NotAuthenticated);
        assert_eq!(Caller::Anybody.at("north"), Err(Refused::NotAuthenticated));
        assert!(!Caller::Anybody.has(Grant::Responder) && !Caller::Anybody.can("x", 0));
    }

    #[test]
    fn nothing_prints_who_somebody_is() {
        assert!(!format!("{:?}", ana()).contains("ana"));
    }
}
