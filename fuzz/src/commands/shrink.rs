//! Reduces a failing input to the commands that the failure needs.

use super::{decode, lockstep};
use leasehold_testkit::lockstep::Divergence;

/// Returns the failure of an input without the commands that it does not need, or `None` if the input does not fail.
pub fn shrink(data: &[u8]) -> Option<Box<Divergence>> {
    let (settings, mut requests) = decode(data);
    let mut smallest = lockstep(&settings, &requests).err()?;
    let mut index = 0;
    while index < requests.len() {
        let mut fewer = requests.clone();
        fewer.remove(index);
        match lockstep(&settings, &fewer) {
            // Start over: without this command, an earlier one may not be needed either.
            Err(divergence) => (smallest, requests, index) = (divergence, fewer, 0),
            Ok(_) => index += 1,
        }
    }
    Some(smallest)
}
