//! The line over stores with replicas: what is acknowledged survives the loss of a node, and no chat gets two owners
//! while two nodes take themselves for the primary. Real servers on loopback, killed and stopped.

mod clock;
mod commit;
mod fencing;
mod harness;
mod line;
mod sentinel;
mod standing;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Groups of servers are heavy: so many tests have theirs at a time.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Waits for a turn, and has it while it is held.
async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("never closed")
}
