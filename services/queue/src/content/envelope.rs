//! An envelope: content as the store keeps it. It holds all that is needed to open it but the helpline's key.
//!
//! ```text
//! 1 version · 8 id of the helpline's key · 1 length · the content's key, wrapped · 24 nonce · content · 16 tag
//! ```
//!
//! Each content has a random key of its own, which is kept nowhere else: whoever removes the envelope has destroyed the
//! key. The key is bound to helpline, chat and field, and a reply to its offer, or to who took the chat over. The content is bound to all of that but the
//! helpline, so that a chat may go to another one without being opened.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use holdfast_domain::HelplineId;
use secrecy::{ExposeSecret, SecretBox};

use super::{
    Field, Of,
    keys::{KeyFault, Keys, Kid, Wrapped},
};

/// In the place of content that could not be sealed or rewrapped: no envelope begins so.
pub(super) const LOST: &[u8] = &[0];

/// The first byte of an envelope. It is authenticated too.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

/// A key of 256 bits. It is wiped from memory when dropped and is not shown.
pub(super) type Key = SecretBox<[u8; 32]>;

/// Why content cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// It was lost on the way here, which was told of then.
    #[error("it was lost before")]
    Lost,
    /// It is no envelope that this version knows.
    #[error("it is no envelope")]
    NoEnvelope,
    /// The key that is needed is not to be had.
    #[error("{0}")]
    Key(#[from] KeyFault),
    /// It was sealed for something else, or changed since.
    #[error("it was changed, or sealed for another chat")]
    Changed,
    /// The keys were not to be had in time.
    #[error("the key service did not answer in time")]
    Silent,
}

/// Seals content with a new key.
pub(super) async fn seal(keys: &dyn Keys, of: Of<'_>, content: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let key = new_key()?;
    let wrapped = keys.wrap(of.helpline, &key_context(of), &key).await?;
    let sealed = encrypt(key.expose_secret(), &content_context(of), content)?;
    written(&wrapped, &sealed)
}

/// Opens what was sealed for this very helpline, chat and field.
pub(super) async fn open(keys: &dyn Keys, of: Of<'_>, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let envelope = Envelope::read(bytes)?;
    let key = keys.unwrap(of.helpline, &key_context(of), &envelope.wrapped).await?;
    decrypt(key.expose_secret(), &content_context(of), envelope.sealed).ok_or(Unreadable::Changed)
}

/// The same content in an envelope of another helpline.
pub(super) async fn rewrap(
    keys: &dyn Keys,
    of: Of<'_>,
    to: &HelplineId,
    bytes: &[u8],
) -> Result<Vec<u8>, Unreadable> {
    let envelope = Envelope::read(bytes)?;
    let key = keys.unwrap(of.helpline, &key_context(of), &envelope.wrapped).await?;
    let wrapped = keys.wrap(to, &key_context(Of { helpline: to, ..of }), &key).await?;
    written(&wrapped, envelope.sealed)
}

struct Envelope<'a> {
    wrapped: Wrapped,
    /// Nonce, content and tag.
    sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        if bytes == LOST {
            return Err(Unreadable::Lost);
        }
        let parts = || {
            let rest = bytes.strip_prefix(&[VERSION])?;
            let (kid, rest) = rest.split_first_chunk()?;
            let (length, rest) = rest.split_first()?;
            let (wrapped, sealed) = rest.split_at_checked(usize::from(*length))?;
            Some(Self { wrapped: Wrapped { kid: Kid(*kid), bytes: wrapped.to_vec() }, sealed })
        };
        parts().ok_or(Unreadable::NoEnvelope)
    }
}

fn written(wrapped: &Wrapped, sealed: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let length = u8::try_from(wrapped.bytes.len()).map_err(|_| KeyFault::TooLong)?;
    Ok([&[VERSION], wrapped.kid.0.as_slice(), &[length], &wrapped.bytes, sealed].concat())
}

fn new_key() -> Result<Key, KeyFault> {
    let mut filled = Ok(());
    let key = Key::init_with_mut(|key| filled = getrandom::fill(key));
    filled.map(|()| key).map_err(|_| KeyFault::Random)
}

// Names hold no zero byte, so two contexts are never written alike.

fn key_context(of: Of<'_>) -> Vec<u8> {
    context("key", of.field, &[of.helpline.as_str(), of.chat.as_str()])
}

fn content_context(of: Of<'_>) -> Vec<u8> {
    context("content", of.field, &[of.chat.as_str()])
}

fn context(what: &str, field: Field<'_>, names: &[&str]) -> Vec<u8> {
    let mut context = vec![VERSION];
    let which = field.which();
    for name in [what, field.word(), &which].iter().chain(names) {
        context.extend_from_slice(name.as_bytes());
        context.push(0);
    }
    context
}

/// A random nonce, then what was encrypted and its tag.
pub(super) fn encrypt(key: &[u8; 32], context: &[u8], said: &[u8]) -> Result<Vec<u8>, KeyFault> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| KeyFault::Random)?;
    let payload = Payload { msg: said, aad: context };
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| KeyFault::TooLong)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// What was encrypted with this key in this context; `None` for anything else.
pub(super) fn decrypt(key: &[u8; 32], context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload { msg: sealed, aad: context };
    XChaCha20Poly1305::new(key.into()).decrypt(&XNonce::from(*nonce), payload).ok()
}

/// Bytes of an envelope beside its content, with keys from a folder.
#[cfg(test)]
pub(super) const OVERHEAD: usize = 1 + 8 + 1 + (NONCE_BYTES + 32 + 16) + NONCE_BYTES + 16;
