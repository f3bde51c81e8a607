//! The process of the queue service.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use holdfast_queue::{Bound, Config, RunError};
use holdfast_runtime::{Context, fail, server::bind};

const NAME: &str = "queue";

/// The keeper of the line.
#[derive(Parser)]
#[command(name = NAME, version)]
struct Arguments {
    /// Settings that differ from the defaults (TOML).
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Checks the settings and the policies they name, and ends.
    #[arg(long)]
    check_config: bool,
    /// Says what the store holds, by kind and age, and ends; with 1 if anything there has neither an expiry nor an owner.
    #[arg(long)]
    census: bool,
    /// Says that the store was restored from a backup while no queue ran, and ends: nobody in it is offered before they are
    /// heard. To be run before the queue starts.
    #[arg(long)]
    restored: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(arguments.config.as_deref(), &[]) {
        Ok(config) => config,
        Err(error) => return fail(NAME, &error),
    };
    if arguments.check_config {
        return check(&config);
    }
    if arguments.census {
        return census(&config);
    }
    if arguments.restored {
        return restored(&config);
    }
    holdfast_runtime::run(NAME, config.telemetry.clone(), 0, |context| serve(config, context))
}

fn check(config: &Config) -> ExitCode {
    if let Err(error) = holdfast_queue::check(config) {
        return fail(NAME, &error);
    }
    println!("{NAME}: the settings are fine");
    ExitCode::SUCCESS
}

/// Does something beside serving; what fails is said, and ends the process.
fn done<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| fail(NAME, &error))?;
    runtime.block_on(work).map_err(|error| fail(NAME, &error))
}

fn census(config: &Config) -> ExitCode {
    let (census, unowned) = match done(holdfast_queue::census(config)) {
        Ok(taken) => taken,
        Err(failed) => return failed,
    };
    print!("{census}");
    for found in &unowned {
        println!("NOTHING REMOVES {}: {}", found.what, found.why);
    }
    if !unowned.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("everything has an expiry or an owner");
    ExitCode::SUCCESS
}

fn restored(config: &Config) -> ExitCode {
    let begun = match done(holdfast_queue::restored(config)) {
        Ok(begun) => begun,
        Err(failed) => return failed,
    };
    for helpline in &begun {
        println!("{helpline} begins another life; whoever was in it is offered when they are heard");
    }
    println!("{} helplines in the store", begun.len());
    ExitCode::SUCCESS
}

async fn serve(config: Config, context: Context) -> Result<(), RunError> {
    let bound = Bound {
        grpc: bind(config.server.listen, NAME).await?,
        admin: Some(bind(config.server.admin_listen, "holdfast-queue admin").await?),
    };
    holdfast_queue::run(config, bound, &context).await
}
