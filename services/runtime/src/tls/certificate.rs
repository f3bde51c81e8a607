//! What is in a PEM file, and until when a certificate is good.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{
    Error, InconsistentKeys, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{File, TlsError, provider};

/// A certificate and its key, that fit each other and are good at `now`.
pub(super) fn own(
    (cert_file, cert): &(File, Vec<u8>),
    (key_file, key): &(File, Vec<u8>),
    now: SystemTime,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert_file, cert)?;
    if let Some(leaf) = chain.first() {
        is_good(cert_file, leaf, now)?;
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| key_file.wrong("holds no private key in PEM"))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        if matches!(error, Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
            key_file.wrong("this key is not the one of the certificate")
        } else if matches!(error, Error::General(_)) {
            key_file.wrong("a key of a kind that cannot be used")
        } else {
            cert_file.wrong(format!("cannot be used: {error}"))
        }
    })
}

/// Those who may vouch for others.
pub(super) fn authorities((file, pem): &(File, Vec<u8>)) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, pem)? {
        roots.add(certificate).map_err(|error| file.wrong(format!("holds no usable authority: {error}")))?;
    }
    Ok(roots)
}

/// Those whom the system believes.
pub(super) fn of_the_system(setting: &'static str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(TlsError::NoRoots { setting }) } else { Ok(roots) }
}

fn certificates(file: &File, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| file.wrong("is not whole PEM"))?;
    if read.is_empty() { Err(file.wrong("holds no certificate in PEM")) } else { Ok(read) }
}

fn is_good(file: &File, leaf: &CertificateDer<'_>, now: SystemTime) -> Result<(), TlsError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    match validity(leaf) {
        Some((_, until)) if until < now => Err(file.wrong("the certificate has expired")),
        Some((from, _)) if from > now => Err(file.wrong("the certificate is not valid yet")),
        Some(_) => Ok(()),
        None => Err(file.wrong("the certificate is not X.509")),
    }
}

/// Until when a certificate is good, in seconds since 1970; `None` where it is not X.509.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    validity(certificate).map(|(_, until)| until)
}

/// The same of the first certificate in a PEM file.
#[must_use]
pub fn not_after_in(pem: &[u8]) -> Option<i64> {
    not_after(&CertificateDer::from_pem_slice(pem).ok()?)
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when and until when. The library that verifies certificates does not tell, and a crate that reads all of X.509
/// is much for two dates: they stand at a fixed place (RFC 5280, 4.1).
fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = inside(certificate, SEQUENCE)?;
    let (mut rest, _) = inside(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = inside(rest, VERSION)?;
    }
    for _serial_algorithm_issuer in 0..3 {
        let (_, _, after) = element(rest)?;
        rest = after;
    }
    let (validity, _) = inside(rest, SEQUENCE)?;
    let (from_tag, from, rest) = element(validity)?;
    let (until_tag, until, _) = element(rest)?;
    Some((seconds(from_tag, from)?, seconds(until_tag, until)?))
}

/// The content of the first element, which must have this tag, and what stands behind it.
fn inside(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what stands behind.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, mut der) = der.split_first()?;
    let mut length = usize::from(first & 0x7f);
    if first >= 0x80 {
        let digits;
        (digits, der) = der.split_at_checked(length.min(5))?;
        length = digits.iter().try_fold(0_usize, |n, &d| n.checked_mul(256)?.checked_add(usize::from(d)))?;
    }
    let (content, rest) = der.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, as RFC 5280 wants them.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let mut pairs = digits.chunks_exact(2).map(|pair| match pair {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    });
    let mut next = || pairs.next().flatten();
    let year = match (tag, digits.len()) {
        (UTC_TIME, 12) => next().map(|year| if year < 50 { 2000 + year } else { 1900 + year })?,
        (GENERALIZED_TIME, 14) => next()? * 100 + next()?,
        _ => return None,
    };
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970 in the Gregorian calendar, counted in years that begin in March so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_the_standard_says() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (UTC_TIME, "20240229120000Z", None),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (GENERALIZED_TIME, "2024022912000xZ", None),
            (GENERALIZED_TIME, "20240229120000", None),
            (UTC_TIME, "", None),
        ] {
            assert_eq!(seconds(tag, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let whole = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = whole.der();
        assert!(validity(der).is_some());
        for end in 0..60 {
            assert_eq!(validity(&der[..end]), None, "{end}");
        }
        assert_eq!(validity(&[SEQUENCE, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
