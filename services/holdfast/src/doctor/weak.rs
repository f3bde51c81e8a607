//! What is weak in a deployment: as far as it shows from outside, and as its settings say.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_dispatch as dispatch;
use holdfast_intake as intake;
use holdfast_queue as queue;
use holdfast_runtime::{
    client::channel,
    clock::wall_ms,
    config::ServerConfig,
    tls::{self, ClientTlsConfig},
};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    Failure,
    remote::{Remote, client_settings},
    trust::Trust,
};

/// No look may take longer.
const LOOK: Duration = Duration::from_secs(5);

/// A certificate that is good for fewer days is named.
const DAYS: i64 = 14;

const DAY_S: i64 = 86_400;

/// What is weak about a service, looked at from here. Of one that cannot be reached there is little to say, and the checks
/// say it.
pub(super) async fn from_outside(remote: &Remote, trust: &Trust) -> Vec<String> {
    let address = &remote.address;
    let mut weak = Vec::new();
    if !address.starts_with("https:") {
        weak.push(format!("{address} is plaintext: whoever is on the way can read and change what is said"));
    } else if let Some(days) = days_shown(address, &trust.towards(address)).await
        && days < DAYS
    {
        weak.push(format!("its certificate is good for {days} more days; at {DAYS} it should be a new one"));
    }
    if has_reflection(address, trust.towards(address)).await {
        weak.push(
            "it serves reflection, which tells strangers all that can be asked (server.reflection)".to_owned(),
        );
    }
    weak
}

/// What is weak about the queue besides: whoever shows no certificate should not come in.
pub(super) async fn of_the_queue(remote: &Remote, trust: &Trust) -> Vec<String> {
    let address = &remote.address;
    if !address.starts_with("https:") || !answers(address, trust.without_certificate(address)).await {
        return Vec::new();
    }
    vec!["it lets in whoever shows no certificate (server.tls.client_ca_file)".to_owned()]
}

async fn days_shown(address: &str, tls: &ClientTlsConfig) -> Option<i64> {
    let until = timeout(LOOK, tls::shown_until(address, tls)).await.ok()?.ok()?;
    Some(days_until(until))
}

fn days_until(until: i64) -> i64 {
    let now = i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX);
    until.saturating_sub(now).div_euclid(DAY_S)
}

fn open(address: &str, tls: ClientTlsConfig) -> Option<Channel> {
    channel(address, &client_settings(tls)).ok()
}

async fn answers(address: &str, tls: ClientTlsConfig) -> bool {
    let Some(channel) = open(address, tls) else {
        return false;
    };
    let asked = timeout(LOOK, async move {
        HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.is_ok()
    });
    asked.await.unwrap_or(false)
}

