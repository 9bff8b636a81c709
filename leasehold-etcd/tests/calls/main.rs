//! The life of a call through gRPC: the runtime that drives it, what a dropped call leaves, its deadline, its size and its errors.

mod broken;
mod drops;
mod errors;
mod helpers;
mod multi_thread;
mod pumps;
mod runtimes;
mod seam;
