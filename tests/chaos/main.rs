//! `make chaos`: breaks everything, in the form that is named, and ends with a table and an honest exit code.

use holdfast_tests::chaos::checker::{Findings, History, judge};
use holdfast_tests::chaos::history::read;
use holdfast_tests::chaos::{Form, Run, kernel, planted, report, run, runs_dir, seed};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "chaos [short | whole | single | sentinel | cluster | rolls | herd | census | long |
       planted [part of a bug's name] | judge history.jsonl...]
HOLDFAST_SEED names a plan; without it there is another one each time.";

/// What `long` must come to.
const LONG: Goal = Goal { chats: 50_000, faults: 200, every_bound: true };

/// What a run must come to, to have shown something.
struct Goal {
    chats: u64,
    faults: u64,
    /// Every bound was measured, not just kept.
    every_bound: bool,
}

/// Alone in a network where that can be had, so that the kernel can be told what to drop.
fn main() -> ExitCode {
    if let Some(ended) = kernel::again_alone() {
        return ended;
    }
    if !kernel::is_own() {
        println!(
            "no network of our own can be had here: no packets are dropped, links are broken by proxies alone"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(play())
}

async fn play() -> ExitCode {
    let (name, more) = (std::env::args().nth(1), std::env::args().nth(2));
    let forms = match name.as_deref() {
        Some("short") => vec![Form::short(seed())],
        None | Some("whole") => Form::whole(seed()),
        Some("rolls") => vec![Form::rolls(seed())],
        Some("herd") => vec![Form::herd(seed())],
        Some("census") => vec![Form::census(seed())],
        Some(part) if Form::whole(0).iter().any(|form| form.name == part) => {
            Form::whole(seed()).into_iter().filter(|form| form.name == part).collect()
        }
        Some("long") => return long().await,
        Some("judge") => {
            let judged = |file: String| judge(&History::from(read(file.as_ref())));
            let findings = std::env::args().skip(2).map(judged).fold(nothing(), Findings::and);
            return verdict(&findings, &Goal { chats: 0, faults: 0, every_bound: false });
        }
        Some("planted") => return catch_all(&more.unwrap_or_default()).await,
        Some(_) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let sum = |of: fn(&Form) -> usize| forms.iter().map(of).sum::<usize>() as u64;
    let (chats, faults) = (sum(|form| form.chats), sum(|form| form.wishes.faults));
    let goal = Goal { chats, faults, every_bound: forms.len() > 1 };
    let mut all = nothing();
    for form in &forms {
        let Some(findings) = played(form).await else { return ExitCode::FAILURE };
        if forms.len() > 1 && findings.broken_laws().is_empty() {
            Parts::so_far().keep(form, findings.clone());
        }
        all = all.and(findings);
    }
    verdict(&all, &goal)
}

fn nothing() -> Findings {
    Findings { availability: 1.0, ..Findings::default() }
}

async fn played(form: &Form) -> Option<Findings> {
    match run(form).await {
        Ok(Run { findings, history, unowned }) => {
            println!("the history: {}", history.display());
            if !unowned.is_empty() {
                eprintln!("NOTHING REMOVES {unowned:#?}");
                return None;
            }
            Some(findings)
        }
        Err(why) => {
            eprintln!("chaos could not begin: {why}");
            None
        }
    }
}

fn verdict(findings: &Findings, goal: &Goal) -> ExitCode {
    println!("\n{}", report::report(findings));
    let (chats, faults) = (findings.acknowledged, findings.fired());
    let enough = chats >= goal.chats && faults >= goal.faults;
    if !enough {
        println!("TOO LITTLE: {chats} of {} chats, {faults} of {} faults", goal.chats, goal.faults);
    }
    let unmeasured = findings.measured.iter().filter(|row| goal.every_bound && row.count == 0);
    let unmeasured: Vec<_> = unmeasured.map(|row| format!("{} ({})", row.id, row.what)).collect();
    if !unmeasured.is_empty() {
        println!("NOT MEASURED: {}", unmeasured.join(", "));
    }
    let holds = enough && unmeasured.is_empty() && findings.broken_laws().is_empty();
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was found so far for `long`, part by part, in a file: it can be broken off, and goes on where it was. A new one
/// begins when the file is gone. What `whole` finds counts too.
struct Parts {
    file: PathBuf,
    found: Vec<(String, Findings)>,
}

impl Parts {
    fn so_far() -> Self {
        let file = runs_dir().join("long.json");
        let found = match std::fs::read(&file) {
            Ok(kept) => serde_json::from_slice(&kept).unwrap_or_else(|e| panic!("{}: {e}", file.display())),
            Err(_) => Vec::new(),
        };
        Self { file, found }
    }

    fn keep(&mut self, form: &Form, findings: Findings) {
        self.found.push((form.name.clone(), findings));
        let kept = serde_json::to_vec(&self.found).expect("what was found");
        std::fs::write(&self.file, kept).unwrap_or_else(|e| panic!("{}: {e}", self.file.display()));
    }

    fn all(&self) -> Findings {
        self.found.iter().map(|(_, findings)| findings.clone()).fold(nothing(), Findings::and)
    }

    /// Rolls and the herd once, then each kind of store in turn, each time by another plan.
    fn next(&self, first: u64) -> Form {
        let played = |form: &Form| self.found.iter().filter(|(name, _)| name.starts_with(&form.name)).count();
        let once = [Form::rolls(first), Form::herd(first)].into_iter().find(|form| played(form) == 0);
        once.unwrap_or_else(|| {
            let forms = Form::whole(first + self.found.len() as u64);
            let form = forms.into_iter().min_by_key(played).expect("a form");
            Form { name: format!("{}-{}", form.name, played(&form) + 1), ..form }
        })
    }
}

/// One part after the other, until there are enough chats and faults.
async fn long() -> ExitCode {
    let mut parts = Parts::so_far();
    let first = seed();
    loop {
        let (all, count) = (parts.all(), parts.found.len());
        let enough = all.acknowledged >= LONG.chats && all.fired() >= LONG.faults && count > 4;
        if enough || !all.broken_laws().is_empty() {
            println!("{count} parts; the next one begins anew when {} is gone", parts.file.display());
            return verdict(&all, &LONG);
        }
        let form = parts.next(first);
        println!("part {}: so far {} chats, {} faults", count + 1, all.acknowledged, all.fired());
        let Some(findings) = played(&form).await else { return ExitCode::FAILURE };
        parts.keep(&form, findings);
    }
}

/// Every bug that is planted must be caught.
async fn catch_all(part: &str) -> ExitCode {
    let mut missed = 0;
    for bug in planted::BUGS.iter().filter(|bug| bug.name.contains(part)) {
        match planted::play(bug, seed()).await {
            Ok(how) => println!("CAUGHT {}: {how}\n", bug.name),
            Err(why) => {
                missed += 1;
                println!("MISSED {}: {why}\n", bug.name);
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
