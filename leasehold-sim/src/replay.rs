//! The text that names a run: a seed, and the faults that happen in it.

use std::collections::BTreeSet;

use crate::fault::FaultId;

/// A run to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) seed: u64,
    /// The faults that happen, or `None` for those that the seed draws.
    pub(crate) faults: Option<BTreeSet<FaultId>>,
}

/// Writes a seed with chosen faults: `7:a3L+b9P`, or `7:` for a run without faults.
pub(crate) fn text(seed: u64, faults: &[FaultId]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    format!("{seed}:{}", faults.join("+"))
}

/// Reads a seed, with or without faults.
pub(crate) fn parse(text: &str) -> Result<Replay, String> {
    let (seed, faults) = match text.split_once(':') {
        Some((seed, faults)) => (seed, Some(faults)),
        None => (text, None),
    };
    let seed =
        seed.trim().parse().map_err(|_| format!("`{text}` does not begin with a seed, as in `7:a3L`"))?;
    let ids = |faults: &str| {
        faults.split('+').filter(|id| !id.is_empty()).map(|id| id.trim().parse()).collect::<Result<_, _>>()
    };
    Ok(Replay { seed, faults: faults.map(ids).transpose()? })
}
