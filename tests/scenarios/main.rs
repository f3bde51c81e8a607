//! What people live through, told in sentences, with the real services as processes over a real Redis.
//!
//! Unless a scenario says otherwise there are one intake, two queues and two dispatches, and Redis writes each change
//! to disk before it answers. Scenarios share nothing.

mod acknowledgement;
mod audit;
mod backup;
mod blocks;
mod care;
mod content;
mod crowd;
mod durability;
mod events;
mod failure;
mod floods;
mod isolation;
mod lost_store;
mod lost_tail;
mod matching;
mod offers;
mod operation;
mod overflow;
mod partition;
mod policy;
mod power;
mod presence;
mod privacy;
mod shutdown;
mod slow_readers;
mod supervision;
mod surge;
mod telemetry;
mod tls;
mod triage;
