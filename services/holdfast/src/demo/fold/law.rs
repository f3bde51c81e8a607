//! What must hold, whatever happens.

macro_rules! laws {
    ($($(#[$doc:meta])* $name:ident = $id:literal $words:literal),+ $(,)?) => {
        /// What must hold. Ids are those of the invariants in services/ARCHITECTURE.md, where there is one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(in crate::demo) enum Law { $($(#[$doc])* $name),+ }

        impl Law {
            pub(in crate::demo) const ALL: &'static [Self] = &[$(Self::$name),+];

            pub(in crate::demo) fn id(self) -> &'static str {
                match self { $(Self::$name => $id),+ }
            }

            pub(in crate::demo) fn words(self) -> &'static str {
                match self { $(Self::$name => $words),+ }
            }
        }
    };
}

laws! {
    OneOwner = "INV-01" "a chat is in one pair of hands at a time, and epochs only rise",
    Load = "INV-02" "nobody carries more than they can, but by a supervisor's word",
    OneEnd = "INV-03" "a chat is offered only from the line, and ends once",
    Meets = "INV-06" "nobody waits for 2 s beside somebody free who may serve them",
    Order = "INV-07" "nobody is passed over: of all whom somebody free may serve, the first in line is offered",
    BackOff = "INV-09" "who did not take a chat is not asked again at once",
    Present = "INV-10" "only who is here, ready and rested is offered a chat",
    Away = "INV-13" "a chat whose visitor is out of touch is not offered",
    Partner = "" "a chat goes to a partner in good order: proposed, held, let go here, admitted there",
    Ladder = "" "a step lets go of a wish, never before its time",
    Qualified = "" "who is offered a chat has what its step asks for",
    OptedOut = "" "nobody is offered a topic that they opted out of",
    Excluded = "" "nobody is offered a visitor who never wants to meet them again",
    HardInRow = "" "nobody is offered one more hard chat than is good for them",
    Reserve = "" "the last free responders are kept for IMMINENT chats",
    Gate = "" "nothing is offered while too few are on shift",
    Surge = "" "stages of a surge are the policy's, and nobody is called up without one",
    Revision = "" "every event says which policy it was decided under",
    Stream = "" "the stream of events has no gap, and the service clock never goes back",
}

/// How often a law was looked at, and how often it was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::demo) struct Tally {
    pub(in crate::demo) looked: u64,
    pub(in crate::demo) broken: u64,
}
