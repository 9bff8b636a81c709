//! `Display` of requests, key-value pairs and events: each is formatted as one line for logs. Long keys, values and
//! lists are cut, so that the length of a line is bounded. The formatted text may change in any release.

use std::fmt;

use crate::api::{
    AlarmAction, AlarmRequest, AlarmType, Compact, Compare, CompareOp, CompareOperand, Delete, Event,
    EventType, Get, Grant, KeyRange, KeyValue, LeaseId, Page, Put, SortOrder, SortTarget, Txn, TxnOp, Watch,
    WatchId, WatchRequest,
};

/// The maximum number of bytes of a key or a value that are shown.
const BYTES_MAX: usize = 48;

/// The maximum number of elements of a list that are shown.
const LIST_MAX: usize = 4;

/// Formats bytes as quoted text. If there are more than [`BYTES_MAX`] bytes, formats the first `BYTES_MAX` bytes and
/// the total number of bytes.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..BYTES_MAX) {
            Some(start) if self.0.len() > BYTES_MAX => {
                write!(f, "\"{}\"... ({} bytes)", start.escape_ascii(), self.0.len())
            }
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// Formats the first [`LIST_MAX`] elements of a list in brackets, and the number of further elements, if any.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (place, element) in self.0.iter().take(LIST_MAX).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{element}")?;
        }
        match self.0.len().saturating_sub(LIST_MAX) {
            0 => f.write_str("]"),
            more => write!(f, ", {more} more]"),
        }
    }
}

/// Writes the names of the options that are set.
fn options<const N: usize>(f: &mut fmt::Formatter<'_>, options: [(bool, &str); N]) -> fmt::Result {
    options.into_iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, name)| write!(f, " {name}"))
}

/// Writes the numbers that are not 0, each with its name.
fn numbers<const N: usize>(f: &mut fmt::Formatter<'_>, numbers: [(&str, i64); N]) -> fmt::Result {
    numbers.into_iter().filter(|(_, number)| *number != 0).try_for_each(|(name, n)| write!(f, " {name} {n}"))
}

/// Writes `lease` and the lease id in hexadecimal, as in etcd's lock keys. Writes nothing for [`LeaseId::NONE`].
fn lease(f: &mut fmt::Formatter<'_>, id: LeaseId) -> fmt::Result {
    if id == LeaseId::NONE { Ok(()) } else { write!(f, " lease {id:x}") }
}

/// Formats one key as `"a"`, a prefix as `"a"*`, and all keys as `*`. Formats another range as `"a".."c"`, or as
/// `"a"..` if the range has no upper end.
impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (Text(self.start()), Text(self.range_end()));
        // Test for all keys before `is_from_key`, since the range of all keys has no upper end. The last case matches
        // every interval, so test for a prefix before it.
        if self.is_single() {
            write!(f, "{start}")
        } else if *self == Self::all() {
            f.write_str("*")
        } else if self.is_from_key() {
            write!(f, "{start}..")
        } else if *self == Self::prefix(self.shared_start()) {
            write!(f, "{start}*")
        } else {
            write!(f, "{start}..{end}")
        }
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Get {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "get {}", self.range)?;
        numbers(f, [("at", self.revision.map_or(0, |revision| revision.get())), ("limit", self.limit)])?;
        if (self.sort_target, self.sort_order) != (SortTarget::Key, SortOrder::None) {
            write!(f, " sort {:?} {:?}", self.sort_target, self.sort_order)?;
        }
        let [min_mod, max_mod, min_create, max_create] = self.revision_bounds();
        numbers(f, [("min_mod_revision", min_mod), ("max_mod_revision", max_mod)])?;
        numbers(f, [("min_create_revision", min_create), ("max_create_revision", max_create)])?;
        options(f, [(self.keys_only, "keys_only"), (self.count_only, "count_only")])?;
        options(f, [(self.serializable, "serializable")])
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {} = {}", Text(&self.key), Text(&self.value))?;
        lease(f, self.lease)?;
        options(f, [(self.prev_kv, "prev_kv"), (self.ignore_value, "ignore_value")])?;
        options(f, [(self.ignore_lease, "ignore_lease")])
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Delete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete {}", self.range)?;
        options(f, [(self.prev_kv, "prev_kv")])
    }
}

