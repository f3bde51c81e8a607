//! What the kernel does to packets, in a network namespace of our own: where this program may make one, everything that
//! is started lives in it, and packets on their way to or from a port are dropped without a word to anybody. That is
//! what a proxy cannot play: no reset, no end, connections that seem open.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

/// Says to the program that it is in a namespace of its own.
const OWN: &str = "HOLDFAST_CHAOS_OWN_NETWORK";

/// Whether this program is alone in its network, so that it may drop what it likes.
pub fn is_own() -> bool {
    std::env::var_os(OWN).is_some()
}

/// Runs this program again with the same arguments, alone in a network; how it ended. `None` where that cannot be had
/// (no rights, no `unshare`, `ip` or `iptables`), or is so already.
pub fn again_alone() -> Option<ExitCode> {
    if is_own() || !can_be_alone() {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let arguments = std::env::args_os().skip(1);
    let words: Vec<OsString> = ["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]
        .into_iter()
        .map(OsString::from)
        .chain([program.into_os_string()])
        .chain(arguments)
        .collect();
    let status = Command::new("unshare").args(words).env(OWN, "1").status().ok()?;
    Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn can_be_alone() -> bool {
    let trial = "ip link set lo up && iptables -w -A INPUT -p tcp --dport 1 -m statistic --mode random --probability 0.1 -j DROP";
    let tried = Command::new("unshare")
        .args(["--net", "sh", "-c", trial])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To a port.
    To(u16),
    /// From it.
    From(u16),
}

/// Packets that are dropped until this is dropped.
pub struct Dropping(Vec<Vec<String>>);

impl Dropping {
    /// Drops so many packets in a hundred of each way.
    ///
    /// # Errors
    /// When the kernel does not take a rule; then none is left.
    pub fn begin(ways: &[Way], percent: u8) -> Result<Self, String> {
        if !is_own() {
            return Err("this network is not ours alone".to_owned());
        }
        let mut begun = Self(Vec::new());
        for way in ways {
            let rule = rule(*way, percent);
            iptables("-A", &rule)?;
            begun.0.push(rule);
        }
        Ok(begun)
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        for rule in &self.0 {
            if let Err(why) = iptables("-D", rule) {
                eprintln!("chaos: a rule of the kernel stays: {why}");
            }
        }
    }
}

/// On the way in: whoever sends does not even hear that it cannot be sent.
fn rule(way: Way, percent: u8) -> Vec<String> {
    let (side, port) = match way {
        Way::To(port) => ("--dport", port),
        Way::From(port) => ("--sport", port),
    };
    let mut words = vec!["INPUT".to_owned(), "-p".to_owned(), "tcp".to_owned(), side.to_owned(), port.to_string()];
    if percent < 100 {
        let share = format!("{:.2}", f64::from(percent) / 100.0);
        words.extend(["-m", "statistic", "--mode", "random", "--probability", &share].map(str::to_owned));
    }
    words.extend(["-j", "DROP"].map(str::to_owned));
    words
}

fn iptables(what: &str, rule: &[String]) -> Result<(), String> {
    let said = Command::new("iptables").args(["-w", what]).args(rule).output().map_err(|e| e.to_string())?;
    if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).trim().to_owned()) }
}
