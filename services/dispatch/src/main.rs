//! The responders' door, as a process.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use holdfast_dispatch::{Bound, Config, RunError};
use holdfast_runtime::server::bind;

const NAME: &str = "dispatch";

/// The responders' door: holds their sessions.
#[derive(Debug, Parser)]
#[command(name = "holdfast-dispatch", version)]
struct Arguments {
    /// A configuration file; what it does not say is as in the built-in one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only says whether the configuration is one.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(arguments.config.as_deref(), &[]) {
        Ok(config) => config,
        Err(error) => return holdfast_runtime::fail(NAME, &error),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    holdfast_runtime::run(NAME, config.telemetry.clone(), 0, |context| async move {
        let bound = Bound {
            grpc: bind(config.server.listen, NAME).await?,
            admin: Some(bind(config.server.admin_listen, "dispatch admin").await?),
        };
        holdfast_dispatch::run(config, bound, &context).await?;
        Ok::<(), RunError>(())
    })
}
