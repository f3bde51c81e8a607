//! Keys for programs, and tokens of a `holdfast up` on this machine.

use holdfast_access::{Grant, api_keys::NewKey};

use crate::{
    Failure,
    credential::{Credentials, Whom},
    terminal::say,
};

/// What a key is for.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// Who will hold it. The key that takes its place has the same name.
    name: String,
    /// What it is good for: chats:request, operator, auditor, intake or dispatch; again for more.
    #[arg(long, value_name = "GRANT", required = true, value_parser = grant)]
    grant: Vec<Grant>,
    /// At which helpline; again for more. '*' for all, but not for chats:request.
    #[arg(long, value_name = "NAME", required = true)]
    helpline: Vec<String>,
}

/// Whom a token is for.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// What it is good for: chats:request, responder, shift_lead, supervisor, operator or auditor.
    #[arg(value_name = "GRANT", value_parser = grant)]
    grant: Grant,
    /// Who: for a responder or supervisor their id.
    #[arg(long, default_value = "terminal")]
    name: String,
    /// Where a service of that `holdfast up` is.
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:50051")]
    at: String,
}

fn grant(name: &str) -> Result<Grant, String> {
    Grant::named(name).ok_or_else(|| {
        let names: Vec<_> = Grant::ALL.iter().map(|grant| grant.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

/// Makes a key and prints it with its entry, once.
///
/// # Errors
/// When the system gives no random bytes, or the terminal is gone.
pub fn key(args: &KeyArgs) -> Result<(), Failure> {
    let key = NewKey::generate().map_err(|error| Failure::Issuer(error.to_string()))?;
    say(&format!(
        "# The key, for whoever holds it; it is shown this once:\n#   {}\n\
         # The entry, for the file that security.api_keys_file of the service names:\n{}",
        key.key,
        key.entry(&args.name, &args.grant, &args.helpline).trim_end()
    ))?;
    Ok(())
}

/// Prints a token that a `holdfast up` on this machine believes.
///
/// # Errors
/// When there is none, or the terminal is gone.
pub fn token(args: &TokenArgs) -> Result<(), Failure> {
    let made = Credentials::default().at(&args.at, Whom::new(&args.name, args.grant)).text();
    match made.map_err(Failure::Issuer)? {
        Some(token) => Ok(say(&token)?),
        None => Err(Failure::NoIssuer(args.at.clone())),
    }
}
