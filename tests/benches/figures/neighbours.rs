//! What a helpline notices of ten times as many chats at another one as can be routed there.
//!
//! The quiet one's visitors come at a rate, whether or not those before them were answered: first alone, then beside the
//! flood.

use super::overload::{Crowd, FACTOR, Tally, with_crowds};
use std::time::Duration;

/// The quiet helpline's visitors a second.
const RATE: f64 = 40.0;
/// Long enough for a hundredth of them to be a few.
const LASTS: Duration = Duration::from_secs(12);

pub fn measure() {
    with_crowds(["quiet", "flooded"], async |[quiet, flooded]| {
        let peak = flooded.peak().await;
        let alone = visited(&quiet).await;
        let (beside, (_, flood)) = tokio::join!(visited(&quiet), flooded.load(peak * FACTOR, LASTS));
        println!(
            "\nneighbours (two helplines, processes of three services and Redis, appendfsync always; as above)"
        );
        let came = flood.came as f64 / LASTS.as_secs_f64();
        println!("  the flooded one: {peak:.0} chats a second can be routed, {came:.0} a second came");
        println!(
            "  the quiet one: {RATE:.0} a second came, of {} beside the flood {} were not accepted",
            beside.came,
            beside.came - beside.accepted.len()
        );
        for quantile in [0.5, 0.99] {
            let [alone, beside] = [&alone, &beside].map(|tally| tally.accepted.value_at_quantile(quantile) as f64);
            println!(
                "    request to acknowledgement p{:<3} alone {:>6.1} ms   beside the flood {:>6.1} ms = {:.1} ×",
                quantile * 100.0,
                alone / 1000.0,
                beside / 1000.0,
                beside / alone
            );
        }
    });
}

async fn visited(crowd: &Crowd) -> Tally {
    crowd.load(RATE, LASTS).await.1
}