/// Formats the operator, for example as `==`. Formats [`Unrecognized`](Self::Unrecognized) as `?`.
impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Greater => ">",
            Self::Less => "<",
            Self::NotEqual => "!=",
            Self::Unrecognized => "?",
        })
    }
}

/// Formats the compare, for example as `create_revision("leader") == 0`.
impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, op, operand } = self;
        match operand {
            CompareOperand::Version(version) => write!(f, "version({range}) {op} {version}"),
            CompareOperand::CreateRevision(revision) => write!(f, "create_revision({range}) {op} {revision}"),
            CompareOperand::ModRevision(revision) => write!(f, "mod_revision({range}) {op} {revision}"),
            CompareOperand::Value(value) => write!(f, "value({range}) {op} {}", Text(value)),
            CompareOperand::Lease(lease) => write!(f, "lease({range}) {op} {lease:x}"),
            CompareOperand::Unrecognized => write!(f, "unrecognized({range}) {op}"),
        }
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (compare, success, failure) = (List(&self.compare), List(&self.success), List(&self.failure));
        write!(f, "txn if {compare} then {success} else {failure}")
    }
}

/// Formats the operation in one line, for logs. A nested txn shows only the lengths of its lists.
impl fmt::Display for TxnOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(get) => get.fmt(f),
            Self::Put(put) => put.fmt(f),
            Self::Delete(delete) => delete.fmt(f),
            Self::Txn(txn) => {
                // Omit the operations of the nested txn, since they may nest up to `Txn::MAX_DEPTH` levels.
                let (success, failure) = (txn.success.len(), txn.failure.len());
                write!(f, "txn of {} compares, {success} + {failure} operations", txn.compare.len())
            }
            Self::Unset => f.write_str("unset"),
        }
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compact {}", self.revision)?;
        options(f, [(self.physical, "physical")])
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant {:?}", self.ttl)?;
        lease(f, self.id)?;
        options(f, [(self.standing, "standing")])
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for AlarmRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            AlarmAction::Get => "alarm get",
            AlarmAction::Activate => "alarm activate",
            AlarmAction::Deactivate => "alarm deactivate",
        })?;
        f.write_str(match self.alarm {
            AlarmType::None => "",
            AlarmType::NoSpace => " NOSPACE",
            AlarmType::Corrupt => " CORRUPT",
        })?;
        // A request that lists alarms ignores the member id (R-MNT-7), so its line does not show the id.
        if self.action == AlarmAction::Get { Ok(()) } else { write!(f, " member {:x}", self.member_id) }
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} limit {}", self.range, self.limit)?;
        numbers(f, [("at", self.revision.map_or(0, |revision| revision.get()))])?;
        options(f, [(self.keys_only, "keys_only")])
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watch {}", self.range)?;
        numbers(f, [("from", self.start.get())])?;
        if self.id != WatchId::AUTO {
            write!(f, " id {}", self.id)?;
        }
        options(f, [(self.prev_kv, "prev_kv"), (self.no_put, "no_put"), (self.no_delete, "no_delete")])?;
        options(f, [(self.progress_notify, "progress_notify"), (self.fragment, "fragment")])
    }
}

/// Formats the request in one line, for logs.
impl fmt::Display for WatchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(watch) => watch.fmt(f),
            Self::Cancel(id) => write!(f, "cancel {id}"),
            Self::Progress => f.write_str("progress"),
            Self::Lease(id) => write!(f, "lease {id:x}"),
        }
    }
}

/// Formats the pair, for example as `"config/mode" = "blue" (revision 7)`.
impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (revision {}", Text(self.key()), Text(self.value()), self.mod_revision())?;
        lease(f, self.lease())?;
        f.write_str(")")
    }
}

/// Formats the event, for example as `PUT "config/mode" = "blue" (revision 7)` or `DELETE "config/mode" (revision 8)`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event_type() {
            EventType::Put => write!(f, "{} {}", EventType::Put, self.kv()),
            EventType::Delete => {
                // The pair of a delete has no value, and the `Display` of a pair would show an empty value.
                let kv = self.kv();
                write!(f, "{} {} (revision {})", EventType::Delete, Text(kv.key()), kv.mod_revision())
            }
        }
    }
}

/// Formats the type as etcd names it: `PUT` or `DELETE`.
impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        })
    }
}
