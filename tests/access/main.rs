//! Who may call what, over the services as they run: every RPC of the contract with every wrong credential, streams that
//! outlive theirs, and a crowd of wrong ones.

mod contract;
mod crowd;
mod messages;
mod own;
mod streams;
mod wire;
mod world;
