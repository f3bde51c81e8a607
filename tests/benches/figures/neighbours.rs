//! What a helpline notices of ten times as many chats at another one as can be routed there.
//!
//! The quiet one's visitors come one by one, first alone, then beside the flood. The flood's visitors are made on the same
//! machine, and so is everything else: what they cost slows the quiet ones too, and is no matter of sharing.

use super::overload::{FACTOR, FLOOD, with_crowds};

/// Of the quiet helpline, each time.
const VISITORS: usize = 400;

pub fn measure() {
    with_crowds(["quiet", "flooded"], async |[quiet, flooded]| {
        let peak = flooded.peak().await;
        let alone = quiet.unhurried(VISITORS).await;
        let (beside, (_, flood)) = tokio::join!(quiet.unhurried(VISITORS), flooded.load(peak * FACTOR, FLOOD));
        println!("\nneighbours (two helplines, three services by gRPC and Redis, appendfsync always)");
        println!("  the flooded one: {peak:.0} chats a second can be routed, {:.0} a second came", {
            flood.came as f64 / FLOOD.as_secs_f64()
        });
        println!("  the quiet one, request to acknowledgement:");
        for quantile in [0.5, 0.99] {
            let (alone, beside) = (alone.value_at_quantile(quantile), beside.value_at_quantile(quantile));
            println!(
                "    p{:<3} alone {:>7.1} ms   beside the flood {:>7.1} ms = {:.1} ×",
                quantile * 100.0,
                alone as f64 / 1000.0,
                beside as f64 / 1000.0,
                beside as f64 / alone as f64
            );
        }
    });
}
