//! The helpline's own webhook, which calls up off-shift volunteers: takes what is signed with the secret and refuses the
//! rest.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hmac::{Hmac, Mac};
use holdfast_runtime::clock::wall_ms;
use serde::Deserialize;
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{World, journal::Wave, rules::HOOK};

/// A call is read within this.
const PATIENCE: Duration = Duration::from_secs(3);
/// And is no longer than this.
const MAX_BODY: usize = 4096;
const MAX_LINES: usize = 64;
/// A signature is no older, and no newer, than this.
const FRESH: Duration = Duration::from_secs(60);

/// Where volunteers are called up.
pub(super) struct Hook {
    listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) secret: String,
}

/// What a call says.
#[derive(Debug, Deserialize)]
struct Told {
    helpline: String,
    stage: String,
    wave: u64,
    on_shift: u64,
    wanted: u64,
    id: String,
}

/// A call as it came.
#[derive(Debug, Default)]
struct Call {
    path: String,
    signature: String,
    body: Vec<u8>,
}

impl Hook {
    pub(super) async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let secret = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        Ok(Self { address: listener.local_addr()?, listener, secret })
    }

    /// Answers calls for ever.
    pub(super) async fn answer(self, world: Arc<World>) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                continue;
            };
            let answered = timeout(PATIENCE, answer(stream, &self.secret, &world)).await;
            if !matches!(answered, Ok(Ok(()))) {
                world.journal.complain("the webhook was called and could not answer".to_owned());
            }
        }
    }
}

async fn answer(stream: TcpStream, secret: &str, world: &World) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let call = read(&mut stream).await?;
    let seconds = wall_ms() / 1000;
    let said = match told(&call, secret, seconds) {
        Ok(told) => {
            called_up(world, told);
            "204 No Content"
        }
        Err(why) => {
            world.journal.complain(format!("the webhook was called wrongly: {why}"));
            "401 Unauthorized"
        }
    };
    let answer = format!("HTTP/1.1 {said}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Off-shift volunteers hear of the wave; the same call again is no new wave.
fn called_up(world: &World, told: Told) {
    let Told { stage, wave, on_shift, wanted, id, .. } = told;
    let waves = {
        let mut notes = world.journal.notes();
        if notes.waves.iter().any(|known| known.id == id) {
            notes.waves_again += 1;
        } else {
            notes.waves.push(Wave { id, wave, stage, on_shift, wanted });
        }
        notes.waves.len()
    };
    world.called.send_replace(waves);
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Call> {
    let mut call = Call::default();
    let mut length = 0;
    for nth in 0..MAX_LINES {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        if nth == 0 {
            call.path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "holdfast-signature" => value.trim().clone_into(&mut call.signature),
            _ => {}
        }
    }
    call.body = vec![0; length.min(MAX_BODY)];
    stream.read_exact(&mut call.body).await?;
    Ok(call)
}

/// What a call says, if it is from the line and fresh.
fn told(call: &Call, secret: &str, now_s: u64) -> Result<Told, &'static str> {
    if call.path != HOOK {
        return Err("at another address");
    }
    let parts = call.signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="));
    let (at, code) = parts.ok_or("without a signature")?;
    let at_s: u64 = at.parse().map_err(|_| "without a time")?;
    if at_s.abs_diff(now_s) > FRESH.as_secs() {
        return Err("with an old signature");
    }
    let code = unhex(code).ok_or("with a signature that is none")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| "without a secret")?;
    mac.update(format!("{at}.").as_bytes());
    mac.update(&call.body);
    mac.verify_slice(&code).map_err(|_| "with another's signature")?;
    let told: Told = serde_json::from_slice(&call.body).map_err(|_| "with a body that is none")?;
    if told.helpline == super::rules::House::Evening.name() { Ok(told) } else { Err("for another helpline") }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn signed(secret: &str, at_s: u64, body: &str) -> Call {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{at_s}.{body}").as_bytes());
        let code: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        Call { path: HOOK.to_owned(), signature: format!("t={at_s},v1={code}"), body: body.into() }
    }

    const BODY: &str = r#"{"helpline":"evening","stage":"flooded","stage_number":2,"wave":1,"on_shift":61,"wanted":68,
        "at_ms":1,"id":"evening-1-2"}"#;

    #[test]
    fn a_signed_and_fresh_call_is_heard() {
        let told = told(&signed(SECRET, 100, BODY), SECRET, 101).unwrap();
        assert_eq!((told.wave, told.wanted, told.id.as_str()), (1, 68, "evening-1-2"));
    }

    #[test]
    fn anything_else_is_refused() {
        let other = signed("another secret of the same length.", 100, BODY);
        assert_eq!(told(&other, SECRET, 100).unwrap_err(), "with another's signature");
        let mut changed = signed(SECRET, 100, BODY);
        changed.body[2] = b'H';
        assert_eq!(told(&changed, SECRET, 100).unwrap_err(), "with another's signature");
        assert_eq!(told(&signed(SECRET, 100, BODY), SECRET, 300).unwrap_err(), "with an old signature");
        assert_eq!(told(&Call::default(), SECRET, 0).unwrap_err(), "at another address");
        let unsigned = Call { path: HOOK.to_owned(), ..Call::default() };
        assert_eq!(told(&unsigned, SECRET, 0).unwrap_err(), "without a signature");
    }
}
