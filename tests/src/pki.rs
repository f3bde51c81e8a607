//! Certificates that are only good for tests.

use holdfast_runtime::tls::ClientTlsConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tempfile::TempDir;

/// Somebody who may vouch for others.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Where an authority's certificate lies, and somebody's own with its key.
#[derive(Debug, Clone)]
pub struct Files {
    /// The authority.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one, that nobody believes yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tests only");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate for `holder`, who may also serve on loopback, into a folder.
    pub fn vouch(&self, folder: &Path, holder: &str) -> Files {
        self.vouch_for(folder, holder, &[holder, "localhost", "127.0.0.1"])
    }

    /// The same for these names and no others.
    pub fn vouch_for(&self, folder: &Path, holder: &str, names: &[&str]) -> Files {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let (certificate, key_file) = (format!("{holder}.pem"), format!("{holder}.key"));
        let put = |name: &str, text: &str| {
            let (new, file) = (folder.join(format!("{name}.new")), folder.join(name));
            fs::write(&new, text).expect("a file");
            fs::rename(&new, &file).expect("a file in its place");
            file
        };
        Files {
            ca: put("ca.pem", &self.pem),
            cert: put(&certificate, &cert),
            key: put(&key_file, &key.serialize_pem()),
        }
    }
}

/// Who vouches in all deployments with TLS that this program starts, and the files of whoever looks from outside.
pub struct House {
    /// The authority.
    pub authority: Authority,
    /// The onlooker's.
    pub onlooker: Files,
    _folder: TempDir,
}

/// The one of this program; its files are there as long as somebody has it.
pub fn house() -> Arc<House> {
    static HOUSE: Mutex<Weak<House>> = Mutex::new(Weak::new());
    let mut house = HOUSE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(house) = house.upgrade() {
        return house;
    }
    let (authority, folder) = (Authority::new(), TempDir::new().expect("a temporary directory"));
    let made =
        Arc::new(House { onlooker: authority.vouch(folder.path(), "onlooker"), authority, _folder: folder });
    *house = Arc::downgrade(&made);
    made
}

impl Files {
    /// For whoever calls with them.
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::of(self.ca.clone(), self.cert.clone(), self.key.clone())
    }

    /// `[server.tls]` and `[client.tls]` of a configuration.
    pub fn sections(&self, is_internal: bool, calls_others: bool) -> String {
        let Self { ca, cert, key } = self;
        let mut text = format!("[server.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
        if is_internal {
            text += &format!("client_ca_file = {ca:?}\n");
        }
        if calls_others {
            text += &format!("[client.tls]\nca_file = {ca:?}\ncert_file = {cert:?}\nkey_file = {key:?}\n");
        }
        text
    }
}
