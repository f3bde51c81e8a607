//! Whom the commands believe, and what they show: files that are named, or those of a `holdfast up` on this machine.

use std::path::PathBuf;

use holdfast_runtime::tls::ClientTlsConfig;

use crate::throwaway::{Files, OPERATOR, folder_at};

/// Whom the services are believed to be, and what they are shown.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Trust {
    /// A file with the authorities (PEM) that may vouch for https:// addresses; otherwise those that the system believes.
    /// Against a `holdfast up` on this machine nothing is needed.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// A file with the certificate (PEM) to show to services that ask for one, as the queue does.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CERT_FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// A file with its key (PEM).
    #[arg(long, value_name = "FILE", env = "HOLDFAST_KEY_FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
}

impl Trust {
    /// Towards the service at an address, such as `https://127.0.0.1:50052`.
    pub(crate) fn towards(&self, address: &str) -> ClientTlsConfig {
        if self.ca_file.is_none() && self.cert_file.is_none() {
            return of_up(address).unwrap_or_default();
        }
        let named = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
        ClientTlsConfig::of(named(&self.ca_file), named(&self.cert_file), named(&self.key_file))
    }

    /// The same authorities, without a certificate of one's own.
    pub(crate) fn without_certificate(&self, address: &str) -> ClientTlsConfig {
        let ca_file = self.towards(address).ca_file;
        ClientTlsConfig::of(ca_file, PathBuf::new(), PathBuf::new())
    }
}

/// What the `holdfast up` at this address has made for whoever runs it.
fn of_up(address: &str) -> Option<ClientTlsConfig> {
    let files = Files::in_folder(&folder_at(address)?, OPERATOR);
    files.ca.exists().then(|| files.client())
}
