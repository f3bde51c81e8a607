//! How this service proves to the queue which one it is.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use holdfast_runtime::{
    client::TraceContext,
    config::{ConfigError, read_secret},
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};
use tracing::warn;

/// The header that it goes in.
const AUTHORIZATION: &str = "authorization";

/// The key in a file, as it was when the last stream was opened; nothing where none is named. Clones are the same.
#[derive(Clone)]
pub(crate) struct Credential {
    file: Arc<Path>,
    bearer: Arc<RwLock<Option<MetadataValue<Ascii>>>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Credential {
    /// The key in `file`; with an empty path, none.
    ///
    /// # Errors
    /// When the file cannot be read, or holds nothing that could be a key.
    pub(crate) fn open(file: &Path) -> Result<Self, ConfigError> {
        let bearer = read(file)?;
        Ok(Self { file: file.into(), bearer: Arc::new(RwLock::new(bearer)) })
    }

    /// Reads the file again: the key may have been replaced.
    pub(crate) fn refresh(&self) {
        match read(&self.file) {
            Ok(bearer) => *self.bearer.write().unwrap_or_else(PoisonError::into_inner) = bearer,
            Err(error) => warn!(%error, "the key for the queue cannot be read; the one before stays"),
        }
    }
}

fn read(file: &Path) -> Result<Option<MetadataValue<Ascii>>, ConfigError> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let key = read_secret(file)?;
    let bearer = MetadataValue::try_from(format!("Bearer {}", key.expose()));
    let mut bearer = bearer
        .map_err(|_| ConfigError::Secret { path: PathBuf::from(file), message: "is not one line of text" })?;
    bearer.set_sensitive(true);
    Ok(Some(bearer))
}

/// What every call to the queue carries: the trace, and who calls.
#[derive(Debug, Clone)]
pub struct Introduced(pub(crate) Credential);

impl Interceptor for Introduced {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = TraceContext.call(request)?;
        let bearer = self.0.bearer.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(bearer) = bearer {
            request.metadata_mut().insert(AUTHORIZATION, bearer);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_along_and_shows_in_no_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hf_1_x\n").unwrap();
        let credential = Credential::open(file.path()).unwrap();
        let carried = |credential: &Credential| {
            let request = Introduced(credential.clone()).call(Request::new(())).unwrap();
            assert!(!format!("{request:?}").contains("hf_"));
            request.metadata().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(carried(&credential).as_deref(), Some("Bearer hf_1_x"));

        std::fs::write(file.path(), "hf_2_y\n").unwrap();
        credential.refresh();
        assert_eq!(carried(&credential).as_deref(), Some("Bearer hf_2_y"));

        std::fs::write(file.path(), "").unwrap();
        credential.refresh();
        assert_eq!(carried(&credential).as_deref(), Some("Bearer hf_2_y"), "an empty file takes nothing away");
        assert_eq!(carried(&Credential::open("".as_ref()).unwrap()), None);
    }
}
