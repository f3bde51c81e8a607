//! How the commands prove who types: with a token or key in a file, or, against a `holdfast up` on this machine, with a
//! token that they make themselves.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_access::{
    Grant,
    api_keys::NewKey,
    issuer::{For, Issuer, IssuerError},
};
use holdfast_runtime::{clock::wall_ms, config::read_secret};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

use crate::throwaway::{folder_at, make_private, write_private};

/// What the issuer of `holdfast up` calls itself.
pub(crate) const DEV_ISSUER: &str = "holdfast-up";

/// For whom its tokens are.
pub(crate) const AUDIENCE: &str = "holdfast";

/// Who asks, where that stands in no record.
pub(crate) const NOBODY: &str = "terminal";

/// A stream may last as long as this without anybody signing in again.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// How the command proves who types.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Credentials {
    /// A file with your token or key. It is read again for each call, so keep it fresh. Against a `holdfast up` on this
    /// machine none is needed.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// Who types, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Whom {
    subject: String,
    grants: Vec<Grant>,
}

impl Whom {
    pub(crate) fn new(subject: &str, grant: Grant) -> Self {
        Self { subject: subject.to_owned(), grants: vec![grant] }
    }
}

impl Credentials {
    /// What `whom` shows to the service at `address`, such as `https://127.0.0.1:50051`.
    pub(crate) fn at(&self, address: &str, whom: Whom) -> Credential {
        if let Some(file) = &self.token_file {
            return Credential(Kind::File(file.clone()));
        }
        Credential(Kind::Found(address.to_owned(), whom))
    }
}

/// What goes along with every call. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Credential(Kind);

#[derive(Debug, Clone)]
enum Kind {
    None,
    File(PathBuf),
    /// Of the `holdfast up` at an address, if there is one: the one that is there now, for one that starts anew has another key.
    Found(String, Whom),
    Made(Arc<Dev>, Whom),
}

impl Credential {
    /// For calls that need none, and for services that ask for none.
    pub(crate) const NONE: Self = Self(Kind::None);

    /// Of the issuer of this very process.
    pub(crate) fn of(dev: &Arc<Dev>, whom: Whom) -> Self {
        Self(Kind::Made(Arc::clone(dev), whom))
    }

    /// As it stands after the scheme; `None` where there is none.
    pub(crate) fn text(&self) -> Result<Option<String>, String> {
        match &self.0 {
            Kind::None => Ok(None),
            Kind::File(file) => {
                let text = read_secret(file).map_err(|error| error.to_string())?;
                Ok(Some(text.expose().to_owned()))
            }
            Kind::Found(address, whom) => {
                let dev = folder_at(address).and_then(|folder| Dev::open(&folder));
                dev.map(|dev| dev.token(whom)).transpose().map_err(|error| error.to_string())
            }
            Kind::Made(dev, whom) => dev.token(whom).map(Some).map_err(|error| error.to_string()),
        }
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(text) = self.text().map_err(Status::unauthenticated)? {
            let value = MetadataValue::<Ascii>::try_from(format!("Bearer {text}"));
            let mut value = value.map_err(|_| Status::unauthenticated("the token is not one line of text"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// The issuer of a `holdfast up`, as whoever runs it can use it.
#[derive(Debug)]
pub(crate) struct Dev {
    issuer: Issuer,
    helplines: BTreeSet<String>,
}

/// In a folder of the services: the issuer's published keys, the hashes of the doors' keys, and these keys.
const JWKS: &str = "jwks.json";
const HASHES: &str = "services.keys";

/// The file with what `door`, `intake` or `dispatch`, shows to the queue.
pub(crate) fn own_key(folder: &Path, door: &str) -> PathBuf {
    folder.join(format!("{door}.api_key"))
}

/// The file with the keys that the queue believes.
pub(crate) fn hashes(folder: &Path) -> PathBuf {
    folder.join(HASHES)
}

/// The file with the issuer's published keys.
pub(crate) fn jwks(folder: &Path) -> PathBuf {
    folder.join(JWKS)
}

/// In a folder of the user: the issuer's key, and the helplines that are served.
const KEY: &str = "issuer.key";
const HELPLINES: &str = "helplines";

impl Dev {
    /// With a new key.
    pub(crate) fn generate(helplines: BTreeSet<String>) -> Result<Self, IssuerError> {
        Ok(Self { issuer: Issuer::generate(DEV_ISSUER, AUDIENCE)?, helplines })
    }

    /// Puts down what services read, in a folder that nobody else looks into.
    pub(crate) fn furnish(&self, folder: &Path) -> io::Result<()> {
        make_private(folder)?;
        write_private(&jwks(folder), self.issuer.jwks().as_bytes())?;
        let mut entries = String::new();
        for (door, grant) in [("intake", Grant::Intake), ("dispatch", Grant::Dispatch)] {
            let key = NewKey::generate().map_err(io::Error::other)?;
            entries += &key.entry(door, &[grant], &["*".to_owned()]);
            write_private(&own_key(folder, door), key.key.as_bytes())?;
        }
        write_private(&hashes(folder), entries.as_bytes())
    }

    /// Puts it where the commands of the same user find it.
    pub(crate) fn save(&self, folder: &Path) -> io::Result<()> {
        make_private(folder)?;
        let helplines: Vec<&str> = self.helplines.iter().map(String::as_str).collect();
        write_private(&folder.join(HELPLINES), helplines.join("\n").as_bytes())?;
        write_private(&folder.join(KEY), self.issuer.key())
    }

    /// The one in a folder that nobody else could have put anything into, if there is one.
    fn open(folder: &Path) -> Option<Self> {
        let key = fs::read(folder.join(KEY)).ok()?;
        let helplines = fs::read_to_string(folder.join(HELPLINES)).ok()?;
        let issuer = Issuer::with_key(DEV_ISSUER, AUDIENCE, &key).ok()?;
        Some(Self { issuer, helplines: helplines.lines().map(str::to_owned).collect() })
    }

    fn token(&self, whom: &Whom) -> Result<String, IssuerError> {
        let helplines: Vec<&str> = self.helplines.iter().map(String::as_str).collect();
        let whom = For {
            subject: &whom.subject,
            helplines: &helplines,
            grants: &whom.grants,
            capabilities: None,
            life: LIFE,
        };
        self.issuer.token(&whom, wall_ms() / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_is_the_same_again_for_whoever_opens_its_folder() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("up");
        let dev = Dev::generate(BTreeSet::from(["demo".to_owned()])).unwrap();
        dev.save(&folder).unwrap();

        let again = Dev::open(&folder).unwrap();

        assert_eq!((again.issuer.jwks(), again.helplines), (dev.issuer.jwks(), dev.helplines));
    }
}
