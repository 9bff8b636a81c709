//! Counts that are printed when the process ends.

use std::collections::BTreeMap;
use std::fmt;

/// Prints its value when it is dropped. It is kept in thread-local storage, which is dropped when the fuzzer's `exit`
/// ends the thread.
#[derive(Debug, Default)]
pub struct AtExit<T: fmt::Display>(pub T);

impl<T: fmt::Display> Drop for AtExit<T> {
    fn drop(&mut self) {
        eprintln!("\n{}", self.0);
    }
}

/// The number of operations of each kind.
#[derive(Debug, Default)]
pub struct Counts {
    inputs: u64,
    kinds: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub fn begin_input(&mut self) {
        self.inputs += 1;
    }

    pub fn add(&mut self, kind: &'static str) {
        *self.kinds.entry(kind).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>9}", "operation", "times")?;
        for (kind, times) in &self.kinds {
            writeln!(f, "{kind:<44} {times:>9}")?;
        }
        let all: u64 = self.kinds.values().sum();
        write!(f, "\ntotal: {all} operations in {} inputs", self.inputs)
    }
}
