//! What a helpline notices of a flood at another one.
//!
//! The quiet one's visitors come at a rate, whether or not those before them were answered: first alone, then beside a
//! flood of ten times what is the other one's part, where helplines have no quotas, and then beside the same where each
//! has one. All quotas together are half of what can be routed, as `deploy/README.md` advises.

use super::overload::{Crowd, FACTOR, Tally, with_crowds};
use holdfast_domain::policy::{Admission, Rate};
use std::time::Duration;

/// The quiet helpline's visitors a second.
const RATE: f64 = 40.0;
/// Long enough for a hundredth of them to be a few.
const LASTS: Duration = Duration::from_secs(12);
/// A helpline's part of what can be routed.
const SHARE: f64 = 0.25;

pub fn measure() {
    with_crowds(["quiet", "flooded"], async |[quiet, flooded]| {
        let peak = flooded.peak().await;
        let alone = quiet.load(RATE, LASTS).await.1;
        println!(
            "\nneighbours (two helplines, processes of three services and Redis, appendfsync always; as above)"
        );
        println!("  {peak:.0} chats a second can be routed, {RATE:.0} a second come to the quiet helpline");
        beside("a flood, without quotas", &alone, &quiet, &flooded, peak).await;
        for crowd in [&quiet, &flooded] {
            crowd.at_rest().await;
            crowd.lets_in(quota(peak * SHARE)).await;
        }
        beside("a flood, with quotas", &alone, &quiet, &flooded, peak).await;
    });
}

/// So many a second, and few of them more at once than come evenly.
fn quota(a_second: f64) -> Admission {
    let rate = |a_second: f64| Rate { per_minute: (a_second * 60.0) as u64, burst: 10 };
    Admission { quota: rate(a_second), imminent: rate(a_second / 10.0) }
}

async fn beside(what: &str, alone: &Tally, quiet: &Crowd, flooded: &Crowd, peak: f64) {
    let ((_, with), (routed, flood)) =
        tokio::join!(quiet.load(RATE, LASTS), flooded.load(peak * SHARE * FACTOR, LASTS));
    let came = flood.came as f64 / LASTS.as_secs_f64();
    let refused = flood.refused.value_at_quantile(0.99) as f64 / 1000.0;
    println!(
        "  beside {what}: {came:.0} a second came there, {routed:.0} were routed, refused within {refused:.1} ms (p99)"
    );
    println!(
        "    of {} who came to the quiet one {} were not accepted",
        with.came,
        with.came - with.accepted.len()
    );
    for quantile in [0.5, 0.99] {
        let [alone, with] = [alone, &with].map(|tally| tally.accepted.value_at_quantile(quantile) as f64);
        println!(
            "    request to acknowledgement p{:<3} alone {:>6.1} ms   beside it {:>6.1} ms = {:.1} ×",
            quantile * 100.0,
            alone / 1000.0,
            with / 1000.0,
            with / alone
        );
    }
}
