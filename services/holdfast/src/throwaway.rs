//! A certificate authority of one's own, for services that one command starts and ends: the secure way is the one that is
//! always run. Its key is never written down, and forgotten when all certificates are made: it vouches for nobody else.

use std::{
    fmt, fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use holdfast_runtime::{
    clock::wall_ms,
    tls::{self, ClientTlsConfig},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tonic::transport::Uri;

const CA: &str = "ca.pem";
/// Whoever types commands.
pub(crate) const OPERATOR: &str = "operator";
/// A year in the mean, in milliseconds.
const YEAR_MS: u64 = 31_556_952_000;

/// An authority that lives as long as this.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    good_until: i32,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority") // its key is nobody's business
    }
}

/// Where the authority's certificate lies, and somebody's own with its key.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> io::Result<Self> {
        let year = 1970 + i32::try_from(wall_ms() / YEAR_MS).unwrap_or_default();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "throwaway of holdfast");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (date_time_ymd(year - 1, 1, 1), date_time_ymd(year + 2, 1, 1));
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, good_until: year + 2 })
    }

    /// Writes a certificate for `holder`, which serves at `address` or loopback, into a folder that is nobody else's.
    pub(crate) fn vouch(&self, folder: &Path, holder: &str, address: Option<IpAddr>) -> io::Result<Files> {
        let loopback = [Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string(), "localhost".to_owned()];
        let names: Vec<String> =
            [holder.to_owned()].into_iter().chain(loopback).chain(address.map(|ip| ip.to_string())).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, holder);
        (params.not_before, params.not_after) =
            (date_time_ymd(self.good_until - 3, 1, 1), date_time_ymd(self.good_until, 1, 1));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let files = Files::in_folder(folder, holder);
        write_private(&files.ca, self.pem.as_bytes())?;
        write_private(&files.cert, cert.pem().as_bytes())?;
        write_private(&files.key, key.serialize_pem().as_bytes())?;
        Ok(files)
    }
}

impl Files {
    /// Where they are, or would be.
    pub(crate) fn in_folder(folder: &Path, holder: &str) -> Self {
        let (cert, key) = (folder.join(format!("{holder}.pem")), folder.join(format!("{holder}.key")));
        Self { ca: folder.join(CA), cert, key }
    }

    /// For whoever calls with them.
    pub(crate) fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::of(self.ca.clone(), self.cert.clone(), self.key.clone())
    }

    /// For a port that shows them, and, where it is `internal`, asks for such of the same authority.
    pub(crate) fn of_server(&self, internal: bool) -> Vec<(&'static str, String)> {
        let mut settings =
            vec![("server.tls.cert_file", text(&self.cert)), ("server.tls.key_file", text(&self.key))];
        if internal {
            settings.push(("server.tls.client_ca_file", text(&self.ca)));
        }
        settings
    }

    /// For a service that calls others with them.
    pub(crate) fn of_client(&self) -> Vec<(&'static str, String)> {
        vec![
            ("client.tls.ca_file", text(&self.ca)),
            ("client.tls.cert_file", text(&self.cert)),
            ("client.tls.key_file", text(&self.key)),
        ]
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The folder of the `holdfast up` that has a service at this port of this machine: where the commands of the same user
/// find what they need.
pub(crate) fn folder_of(port: u16) -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_dir());
    base.unwrap_or_else(std::env::temp_dir).join(format!("holdfast-up-{user}-{port}"))
}

/// The same by an address such as `https://127.0.0.1:50052`, where that is on this machine and nobody else could have put
/// anything into the folder.
pub(crate) fn folder_at(address: &str) -> Option<PathBuf> {
    let port = address.parse::<Uri>().ok().filter(|_| tls::is_here(address))?.port_u16()?;
    Some(folder_of(port)).filter(|folder| is_private(folder))
}

/// A folder that only this user can look into, also where somebody else could have made one of that name before.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_private(folder) => Ok(()),
        made => made,
    }
}

/// Whether nobody else can look into a folder, or could have put anything there.
pub(crate) fn is_private(folder: &Path) -> bool {
    let user = rustix::process::getuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir() && it.uid() == user && it.mode() & 0o077 == 0)
}

/// Puts a file that only this user can read in its place, whole from the first moment.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(&new)?.write_all(bytes)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use holdfast_runtime::tls::ServerTlsConfig;

    use super::*;

    #[test]
    fn what_it_makes_is_what_services_ask_for_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let files = Authority::new().unwrap().vouch(folder.path(), "queue", None).unwrap();

        let tls = ServerTlsConfig {
            cert_file: files.cert.clone(),
            key_file: files.key.clone(),
            client_ca_file: files.ca.clone(),
        };

        assert!(tls.check_internal(false).is_ok());
        assert_eq!(fs::metadata(&files.key).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_folder_that_others_can_look_into_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, open) = (folder.path().join("ours"), folder.path().join("open"));
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();

        assert!(make_private(&ours).is_ok() && make_private(&ours).is_ok());
        assert!(make_private(&open).is_err() && !is_private(&open));
    }
}
