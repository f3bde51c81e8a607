//! Files whose content is in force, and comes into force anew when it changes.

use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use super::TlsError;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest file that is read: a bundle of all public authorities is a fifth of this.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file, and the setting that names it.
#[derive(Debug, Clone)]
pub struct File {
    setting: &'static str,
    path: PathBuf,
}

impl File {
    /// The file that `setting` names.
    #[must_use]
    pub fn new(setting: &'static str, path: &Path) -> Self {
        Self { setting, path: path.to_owned() }
    }

    /// That something is wrong with it.
    #[must_use]
    pub fn wrong(&self, wrong: impl Into<String>) -> TlsError {
        TlsError::File { setting: self.setting, file: self.path.clone(), wrong: wrong.into() }
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        let refuse = |error: std::io::Error| self.wrong(format!("cannot be read: {error}"));
        let mut bytes = Vec::new();
        let file = fs::File::open(&self.path).map_err(refuse)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(refuse)?;
        if bytes.len() as u64 > MAX_BYTES { Err(self.wrong("larger than 1 MiB")) } else { Ok(bytes) }
    }
}

type Contents = Vec<(File, Vec<u8>)>;

fn read(files: &[File]) -> Result<Contents, TlsError> {
    files.iter().map(|file| Ok((file.clone(), file.read()?))).collect()
}

/// Content and not time or size: what is put in place within the same second may be new all the same.
fn digest(contents: &Contents) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (_, bytes) in contents {
        bytes.hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether something can be made of the files as they are.
///
/// # Errors
/// What is wrong with one of them.
pub fn check<T>(files: &[File], make: impl Fn(&[(File, Vec<u8>)]) -> Result<T, TlsError>) -> Result<(), TlsError> {
    make(&read(files)?).map(|_| ())
}

/// What was last made of some files. Clones are the same; the files are followed as long as there is one.
pub struct Current<T>(watch::Receiver<Arc<T>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl<T: Send + Sync + 'static> Current<T> {
    /// Makes something of the files now, and again within two seconds of each change. What cannot be used then is told in
    /// the log, as `what`, and changes nothing. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When a file cannot be read or used now.
    pub fn follow(
        what: &'static str,
        files: Vec<File>,
        make: impl Fn(&[(File, Vec<u8>)]) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let contents = read(&files)?;
        let (sender, current) = watch::channel(Arc::new(make(&contents)?));
        if !files.is_empty() {
            let seen = digest(&contents);
            tokio::spawn(async move {
                tokio::select! {
                    () = sender.closed() => {}
                    () = keep(what, files, seen, make, &sender) => {}
                }
            });
        }
        Ok(Self(current))
    }

    /// What is in force.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// Waits until something else is in force than at the last call.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await // nothing is followed
        }
    }
}

async fn keep<T: Send + Sync + 'static>(
    what: &'static str,
    files: Vec<File>,
    mut seen: u64,
    make: impl Fn(&[(File, Vec<u8>)]) -> Result<T, TlsError>,
    sender: &watch::Sender<Arc<T>>,
) {
    // Certificate and key may come one after the other, so what is wrong is told when it still is at the next look.
    let (mut wrong_before, mut told) = (String::new(), String::new());
    loop {
        sleep(LOOK_EVERY).await;
        let files = files.clone();
        let Ok(contents) = spawn_blocking(move || read(&files)).await else {
            return; // the runtime ends
        };
        let made = contents.and_then(|contents| {
            let new = digest(&contents);
            if new == seen { Ok(None) } else { Ok(Some((new, make(&contents)?))) }
        });
        match made {
            Ok(made) => {
                if let Some((new, made)) = made {
                    seen = new;
                    sender.send_replace(Arc::new(made));
                    info!(which = what, "certificates have changed: new connections begin with the new ones");
                }
                (wrong_before, told) = (String::new(), String::new());
            }
            Err(error) => {
                let wrong = error.to_string();
                if wrong == wrong_before && wrong != told {
                    warn!(which = what, %error, "new certificates cannot be used: the old ones stay in force");
                    told.clone_from(&wrong);
                }
                wrong_before = wrong;
            }
        }
    }
}
