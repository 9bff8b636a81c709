//! From an input that fails to the commands that matter.

use super::{decode, lockstep};
use leasehold_testkit::lockstep::Divergence;

/// The input's failure with every command left out that it does not need; none if the input does not fail.
pub fn shrink(data: &[u8]) -> Option<Box<Divergence>> {
    let (settings, mut requests) = decode(data);
    let mut smallest = lockstep(&settings, &requests).err()?;
    let mut index = 0;
    while index < requests.len() {
        let mut fewer = requests.clone();
        fewer.remove(index);
        match lockstep(&settings, &fewer) {
            Err(divergence) => (smallest, requests, index) = (divergence, fewer, 0),
            Ok(_) => index += 1,
        }
    }
    Some(smallest)
}
