//! Locks and elections as recipes over a [`Client`](crate::Client).

mod call;
mod turn;

pub(crate) use call::poll_call;
pub(crate) use turn::Turn;
