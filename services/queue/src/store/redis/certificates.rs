//! TLS to Redis: whom to believe and what to show, from files that may change at any time.

use holdfast_runtime::tls::{Current, File, Presented, TlsError, tell_end};
use redis::{ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use std::net::IpAddr;

/// Reads the files and follows them: the next connection begins with what is in force then. They are, in this order, a
/// certificate and its key, and authorities; either may be missing. Must be called inside a Tokio runtime.
///
/// # Errors
/// What is wrong with a file, and its setting.
pub fn follow_certificates(files: Vec<File>) -> Result<Current<TlsCertificates>, TlsError> {
    Current::follow("redis", files, |read| {
        let made = certificates(read)?;
        tell_end("redis", Presented::of(read)?.own.as_ref());
        Ok(made)
    })
}

/// Checks what was read as strictly as the services' own connections do, and hands it to the client as it is.
///
/// # Errors
/// What is wrong with a file, and its setting.
pub fn certificates(read: &[(File, Vec<u8>)]) -> Result<TlsCertificates, TlsError> {
    Presented::of(read)?;
    let (client_tls, rest) = match read {
        [(_, cert), (_, key), rest @ ..] => {
            (Some(ClientTlsConfig { client_cert: cert.clone(), client_key: key.clone() }), rest)
        }
        rest => (None, rest),
    };
    Ok(TlsCertificates { client_tls, root_cert: rest.first().map(|(_, authorities)| authorities.clone()) })
}

/// Whether all addresses are TLS, a socket or loopback, or plaintext beyond this machine was asked for.
///
/// # Errors
/// The first address that is plaintext, without what is secret in it.
pub fn check_tls(setting: &'static str, urls: &[String], insecure_no_tls: bool) -> Result<(), TlsError> {
    if insecure_no_tls {
        return Ok(());
    }
    // What is no address is refused where it is dialled.
    let addresses = urls.iter().filter_map(|url| url.as_str().into_connection_info().ok());
    for address in addresses {
        if let ConnectionAddr::Tcp(host, port) = address.addr()
            && !is_loopback(host)
        {
            let why = format!("{host}:{port} would be spoken to in plaintext, which is not rediss");
            return Err(TlsError::Plaintext { setting, why });
        }
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, insecure_no_tls: bool) -> Result<(), String> {
        check_tls("store.redis_urls", &[url.to_owned()], insecure_no_tls).map_err(|error| error.to_string())
    }

    #[test]
    fn plaintext_goes_no_further_than_this_machine() {
        for url in
            ["redis://127.0.0.1:6379", "redis://localhost", "redis+unix:///r.sock", "rediss://me:x@store:6379"]
        {
            assert_eq!(check(url, false), Ok(()), "{url}");
        }
        let refusal = check("redis://me:secret@store:6379", false).unwrap_err();
        assert!(refusal.starts_with("store.redis_urls: store:6379 would"), "{refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
        assert_eq!(check("redis://store:6379", true), Ok(()));
    }
}
