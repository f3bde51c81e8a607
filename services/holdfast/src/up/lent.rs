//! What `holdfast up` makes up for itself and takes back at the end: an authority with certificates, an issuer of tokens, and
//! keys for its own services. Whoever can read the folders that these lie in can be anybody, so nobody but the user can.

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use holdfast_access::Grant;

use super::services::Addresses;
use crate::{
    Failure,
    credential::{self, AUDIENCE, Credential, DEV_ISSUER, Dev, Whom},
    remote::Remote,
    throwaway::{Authority, Files, OPERATOR, folder_of, make_private},
};

/// An overriding setting.
type Setting = (&'static str, String);

/// All of it. It is removed when this is dropped.
pub(super) struct Lent {
    dev: Arc<Dev>,
    /// `None` where plaintext was asked for.
    certificates: Option<Certificates>,
    /// What the services read lies in the first; what commands look for lies in each, by the port of whichever service they
    /// call.
    folders: [PathBuf; 3],
}

/// One for each service, of an authority that is forgotten already.
struct Certificates {
    intake: Files,
    queue: Files,
    dispatch: Files,
    operator: Files,
}

impl Lent {
    /// For services at these addresses, and the helplines in this folder of policies.
    pub(super) fn make(policies: &Path, addresses: Addresses, encrypts: bool) -> Result<Self, Failure> {
        let dev = Dev::generate(helplines(policies)).map_err(|error| Failure::Issuer(error.to_string()))?;
        let folders =
            [addresses.intake, addresses.queue, addresses.dispatch].map(|address| folder_of(address.port()));
        // From here on it is removed whatever fails.
        let mut lent = Self { dev: Arc::new(dev), certificates: None, folders };
        lent.write().map_err(|error| Failure::Issuer(error.to_string()))?;
        if encrypts {
            lent.certificates = Some(Certificates::make(&lent.folders, addresses).map_err(Failure::Certificates)?);
        }
        Ok(lent)
    }

    fn write(&self) -> io::Result<()> {
        for folder in &self.folders {
            make_private(folder)?;
            self.dev.save(folder)?;
        }
        self.dev.furnish(self.files())
    }

    fn files(&self) -> &Path {
        let [first, ..] = &self.folders;
        first
    }

    /// The address of one of the services.
    pub(super) fn url(&self, at: SocketAddr) -> String {
        format!("{}://{at}", if self.encrypts() { "https" } else { "http" })
    }

    pub(super) fn encrypts(&self) -> bool {
        self.certificates.is_some()
    }

    /// The authority's certificate, for tools that are told whom to believe.
    pub(super) fn ca(&self) -> Option<String> {
        self.certificates.as_ref().map(|all| shown(&all.operator.ca))
    }

    /// One of the services, as `up` itself calls it.
    pub(super) fn remote(&self, service: &'static str, at: SocketAddr, subject: &str, grant: Grant) -> Remote {
        let tls = self.certificates.as_ref().map(|all| all.operator.client()).unwrap_or_default();
        Remote::new(service, &self.url(at), tls, Credential::of(&self.dev, Whom::new(subject, grant)))
    }

    pub(super) fn of_queue(&self) -> Vec<Setting> {
        let mut settings = self.of_all();
        settings.push(("security.api_keys_file", shown(&credential::hashes(self.files()))));
        settings.extend(self.certificates.iter().flat_map(|all| all.queue.of_server(true)));
        settings
    }

    pub(super) fn of_intake(&self) -> Vec<Setting> {
        self.of_door("intake", self.certificates.as_ref().map(|all| &all.intake))
    }

    pub(super) fn of_dispatch(&self) -> Vec<Setting> {
        self.of_door("dispatch", self.certificates.as_ref().map(|all| &all.dispatch))
    }

    fn of_door(&self, door: &str, files: Option<&Files>) -> Vec<Setting> {
        let mut settings = self.of_all();
        settings.push(("queue.key_file", shown(&credential::own_key(self.files(), door))));
        settings.extend(files.into_iter().flat_map(|files| [files.of_server(false), files.of_client()].concat()));
        settings
    }

    fn of_all(&self) -> Vec<Setting> {
        vec![
            ("security.insecure_no_authentication", "false".to_owned()),
            ("security.insecure_no_tls", (!self.encrypts()).to_string()),
            ("security.issuer.issuer", DEV_ISSUER.to_owned()),
            ("security.issuer.audience", AUDIENCE.to_owned()),
            ("security.issuer.jwks_url", String::new()),
            ("security.issuer.jwks_file", shown(&credential::jwks(self.files()))),
        ]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for folder in &self.folders {
            // What is left behind opens nothing: the next one has other keys.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

impl Certificates {
    fn make(folders: &[PathBuf; 3], addresses: Addresses) -> io::Result<Self> {
        let authority = Authority::new()?;
        let [at_intake, at_queue, at_dispatch] = folders;
        authority.vouch(at_queue, OPERATOR, None)?;
        authority.vouch(at_dispatch, OPERATOR, None)?;
        Ok(Self {
            intake: authority.vouch(at_intake, "intake", Some(addresses.intake.ip()))?,
            queue: authority.vouch(at_queue, "queue", Some(addresses.queue.ip()))?,
            dispatch: authority.vouch(at_dispatch, "dispatch", Some(addresses.dispatch.ip()))?,
            operator: authority.vouch(at_intake, OPERATOR, None)?,
        })
    }
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

/// Whose policies lie in a folder. What cannot be read is told by the queue.
fn helplines(policies: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(policies).into_iter().flatten().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let tables = texts.filter_map(|text| text.parse::<toml::Table>().ok());
    tables.filter_map(|table| Some(table.get("helpline")?.as_str()?.to_owned())).collect()
}
