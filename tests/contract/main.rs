//! One contract for both stores: the same commands, the same answers.

mod differential;
