//! The helplines' policies: read from a folder at start, put in force, and kept at hand by revision.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use holdfast_domain::{
    Command, HelplineId, Policy, Refusal, Reply,
    policy::{PolicyError, Tag},
};
use tracing::info;

use crate::{
    config::{PolicyConfig, StoreConfig, StoreKind},
    error::Failure,
    store::{Store, StoreError},
};

/// The example helpline that an embedded store serves when no folder is named.
pub const DEMO: &str = include_str!("../demo.toml");

/// How often a policy is put in force again when others change it at the same moment.
const ATTEMPTS: usize = 5;

/// Why the policies cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// The folder or a file cannot be read.
    #[error("policy.dir: cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds no policy.
    #[error("policy.dir: {} holds no *.toml file", .0.display())]
    Empty(PathBuf),
    /// A file is not a policy.
    #[error("policy {}: {problem}", file.display())]
    Bad {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        problem: PolicyError,
    },
    /// Two files are for the same helpline.
    #[error("policy {}: another file is for the helpline {helpline} too", file.display())]
    Twice {
        /// The second one.
        file: PathBuf,
        /// Of which helpline.
        helpline: HelplineId,
    },
    /// What the store keeps was made with other tags.
    #[error(
        "policy {helpline}: tags: the tags in force must stay as they are, in order; new ones go to the end \
         (tags[{at}] differs)"
    )]
    TagsMoved {
        /// Of which helpline.
        helpline: HelplineId,
        /// The first tag that differs.
        at: usize,
    },
    /// Others change it again and again.
    #[error("policy {0}: others keep changing it")]
    Contested(HelplineId),
    /// The store did not do it.
    #[error("policy {helpline}: {source}")]
    Store {
        /// Of which helpline.
        helpline: HelplineId,
        /// What it said.
        source: StoreError,
    },
}

/// Reads the policies that this replica serves: those of the folder, or the example for an embedded store.
pub(crate) fn read(
    config: &PolicyConfig,
    store: &StoreConfig,
) -> Result<BTreeMap<HelplineId, Policy>, PolicyFault> {
    if !config.dir.as_os_str().is_empty() {
        return read_folder(&config.dir);
    }
    let mut found = BTreeMap::new();
    if store.kind == StoreKind::Memory {
        add(&mut found, Path::new("demo.toml"), DEMO)?;
    }
    Ok(found)
}

fn read_folder(folder: &Path) -> Result<BTreeMap<HelplineId, Policy>, PolicyFault> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyFault::Unreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.extension().is_some_and(|e| e == "toml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut found = BTreeMap::new();
    for file in &files {
        let text = fs::read_to_string(file).map_err(unreadable(file))?;
        add(&mut found, file, &text)?;
    }
    if found.is_empty() {
        return Err(PolicyFault::Empty(folder.to_owned()));
    }
    Ok(found)
}

fn add(found: &mut BTreeMap<HelplineId, Policy>, file: &Path, text: &str) -> Result<(), PolicyFault> {
    let bad = |problem| PolicyFault::Bad { file: file.to_owned(), problem };
    let policy = Policy::from_toml(text).map_err(bad)?;
    let helpline = HelplineId::parse(&policy.helpline)
        .map_err(|error| bad(PolicyError { field: "helpline".to_owned(), problem: error.to_string() }))?;
    if found.insert(helpline.clone(), policy).is_some() {
        return Err(PolicyFault::Twice { file: file.to_owned(), helpline });
    }
    Ok(())
}

/// Puts a policy in force where the store has none or another one.
pub(crate) async fn install(store: &dyn Store, helpline: &HelplineId, wanted: &Policy) -> Result<(), PolicyFault> {
    let failed = |source| PolicyFault::Store { helpline: helpline.clone(), source };
    for _ in 0..ATTEMPTS {
        let stored = store.policy(helpline).await.map_err(failed)?;
        let expected = stored.as_ref().map_or(0, |p| p.revision);
        if let Some(stored) = &stored {
            if same(stored, wanted) {
                return Ok(());
            }
            check_tags(helpline, &stored.tags, &wanted.tags)?;
        }
        let command = Command::SetPolicy { policy: Box::new(wanted.clone()), expected };
        match store.execute(helpline, &command).await.map_err(failed)?.reply {
            Ok(Reply::Policy { revision }) => {
                info!(%helpline, revision, "the policy is in force");
                return Ok(());
            }
            Err(Refusal::PolicyChanged { .. }) => {}
            Ok(_) | Err(_) => {
                let said = "the store did not set the policy".to_owned();
                return Err(failed(StoreError::Garbled(said)));
            }
        }
    }
    Err(PolicyFault::Contested(helpline.clone()))
}

/// Whether two policies say the same, whatever their revisions.
fn same(a: &Policy, b: &Policy) -> bool {
    let b = Policy { revision: a.revision, ..b.clone() };
    *a == b
}

/// Stored masks are made of the tags in force, so those stay; only new ones may follow.
fn check_tags(helpline: &HelplineId, old: &[Tag], new: &[Tag]) -> Result<(), PolicyFault> {
    let kept = |(old, new): (&Tag, &Tag)| old.name == new.name && old.levels == new.levels;
    let shared = old.iter().zip(new).take_while(|pair| kept(*pair)).count();
    if shared < old.len() {
        return Err(PolicyFault::TagsMoved { helpline: helpline.clone(), at: shared });
    }
    Ok(())
}

/// The policies in force, as they were when last seen. Only helplines that have one are kept here.
pub(crate) struct Policies {
    store: Arc<dyn Store>,
    seen: RwLock<BTreeMap<HelplineId, Arc<Policy>>>,
}

impl Policies {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, seen: RwLock::new(BTreeMap::new()) }
    }

    /// The policy as last seen; read from the store the first time.
    pub(crate) async fn get(&self, helpline: &HelplineId) -> Result<Arc<Policy>, Failure> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner).get(helpline).cloned();
        match seen {
            Some(policy) => Ok(policy),
            None => self.reload(helpline).await,
        }
    }

    /// The policy as the store has it now.
    pub(crate) async fn reload(&self, helpline: &HelplineId) -> Result<Arc<Policy>, Failure> {
        let stored = self.store.policy(helpline).await?.map(Arc::new);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        match &stored {
            Some(policy) => seen.insert(helpline.clone(), Arc::clone(policy)),
            None => seen.remove(helpline),
        };
        stored.ok_or(Failure::UnknownHelpline)
    }

    /// The revision that was last seen; 0 for none.
    pub(crate) fn revision(&self, helpline: &HelplineId) -> u64 {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(helpline).map_or(0, |p| p.revision)
    }
}
