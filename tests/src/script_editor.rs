//! Plants bugs in the store's scripts from outside: it sits in the proxy in front of Redis and changes the text of
//! scripts on their way. The services know nothing of it, so there is no switch that could be left on.
//!
//! Scripts are addressed by the digest of their content. A service loads its own text, and is told its digest; when it
//! calls that, the editor has the changed text evaluated instead, once on each connection and after each time that the
//! script is loaded there, and from then on calls the digest of that.

use redis::Script;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

/// One change: wherever a script holds a text, it holds another one instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit {
    /// The text that is there.
    pub from: &'static str,
    /// The text that takes its place.
    pub to: &'static str,
}

/// What is changed in scripts, on all connections of a link.
#[derive(Default)]
pub struct Editor {
    edits: Vec<Edit>,
    /// `WAIT` is answered at once as if so many replicas had acknowledged.
    pub forged_wait: Option<u32>,
    /// By the digest of what a service sent.
    changed: Mutex<HashMap<Vec<u8>, Changed>>,
    planted: Mutex<Vec<bool>>,
}

/// A script that is changed.
struct Changed {
    text: String,
    digest: String,
}

impl Editor {
    /// Plants these changes.
    pub fn new(edits: &[Edit]) -> Arc<Self> {
        let planted = Mutex::new(vec![false; edits.len()]);
        Arc::new(Self { edits: edits.to_vec(), planted, ..Self::default() })
    }

    /// Answers `WAIT` without waiting.
    pub fn forging_wait(acknowledged: u32) -> Arc<Self> {
        Arc::new(Self { forged_wait: Some(acknowledged), ..Self::default() })
    }

    /// Whether each change has found its place in a script that was loaded.
    pub fn all_planted(&self) -> bool {
        self.planted.lock().expect("no panic").iter().all(|planted| *planted)
    }

    /// A command as it goes on.
    fn command(&self, mut words: Vec<Vec<u8>>, known: &mut HashSet<Vec<u8>>) -> Vec<Vec<u8>> {
        let is =
            |word: Option<&Vec<u8>>, name: &str| word.is_some_and(|w| w.eq_ignore_ascii_case(name.as_bytes()));
        if is(words.first(), "SCRIPT") && is(words.get(1), "LOAD") && words.len() == 3 {
            if let Some(digest) = self.change(&words[2]) {
                known.remove(&digest);
            }
        } else if is(words.first(), "EVALSHA") && words.len() > 1 {
            if let Some(changed) = self.changed.lock().expect("no panic").get(&words[1]) {
                if known.insert(words[1].clone()) {
                    words[0] = b"EVAL".to_vec();
                    words[1] = changed.text.clone().into_bytes();
                } else {
                    words[1] = changed.digest.clone().into_bytes();
                }
            }
        } else if let (true, Some(acknowledged)) = (is(words.first(), "WAIT"), self.forged_wait) {
            let forged = ["EVAL", "return tonumber(ARGV[1])", "0", &acknowledged.to_string()];
            return forged.iter().map(|word| word.as_bytes().to_vec()).collect();
        }
        words
    }

    /// The digest of a script that is changed.
    fn change(&self, text: &[u8]) -> Option<Vec<u8>> {
        let own = std::str::from_utf8(text).ok()?;
        let mut text = own.to_owned();
        for (at, edit) in self.edits.iter().enumerate() {
            if text.contains(edit.from) {
                text = text.replace(edit.from, edit.to);
                self.planted.lock().expect("no panic")[at] = true;
            }
        }
        if text == own {
            return None;
        }
        let sent = Script::new(own).get_hash().as_bytes().to_vec();
        let changed = Changed { digest: Script::new(&text).get_hash().to_owned(), text };
        self.changed.lock().expect("no panic").insert(sent.clone(), changed);
        Some(sent)
    }
}

/// What goes to the store over one connection.
pub struct Stream {
    editor: Arc<Editor>,
    /// Scripts whose changed text went over this connection.
    known: HashSet<Vec<u8>>,
    rest: Vec<u8>,
}

impl Stream {
    /// A new connection.
    pub fn new(editor: &Arc<Editor>) -> Self {
        Self { editor: Arc::clone(editor), known: HashSet::new(), rest: Vec::new() }
    }

    /// What goes on of what came: whole commands only.
    pub fn edit(&mut self, came: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(came);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some((words, length)) = command(&self.rest[at..]) {
            at += length;
            write(&mut out, &self.editor.command(words, &mut self.known));
        }
        self.rest.drain(..at);
        out
    }
}

/// The first command of some bytes (an array of strings, as every client of ours writes it), and its length.
fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (count, mut at) = header(bytes, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, head) = header(&bytes[at..], b'$')?;
        let word = bytes.get(at + head..at + head + length)?;
        at += head + length + 2;
        if at > bytes.len() {
            return None;
        }
        words.push(word.to_vec());
    }
    Some((words, at))
}

/// A number behind a sign, and how long both are with the end of the line.
fn header(bytes: &[u8], sign: u8) -> Option<(usize, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(bytes[0], sign, "a client that speaks to the store otherwise than in arrays of strings");
    let number = std::str::from_utf8(&bytes[1..end]).ok()?.parse().ok()?;
    Some((number, end + 2))
}

fn write(out: &mut Vec<u8>, words: &[Vec<u8>]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, &words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>());
        out
    }

    #[test]
    fn whoever_calls_a_script_calls_the_changed_one() {
        let editor = Editor::new(&[Edit { from: "one", to: "two" }]);
        let mut stream = Stream::new(&editor);
        let digest = |text: &str| Script::new(text).get_hash().to_owned();
        let call = |text: &str| bytes(&["EVALSHA", &digest(text), "1", "key"]);
        let load = bytes(&["SCRIPT", "LOAD", "return 'one'"]);

        for _ in 0..2 {
            assert_eq!(stream.edit(&load), load, "the service hears of its own");
            assert_eq!(stream.edit(&call("return 'one'")), bytes(&["EVAL", "return 'two'", "1", "key"]));
            assert_eq!(stream.edit(&call("return 'one'")), call("return 'two'"));
        }
        assert!(editor.all_planted());
    }

    #[test]
    fn commands_that_come_in_pieces_go_on_whole() {
        let mut stream = Stream::new(&Editor::new(&[]));
        let all = [bytes(&["GET", "a\r\nb"]), bytes(&["PING"])].concat();

        let out: Vec<u8> = all.iter().flat_map(|byte| stream.edit(&[*byte])).collect();

        assert_eq!(out, all);
    }

    #[test]
    fn waiting_for_replicas_can_be_forged() {
        let mut stream = Stream::new(&Editor::forging_wait(1));
        let out = stream.edit(&bytes(&["WAIT", "1", "300"]));
        assert_eq!(out, bytes(&["EVAL", "return tonumber(ARGV[1])", "0", "1"]));
    }
}
