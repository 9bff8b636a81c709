//! Watch streams and watchers: creation, events, history, progress, cancellation and wake-ups.

mod cancel;
mod counts;
mod create;
mod events;
mod history;
mod issues;
mod lag;
mod progress;
mod ready;
mod regressions;
mod rules;
mod threads;
mod wakers;
mod watcher;