async fn has_reflection(address: &str, tls: ClientTlsConfig) -> bool {
    let Some(channel) = open(address, tls) else {
        return false;
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = timeout(LOOK, async move {
        let mut client = ServerReflectionClient::new(channel);
        let answers = client.server_reflection_info(tokio_stream::iter([request])).await.ok()?;
        answers.into_inner().message().await.ok().flatten()
    });
    asked.await.ok().flatten().is_some()
}

/// What is weak as the settings in a folder say: queue.toml, intake.toml and dispatch.toml, those that are there, and the
/// environment. Each with the service that it is about.
pub(super) fn in_settings(folder: &Path) -> Result<Vec<(&'static str, String)>, Failure> {
    let file = |service: &str| Some(folder.join(format!("{service}.toml"))).filter(|file| file.exists());
    let (queue, intake, dispatch) = (file("queue"), file("intake"), file("dispatch"));
    if queue.is_none() && intake.is_none() && dispatch.is_none() {
        return Err(Failure::NoSettings(folder.to_owned()));
    }
    let mut weak = Vec::new();
    if let Some(file) = queue {
        let config = queue::Config::load(Some(&file), &[])?;
        weak.extend(of_queue_settings(&config).into_iter().map(|said| ("queue", said)));
    }
    if let Some(file) = intake {
        let config = intake::Config::load(Some(&file), &[])?;
        weak.extend(of_intake_settings(&config).into_iter().map(|said| ("intake", said)));
    }
    if let Some(file) = dispatch {
        let config = dispatch::Config::load(Some(&file), &[])?;
        weak.extend(of_dispatch_settings(&config).into_iter().map(|said| ("dispatch", said)));
    }
    Ok(weak)
}

fn of_queue_settings(config: &queue::Config) -> Vec<String> {
    let security = &config.security;
    let mut weak = insecure(&[
        ("insecure_no_authentication", security.insecure_no_authentication),
        ("insecure_no_tls", security.insecure_no_tls),
        ("insecure_random_content_key", security.insecure_random_content_key),
        ("insecure_unsealed_content", security.insecure_unsealed_content),
        ("insecure_random_ticket_key", security.insecure_random_ticket_key),
        ("insecure_random_audit_key", security.insecure_random_audit_key),
    ]);
    weak.extend(of_server(&config.server));
    if config.server.tls.is_set() && is_empty(&config.server.tls.client_ca_file) {
        weak.push(
            "server.tls.client_ca_file is empty: whoever reaches the port comes in without a certificate"
                .to_owned(),
        );
    }
    let store = &config.store;
    if store.kind == queue::StoreKind::Redis {
        weak.extend(of_redis("store.redis_urls", &store.redis_urls, &store.redis_password_file));
        weak.extend(of_redis(
            "store.redis_sentinels",
            &store.redis_sentinels,
            &store.redis_sentinel_password_file,
        ));
        weak.extend(of_certificate("store.redis_tls_cert_file", &store.redis_tls_cert_file));
    }
    weak.extend(of_secrets(&[
        ("store.redis_password_file", &store.redis_password_file),
        ("store.redis_sentinel_password_file", &store.redis_sentinel_password_file),
        ("store.redis_tls_key_file", &store.redis_tls_key_file),
        ("tickets.key_file", &config.tickets.key_file),
        ("audit.key_file", &config.audit.key_file),
        ("tickets.old_key_file", &config.tickets.old_key_file),
        ("paging.secret_file", &config.paging.secret_file),
    ]));
    let keys = fs::read_dir(&config.content.key_dir).into_iter().flatten().flatten();
    weak.extend(keys.filter_map(|key| of_secret("content.key_dir", &key.path())));
    weak
}

fn of_intake_settings(config: &intake::Config) -> Vec<String> {
    let security = &config.security;
    let mut weak = insecure(&[
        ("insecure_no_authentication", security.insecure_no_authentication),
        ("insecure_no_tls", security.insecure_no_tls),
        ("insecure_random_token_key", security.insecure_random_token_key),
    ]);
    weak.extend(of_server(&config.server));
    weak.extend(of_calls("queue.addresses", &config.queue.addresses, &config.client.tls));
    let classifier = Some(config.classifier.url.clone()).filter(|url| !url.is_empty() && !tls::is_here(url));
    weak.extend(of_addresses("classifier.url", classifier.as_slice()));
    weak.extend(of_secret("security.visitor_token_key_file", &security.visitor_token_key_file));
    weak
}

fn of_dispatch_settings(config: &dispatch::Config) -> Vec<String> {
    let security = &config.security;
    let mut weak = insecure(&[
        ("insecure_no_authentication", security.insecure_no_authentication),
        ("insecure_no_tls", security.insecure_no_tls),
    ]);
    weak.extend(of_server(&config.server));
    weak.extend(of_calls("queue.addresses", &config.queue.addresses, &config.client.tls));
    weak
}

fn insecure(settings: &[(&str, bool)]) -> Vec<String> {
    let given = settings.iter().filter(|(_, is_given)| *is_given);
    given.map(|(name, _)| format!("security.{name} = true")).collect()
}

fn of_server(server: &ServerConfig) -> Vec<String> {
    let mut weak = Vec::new();
    if !server.tls.is_set() {
        weak.push("server.tls.cert_file is empty: the port speaks plaintext".to_owned());
    }
    if server.reflection {
        weak.push("server.reflection = true: strangers are told all that can be asked".to_owned());
    }
    weak.extend(of_certificate("server.tls.cert_file", &server.tls.cert_file));
    weak.extend(of_secret("server.tls.key_file", &server.tls.key_file));
    weak
}

fn of_calls(setting: &str, addresses: &[String], client: &ClientTlsConfig) -> Vec<String> {
    let mut weak: Vec<String> = of_addresses(setting, addresses).into_iter().collect();
    weak.extend(of_certificate("client.tls.cert_file", &client.cert_file));
    weak.extend(of_secret("client.tls.key_file", &client.key_file));
    weak
}

fn of_addresses(setting: &str, addresses: &[String]) -> Option<String> {
    let plain = addresses.iter().find(|address| !address.starts_with("https:"))?;
    Some(format!("{setting}: {plain} is plaintext"))
}

/// Addresses of Redis may hold a password, so they are not repeated.
fn of_redis(setting: &str, urls: &[String], password_file: &Path) -> Vec<String> {
    let mut weak = Vec::new();
    if urls.iter().any(|url| url.starts_with("redis:") && !tls::is_here(url)) {
        weak.push(format!("{setting}: plaintext goes beyond this machine (rediss:// is TLS)"));
    }
    let user_of = |url: &String| {
        let (before, _) = url.split_once("://")?.1.rsplit_once('@')?;
        let (user, password) = before.split_once(':').unwrap_or((before, ""));
        Some((!user.is_empty(), !password.is_empty()))
    };
    let users: Vec<_> = urls.iter().map(|url| user_of(url).unwrap_or_default()).collect();
    if is_empty(password_file) && users.iter().any(|(_, has_password)| !has_password) {
        weak.push(format!("{setting}: without a password whoever reaches Redis can read and change the line"));
    } else if users.iter().any(|(has_name, _)| !has_name) {
        weak.push(format!("{setting}: no user of its own is named, so no ACL narrows what its password opens"));
    }
    weak
}

fn of_certificate(setting: &str, file: &Path) -> Option<String> {
    let days = days_until(tls::not_after_in(&fs::read(file).ok()?)?);
    (days < DAYS).then(|| format!("{setting}: the certificate is good for {days} more days"))
}

fn of_secrets(files: &[(&str, &PathBuf)]) -> Vec<String> {
    files.iter().filter_map(|(setting, file)| of_secret(setting, file)).collect()
}

/// Whoever is in the group may read it: that is how Kubernetes hands secrets to a process that is not root.
fn of_secret(setting: &str, file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    let is_open = mode & 0o007 != 0;
    is_open.then(|| {
        format!("{setting}: everybody on the machine can read {} (mode {:o})", file.display(), mode & 0o777)
    })
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(file: &str, text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        in_settings(folder.path())
            .unwrap()
            .into_iter()
            .map(|(service, said)| format!("{service}: {said}"))
            .collect()
    }

    #[test]
    fn what_is_weak_in_settings_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a.key");
        fs::write(&key, "x").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();

        let weak = named(
            "intake.toml",
            &format!(
                "[server.tls]\nkey_file = {key:?}\n[queue]\naddresses = [\"http://queue:50052\"]\n\
                 [security]\ninsecure_no_tls = true\n"
            ),
        );

        for part in [
            "intake: security.insecure_no_tls = true",
            "intake: server.tls.cert_file is empty",
            "intake: server.reflection = true",
            "intake: queue.addresses: http://queue:50052 is plaintext",
            "(mode 644)",
        ] {
            assert!(weak.iter().any(|said| said.contains(part)), "no {part:?} in {weak:#?}");
        }
    }

    #[test]
    fn a_redis_without_tls_password_or_user_is_named_without_what_is_secret() {
        let none = Path::new("");
        let file = Path::new("/password");
        let of = |url: &str, file: &Path| of_redis("store.redis_urls", &[url.to_owned()], file).join("; ");
        assert!(of("redis://store:6379", none).contains("beyond this machine"));
        assert!(of("redis://store:6379", none).contains("without a password"));
        assert!(of("rediss://store:6379", file).contains("no user"));
        assert!(of("rediss://:secret@store:6379", none).contains("no user"));
        assert_eq!(of("rediss://holdfast:secret@store:6379", none), "");
        assert_eq!(of("rediss://holdfast@store:6379", file), "");
        assert!(!of("redis://:secret@store:6379", none).contains("secret"));
    }
}
