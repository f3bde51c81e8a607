//! What a run says at its end, for people and for deploy/README.md.

use super::checker::{Findings, Law};
use std::fmt::Write;

/// The tables and the laws.
pub fn report(findings: &Findings) -> String {
    let mut out = String::new();
    classes(findings, &mut out);
    times(findings, &mut out);
    laws(findings, &mut out);
    out
}

fn classes(findings: &Findings, out: &mut String) {
    let (lost, doubled) = (findings.broken(Law::Loss), findings.broken(Law::Owners));
    line(out, "| class of fault | fired | acknowledged under it | longest time to recover |");
    line(out, "| --- | ---: | ---: | ---: |");
    for class in &findings.classes {
        let recovered = seconds(class.recovered_ms);
        let missed = match class.missed.first() {
            Some(why) => format!(" ({} times not: {why})", class.missed.len()),
            None => String::new(),
        };
        line(out, &format!("| {} | {}{missed} | {} | {recovered} |", class.name, class.fired, class.acknowledged));
    }
    let fired: u64 = findings.classes.iter().map(|class| class.fired).sum();
    line(
        out,
        &format!("| all | {fired} | {} acknowledged, {lost} lost, {doubled} doubled | |", findings.acknowledged),
    );
    out.push('\n');
}

fn times(findings: &Findings, out: &mut String) {
    line(out, "| bound | what | times | longest | at most |");
    line(out, "| --- | --- | ---: | ---: | ---: |");
    for row in &findings.measured {
        let plain = row.id == "L14";
        let text = |ms: u64| if plain { ms.to_string() } else { seconds(ms) };
        let worst = match row.count {
            0 => "not measured".to_owned(),
            _ if row.worst_ms == u64::MAX => "never".to_owned(),
            _ => text(row.worst_ms),
        };
        line(out, &format!("| {} | {} | {} | {worst} | {} |", row.id, row.what, row.count, text(row.bound_ms)));
    }
    out.push('\n');
}

fn laws(findings: &Findings, out: &mut String) {
    for law in Law::ALL {
        let (looked, kept, broken) = findings.laws.get(&law).cloned().unwrap_or_default();
        let verdict = if broken > 0 { "BROKEN" } else { "holds " };
        line(out, &format!("{verdict} {}: looked at {looked} times, broken {broken}", law.sentence()));
        for words in kept {
            line(out, &format!("         {words}"));
        }
    }
    let percent = findings.availability * 100.0;
    line(out, &format!("stale words that were tried and refused: {}", findings.stale_refused));
    line(out, &format!("events that were read and that the loss of a primary took back: {}", findings.taken_back));
    line(out, &format!("requests acknowledged with one repeat at most while nothing was broken: {percent:.2} %"));
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}");
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}
