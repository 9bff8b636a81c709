//! The watch operations of a trace.

use serde_json::Value as Json;

use super::error::Problem;
use super::fields::Fields;
use super::values::{self, Symbols};
use crate::wire::{Request, WatchCreate};

/// The operation of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStep {
    /// A request whose answer comes on the stream.
    Ask(Request),
    /// A comparison with the responses that a watcher has received.
    Expect { id: i64 },
}

/// Builds the step of the operation `op` on stream `stream`.
pub fn build(op: &str, stream: u32, json: &Json, symbols: &Symbols) -> Result<WatchStep, Problem> {
    let mut fields = Fields::new("req", json, symbols)?;
    let step = match op {
        "watch_create" => WatchStep::Ask(Request::WatchCreate(create(stream, &mut fields)?)),
        "watch_cancel" => WatchStep::Ask(Request::WatchCancel { stream, id: fields.integer("watch_id")? }),
        "watch_progress" => WatchStep::Ask(Request::WatchProgress { stream }),
        "watch_close" => WatchStep::Ask(Request::WatchClose { stream }),
        "watch_expect" => WatchStep::Expect { id: fields.integer("watch_id")? },
        _ => return Err(Problem::UnknownOperation(op.to_owned())),
    };
    fields.finish()?;
    Ok(step)
}

fn create(stream: u32, fields: &mut Fields<'_>) -> Result<WatchCreate, Problem> {
    let (mut no_put, mut no_delete) = (false, false);
    for filter in fields.list("filters")? {
        match filter.as_str() {
            Some("NOPUT") => no_put = true,
            Some("NODELETE") => no_delete = true,
            _ => return Err(values::not_a("req.filters", "a list of NOPUT and NODELETE", filter)),
        }
    }
    Ok(WatchCreate {
        stream,
        key: fields.bytes("key")?,
        range_end: fields.bytes("range_end")?,
        start_revision: fields.integer("start_revision")?,
        no_put,
        no_delete,
        prev_kv: fields.flag("prev_kv")?,
        watch_id: fields.integer("watch_id")?,
        progress_notify: fields.flag("progress_notify")?,
        fragment: fields.flag("fragment")?,
        capacity: 0,
    })
}
