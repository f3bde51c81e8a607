//! What the Redis server says about its own work, asked through a socket in the stage's own folder. One inline command and its
//! bulk answer need no client.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

/// An answer takes so long at most.
const PATIENCE: Duration = Duration::from_secs(3);
/// And is so long at most.
const MAX_ANSWER: usize = 1 << 20;

/// Work since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Statistics {
    /// Scripts that were run: calls, and microseconds inside the server.
    pub(super) script_calls: u64,
    pub(super) script_us: u64,
    /// All commands that came from outside, scripts included.
    pub(super) used_us: u64,
}

impl Statistics {
    pub(super) fn since(self, start: Self) -> Self {
        Self {
            script_calls: self.script_calls.saturating_sub(start.script_calls),
            script_us: self.script_us.saturating_sub(start.script_us),
            used_us: self.used_us.saturating_sub(start.used_us),
        }
    }
}

pub(super) async fn statistics(socket: &Path) -> io::Result<Statistics> {
    let answer = timeout(PATIENCE, info(socket)).await??;
    Ok(read(&answer))
}

async fn info(socket: &Path) -> io::Result<String> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await?);
    stream.write_all(b"INFO commandstats\r\n").await?;
    let mut head = String::new();
    stream.read_line(&mut head).await?;
    let length: Option<usize> = head.trim().strip_prefix('$').and_then(|n| n.parse().ok());
    let length = length.filter(|n| *n <= MAX_ANSWER);
    let length = length.ok_or_else(|| io::Error::other("the server answers something else"))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Lines such as `cmdstat_evalsha:calls=12,usec=3400,usec_per_call=283.33,…`.
fn read(info: &str) -> Statistics {
    let mut statistics = Statistics::default();
    for line in info.lines() {
        let Some((name, fields)) = line.strip_prefix("cmdstat_").and_then(|l| l.split_once(':')) else {
            continue;
        };
        let field = |wanted: &str| -> u64 {
            let value = fields.split(',').find_map(|f| f.strip_prefix(wanted)?.strip_prefix('='));
            value.and_then(|v| v.parse().ok()).unwrap_or(0)
        };
        if name.starts_with("eval") || name.starts_with("fcall") {
            statistics.script_calls += field("calls");
            statistics.script_us += field("usec");
        }
        statistics.used_us += field("usec");
    }
    statistics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_counted_apart() {
        let info = "# Commandstats\r\n\
            cmdstat_evalsha:calls=12,usec=3400,usec_per_call=283.33,rejected_calls=0,failed_calls=0\r\n\
            cmdstat_evalsha_ro:calls=2,usec=100,usec_per_call=50.00,rejected_calls=0,failed_calls=0\r\n\
            cmdstat_ping:calls=1,usec=5,usec_per_call=5.00,rejected_calls=0,failed_calls=0\r\n";
        let read = read(info);
        assert_eq!((read.script_calls, read.script_us, read.used_us), (14, 3500, 3505));
    }
}
