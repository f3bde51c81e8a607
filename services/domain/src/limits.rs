//! Every limit of the line, in one place: both stores obey the same ones, and services publish them.

/// Offers of one chat that may be open at once.
pub const MAX_FAN_OUT: usize = 4;
/// Responders who declined, missed or handed on a chat that it remembers; the oldest is forgotten first.
pub const MAX_ASKED: usize = 8;
/// How deep a search looks within one lane or one class of responders, past those that may not meet. Larger than
/// `MAX_FAN_OUT + MAX_ASKED + MAX_EXCLUDED - 1`, so the search for a responder is never cut short by it.
pub const SEARCH_DEPTH: usize = 16;
/// Steps of a routing ladder.
pub const MAX_STEPS: usize = 8;
/// Alternatives of one requirement.
pub const MAX_ALTERNATIVES: usize = 8;
/// Tags that one request or one responder may name.
pub const MAX_TAGS: usize = 64;
/// Capability bits of one helpline: the sum of the levels of all its tags.
pub const MAX_CAPABILITY_BITS: usize = 512;
/// Chats that one responder may hold at once.
pub const MAX_CAPACITY: u32 = 20;
/// Bytes of a handoff, either way, as it comes. Sealed for the store it is a few hundred bytes longer at most.
pub const MAX_HANDOFF_BYTES: usize = 8 * 1024;
/// Responders that a helpline may keep free for IMMINENT chats.
pub const MAX_RESERVE: u32 = 50;
/// Free responders who are looked at again when the reserve is full once more: more than can have been held back.
pub const SWEEP: usize = 160;
/// Zero bits that a challenge may ask for: 16 million tries in the mean, which is minutes on a slow phone.
pub const MAX_CHALLENGE_BITS: u32 = 24;
/// Responders whom a visitor may ask not to meet.
pub const MAX_EXCLUDED: usize = 4;
/// Reroutes in force at once.
pub const MAX_REROUTES: usize = 8;
/// The longest time for which anybody is blocked at once: 30 days, in milliseconds.
pub const MAX_BLOCK_MS: u64 = 30 * 24 * 3600 * 1000;
/// A block that nobody confirms for so long is not one any more: a day, in milliseconds.
pub const BLOCK_OPEN_MS: u64 = 24 * 3600 * 1000;
/// Blocks of a helpline in force at once.
pub const MAX_BLOCKS: usize = 10_000;
/// Blocks of a helpline that wait to be confirmed.
pub const MAX_BLOCK_PROPOSALS: usize = 100;
/// Bytes of what an integrator calls a visitor.
pub const MAX_SUBJECT_BYTES: usize = 128;
/// Who holds a chat for a partner asks again this often what became of it, in milliseconds.
pub const ASK_AGAIN_MS: u64 = 2_000;
/// Bytes of a sealed ticket or assignment: what the longest ladder, both handoffs and every tag of a policy need.
pub const MAX_TICKET_BYTES: usize = 48 * 1024;
/// A chat that comes back from a ticket may have changed more often than the ticket knows: its version and the number
/// of its offers go on this far beyond, so that nobody takes what is new for old.
pub const RESTORED_GAP: u32 = 1000;
/// Chats that one tick lets out of the recovery hold, first in line first.
pub const RECOVER_BATCH: usize = 500;
/// Policies of a helpline that are kept, for going back to one.
pub const MAX_POLICIES: usize = 20;
/// Timers that one tick handles.
pub const MAX_TICK: u32 = 100;
/// Bytes of a traceparent header (W3C trace context, version 00).
pub const MAX_TRACE_BYTES: usize = 64;
/// Longest duration that a policy may name: 30 days.
pub const MAX_DURATION_MS: u64 = 30 * 24 * 3600 * 1000;
