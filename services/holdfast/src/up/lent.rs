//! What `holdfast up` makes up for itself, and takes back at the end.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use holdfast_runtime::tls::ClientTlsConfig;

use super::services::Addresses;
use crate::throwaway::{Authority, Files, OPERATOR, folder_of, make_private};

/// Certificates of an authority that is forgotten already: one for each service, and one for whoever types commands,
/// beside each of them. All are removed when this is dropped.
pub(super) struct Lent {
    pub(super) intake: Files,
    pub(super) queue: Files,
    pub(super) dispatch: Files,
    folders: Vec<PathBuf>,
    operators: Vec<Files>,
}

impl Lent {
    pub(super) fn make(addresses: Addresses) -> io::Result<Self> {
        let authority = Authority::new()?;
        let (mut folders, mut operators) = (Vec::new(), Vec::new());
        let mut files = |holder: &str, at: SocketAddr| {
            let folder = folder_of(at.port());
            make_private(&folder)?;
            operators.push(authority.vouch(&folder, OPERATOR, None)?);
            let files = authority.vouch(&folder, holder, Some(at.ip()));
            folders.push(folder);
            files
        };
        let intake = files("intake", addresses.intake)?;
        let queue = files("queue", addresses.queue)?;
        let dispatch = files("dispatch", addresses.dispatch)?;
        Ok(Self { intake, queue, dispatch, folders, operators })
    }

    /// For whoever types commands.
    pub(super) fn client(&self) -> ClientTlsConfig {
        self.operators.first().map(Files::client).unwrap_or_default()
    }

    /// The authority's certificate, for tools that are told whom to believe.
    pub(super) fn ca(&self) -> String {
        self.intake.ca.display().to_string()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for files in [&self.intake, &self.queue, &self.dispatch].into_iter().chain(&self.operators) {
            files.remove();
        }
        for folder in &self.folders {
            // Somebody else's files in it stay, and so does it.
            let _ = fs::remove_dir(folder);
        }
    }
}
