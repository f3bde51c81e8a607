//! A helpline's audit: is it whole, and a copy of it to keep.
//!
//! What verifies it comes with the command, so it needs to believe nobody: a deployment is only asked for the entries, and
//! a copy in a file is verified without any.

mod lines;
mod reader;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
};

use holdfast_queue::audit::{Hash, Key, Report, Seals, Verifier};
use holdfast_runtime::Stop;

use crate::{Failure, remote::Calling, terminal::say};
use reader::Reader;

/// What is done with an audit.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether an audit holds, or which entry is the first that does not.
    Verify(VerifyArgs),
    /// Print the entries, one line of JSON each.
    Export(ExportArgs),
    /// Print the public half of the key that a queue seals with: what auditors verify with.
    PublicKey(PublicKeyArgs),
}

/// Where the keeper of the line is.
#[derive(Debug, clap::Args)]
struct At {
    /// Where queue is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50052")]
    queue: String,
    #[command(flatten)]
    calling: Calling,
}

/// What is verified, and with what.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Of which helpline.
    helpline: String,
    /// A public key, as `public-key` prints it; again for those before it. Without one seals are not checked, and whoever
    /// can write to the store could have written everything anew.
    #[arg(long, value_name = "KEY", value_parser = key)]
    key: Vec<Key>,
    /// An entry that was noted, as an earlier look printed it: it must be there still. Again for more.
    #[arg(long, value_name = "NUMBER.HASH", value_parser = noted)]
    noted: Vec<(u64, Hash)>,
    /// Verify a file that `export` wrote instead of a deployment.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

/// What is exported.
#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// Of which helpline.
    helpline: String,
    /// Only entries after this one.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    at: At,
}

/// Whose public half.
#[derive(Debug, clap::Args)]
struct PublicKeyArgs {
    /// The file that audit.key_file names.
    file: PathBuf,
}

/// Why an audit could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum AuditFault {
    /// It does not hold.
    #[error("{helpline}: {broken}")]
    Broken {
        /// Whose.
        helpline: String,
        /// The first entry that does not.
        broken: holdfast_queue::audit::Broken,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a file is no entry.
    #[error("{}:{line}: is no entry of an audit", file.display())]
    NoEntry {
        /// Which file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] holdfast_queue::audit::AuditKeyError),
    /// Somebody stopped the command.
    #[error("stopped before it was done")]
    Stopped,
}

fn key(text: &str) -> Result<Key, &'static str> {
    Key::parse(text).ok_or("must be a public key, as 'holdfast audit public-key' prints it")
}

fn noted(text: &str) -> Result<(u64, Hash), &'static str> {
    let parts = text.split_once('.');
    let read = parts.and_then(|(number, hash)| Some((number.parse().ok()?, Hash::parse(hash)?)));
    read.ok_or("must be the number of an entry, a point and its hash")
}

/// Does it.
///
/// # Errors
/// When the audit does not hold, or cannot be read.
pub async fn run(args: Args, stop: &Stop) -> Result<(), Failure> {
    let working = async {
        match args.command {
            Command::Verify(args) => verify(args).await,
            Command::Export(args) => export(&args).await,
            Command::PublicKey(args) => {
                let seals = Seals::read(&args.file).map_err(AuditFault::Key)?;
                Ok(say(&seals.key().to_string())?)
            }
        }
    };
    tokio::select! {
        done = working => done,
        () = stop.draining() => Err(AuditFault::Stopped.into()),
    }
}

async fn verify(args: VerifyArgs) -> Result<(), Failure> {
    let with_keys = !args.key.is_empty();
    let mut verifier = Verifier::new(&args.helpline, args.key, args.noted);
    let broken = |broken| AuditFault::Broken { helpline: args.helpline.clone(), broken };
    let head = match &args.file {
        Some(file) => {
            read_file(file, |entry| verifier.take(&entry).map_err(|b| broken(b).into()))?;
            None
        }
        None => {
            let mut reader = Reader::new(&args.at, &args.helpline, 0)?;
            while let Some(page) = reader.next().await? {
                for entry in page {
                    verifier.take(&entry).map_err(broken)?;
                }
            }
            Some(reader.last)
        }
    };
    let report = verifier.end(head).map_err(broken)?;
    tell(&args.helpline, &report, with_keys)
}

fn read_file(
    file: &PathBuf,
    mut take: impl FnMut(holdfast_queue::audit::Entry) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unreadable = |source| AuditFault::Unreadable { file: file.clone(), source };
    let open = BufReader::new(File::open(file).map_err(unreadable)?);
    for (at, line) in open.lines().enumerate() {
        let line = line.map_err(unreadable)?;
        let entry = lines::entry(&line).ok_or_else(|| AuditFault::NoEntry { file: file.clone(), line: at + 1 })?;
        take(entry)?;
    }
    Ok(())
}

fn tell(helpline: &str, report: &Report, with_keys: bool) -> Result<(), Failure> {
    let Report { entries, first, last, hash, seals, remarks } = report;
    say(&format!("{helpline}: holds, {entries} entries from {first} to {last}"))?;
    if with_keys {
        say(&format!("{seals} seals checked"))?;
    } else {
        say("seals not checked: no --key was given, so whoever can write to the store could have written this")?;
    }
    for number in remarks {
        say(&format!("entry {number} tells of something that is missing: read it"))?;
    }
    Ok(say(&format!("to note: {last}.{hash}"))?)
}

async fn export(args: &ExportArgs) -> Result<(), Failure> {
    let mut reader = Reader::new(&args.at, &args.helpline, args.after)?;
    while let Some(page) = reader.next().await? {
        for entry in page {
            say(&lines::line(&entry))?;
        }
    }
    Ok(())
}
