//! `[security.issuer]` of a service, and what must be said for it to start.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_runtime::{
    config::within,
    http::{HttpClient, HttpSetupError},
};
use http::Uri;
use serde::Deserialize;

use crate::{
    api_keys::KeysFileError,
    jwks::{KeysError, Rhythm, Source},
};

/// `[security.issuer]`: whose tokens are believed, and how they are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Its name, as tokens have it in `iss`; empty for no issuer.
    pub issuer: String,
    /// For whom its tokens must be meant (`aud`).
    pub audience: String,
    /// Where its keys are; `https`, or `http` on this machine.
    pub jwks_url: String,
    /// A file with its keys, instead.
    pub jwks_file: PathBuf,
    /// Certificates (PEM) of those who vouch for the name in the address; empty for whom the system believes.
    pub ca_file: PathBuf,
    /// Keys are asked for again after this. 1 s to 1 day.
    #[serde(deserialize_with = "within::<_, _, 1_000, 86_400_000>")]
    pub refresh_every_ms: u64,
    /// But never more often than this. 10 ms to 1 h.
    #[serde(deserialize_with = "within::<_, _, 10, 3_600_000>")]
    pub at_most_every_ms: u64,
    /// While there are no newer ones, keys are good for so long. 1 s to 30 days.
    #[serde(deserialize_with = "within::<_, _, 1_000, 2_592_000_000>")]
    pub keep_for_ms: u64,
    /// Tokens that hold for longer are refused. 1 min to 7 days.
    #[serde(deserialize_with = "within::<_, _, 60_000, 604_800_000>")]
    pub longest_token_ms: u64,
    /// The claim with the name of who it is: for responders their id.
    pub subject_claim: String,
    /// The claim with their helplines.
    pub helpline_claim: String,
    /// The claim with their roles.
    pub roles_claim: String,
    /// Only roles that begin so count, without it.
    pub role_prefix: String,
    /// The claim with what they can do; without it in a token, nothing is known of that.
    pub capabilities_claim: String,
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Nothing says how callers prove who they are.
    #[error(
        "{0} says how callers prove who they are; without that, security.insecure_no_authentication = true says that \
         whoever reaches the port may do everything"
    )]
    Missing(&'static str),
    /// Two things are said that cannot both be meant.
    #[error("security.insecure_no_authentication: {0} is set, so callers are meant to prove who they are")]
    Contradiction(&'static str),
    /// A setting of the issuer is missing or makes no sense.
    #[error("security.issuer.{setting}: {problem}")]
    Issuer {
        /// Which.
        setting: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The certificates cannot be used.
    #[error("security.issuer.ca_file: {0}")]
    Certificates(#[from] HttpSetupError),
    /// The file has no usable keys.
    #[error("security.issuer.jwks_file: {0}")]
    JwksFile(#[from] KeysError),
    /// The file of keys cannot be used.
    #[error("security.api_keys_file: {0}")]
    Keys(#[from] KeysFileError),
}

impl IssuerConfig {
    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// How often its keys are asked for.
    #[must_use]
    pub fn rhythm(&self) -> Rhythm {
        let ms = Duration::from_millis;
        Rhythm {
            refresh_every: ms(self.refresh_every_ms),
            at_most_every: ms(self.at_most_every_ms),
            keep_for: ms(self.keep_for_ms),
        }
    }

    /// Where its keys come from.
    ///
    /// # Errors
    /// One line for what is missing or makes no sense.
    pub fn source(&self) -> Result<Source, AccessError> {
        let wrong = |setting, problem| Err(AccessError::Issuer { setting, problem });
        if self.audience.is_empty() {
            return wrong("audience", "is needed: a token for somebody else must not be good here");
        }
        for (setting, value) in [
            ("subject_claim", &self.subject_claim),
            ("helpline_claim", &self.helpline_claim),
            ("roles_claim", &self.roles_claim),
        ] {
            if value.is_empty() {
                return wrong(setting, "is needed");
            }
        }
        match (self.jwks_url.is_empty(), self.jwks_file.as_os_str().is_empty()) {
            (true, true) => wrong("jwks_url", "is needed, or jwks_file"),
            (false, false) => wrong("jwks_file", "cannot be there beside jwks_url"),
            (true, false) => Ok(Source::File(self.jwks_file.clone())),
            (false, true) => match fetchable(&self.jwks_url) {
                Some(url) => Ok(Source::Url(url, HttpClient::trusting(&self.ca_file)?)),
                None => wrong("jwks_url", "must be https://…, or http://… on this machine"),
            },
        }
    }
}

/// Keys that came unprotected over a network could be anybody's.
fn fetchable(url: &str) -> Option<Uri> {
    let url: Uri = url.parse().ok()?;
    let host = url.host().filter(|host| !host.is_empty())?;
    let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let good = url.scheme_str() == Some("https") || url.scheme_str() == Some("http") && here;
    good.then_some(url)
}

/// What a service has to tell callers apart.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// Everybody may everything.
    pub insecure_no_authentication: bool,
    /// Tokens.
    pub issuer: &'a IssuerConfig,
    /// Keys; an empty path for none, and `None` where the service has no use for any.
    pub api_keys_file: Option<&'a Path>,
}

impl Means<'_> {
    pub(crate) fn keys_file(&self) -> Option<&Path> {
        self.api_keys_file.filter(|path| !path.as_os_str().is_empty())
    }

    /// Whether there are any.
    ///
    /// # Errors
    /// When nothing is said, or two things that cannot both be meant.
    pub(crate) fn are_there(&self) -> Result<bool, AccessError> {
        let set = match (self.issuer.is_set(), self.keys_file()) {
            (true, _) => Some("security.issuer.issuer"),
            (false, Some(_)) => Some("security.api_keys_file"),
            (false, None) => None,
        };
        match (self.insecure_no_authentication, set) {
            (true, Some(set)) => Err(AccessError::Contradiction(set)),
            (true, None) => Ok(false),
            (false, Some(_)) => Ok(true),
            (false, None) if self.api_keys_file.is_some() => {
                Err(AccessError::Missing("security.issuer.issuer or security.api_keys_file"))
            }
            (false, None) => Err(AccessError::Missing("security.issuer.issuer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const SETTINGS: &str = r#"
        issuer = "https://id.example"
        audience = "holdfast"
        jwks_url = "https://id.example/keys"
        jwks_file = ""
        ca_file = ""
        refresh_every_ms = 300000
        at_most_every_ms = 10000
        keep_for_ms = 86400000
        longest_token_ms = 86400000
        subject_claim = "sub"
        helpline_claim = "helplines"
        roles_claim = "roles"
        role_prefix = ""
        capabilities_claim = "capabilities"
    "#;

    fn settings(change: impl FnOnce(&mut IssuerConfig)) -> IssuerConfig {
        let mut settings = toml::from_str(SETTINGS).unwrap();
        change(&mut settings);
        settings
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(settings(|_| ()).source().is_ok());
        let refused = |change: fn(&mut IssuerConfig)| settings(change).source().err().unwrap().to_string();
        assert!(refused(|s| s.audience.clear()).starts_with("security.issuer.audience"));
        assert!(refused(|s| s.subject_claim.clear()).starts_with("security.issuer.subject_claim"));
        assert!(refused(|s| s.jwks_url.clear()).starts_with("security.issuer.jwks_url"));
        assert!(refused(|s| s.jwks_file = "x".into()).starts_with("security.issuer.jwks_file"));
        assert!(refused(|s| s.ca_file = "/nowhere".into()).starts_with("security.issuer.ca_file"));
    }

    #[test]
    fn keys_come_over_a_protected_way_or_from_this_machine() {
        for good in
            ["https://id.example/keys", "http://localhost:8080/keys", "http://127.0.0.1/k", "http://[::1]:1/k"]
        {
            assert!(fetchable(good).is_some(), "{good}");
        }
        for bad in ["http://id.example/keys", "ftp://localhost", "/keys", "https://", "", "http://127.0.0.1.evil/"]
        {
            assert!(fetchable(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_service_starts_with_one_way_or_aloud_with_none() {
        let (none, some) = (settings(|s| s.issuer.clear()), settings(|_| ()));
        let means = |insecure_no_authentication, issuer, file: &'static str| {
            let api_keys_file = Some(Path::new(file));
            Means { insecure_no_authentication, issuer, api_keys_file }.are_there()
        };
        assert!(means(false, &some, "").unwrap() && means(false, &none, "keys").unwrap());
        assert!(!means(true, &none, "").unwrap());
        assert!(matches!(means(false, &none, ""), Err(AccessError::Missing(_))));
        assert!(matches!(means(true, &some, ""), Err(AccessError::Contradiction(_))));
        assert!(matches!(means(true, &none, "keys"), Err(AccessError::Contradiction(_))));
    }
}
