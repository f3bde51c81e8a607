//! Certificates that are only good for tests.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;

/// A certificate and its key, as files hold them.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Somebody who may vouch for others.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "tests only");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names or addresses.
    pub(crate) fn pair(&self, names: &[&str]) -> Pair {
        self.signed(Self::params(names))
    }

    /// One that was good until the end of 2001.
    pub(crate) fn expired(&self, names: &[&str]) -> Pair {
        self.good_in(2001, names)
    }

    /// One that will be good in 4001.
    pub(crate) fn not_yet_good(&self, names: &[&str]) -> Pair {
        self.good_in(4001, names)
    }

    fn good_in(&self, year: i32, names: &[&str]) -> Pair {
        let mut params = Self::params(names);
        (params.not_before, params.not_after) = (date_time_ymd(year, 1, 1), date_time_ymd(year, 12, 31));
        self.signed(params)
    }

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        CertificateParams::new(names).unwrap()
    }

    fn signed(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

/// A folder with files of certificates.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Where a file of this name is, or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in its place, whole from the first moment.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let new = self.path(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.path(name)).unwrap();
        self.path(name)
    }

    /// Puts a certificate as `name.pem` and its key as `name.key`.
    pub(crate) fn put_pair(&self, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        (self.put(&format!("{name}.pem"), &pair.cert), self.put(&format!("{name}.key"), &pair.key))
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }
}
