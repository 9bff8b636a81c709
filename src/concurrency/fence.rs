use std::sync::atomic::{AtomicI64, Ordering};

use crate::api::Revision;
use crate::{Error, Result};

/// What a protected resource asks of who comes with a fencing token: not to be older than one that it has seen.
///
/// A lock can be lost without its holder's knowing: its lease may have ended while it hung. Only the resource can refuse what
/// such a holder does too late.
///
/// If the store is loaded from an older save without a bump, its new tokens may equal lost ones, and the fence admits a lost
/// holder beside the new one. Load the save with
/// [`LoadOptions::bump_revision_above`](crate::LoadOptions::bump_revision_above) and the newest token that a fence has seen, or a
/// later revision if another client saw one.
///
/// ```
/// use leasehold::Error;
/// use leasehold::concurrency::Fence;
///
/// let fence = Fence::new();
/// fence.admit(12.into())?;
/// fence.admit(12.into())?;
/// fence.admit(15.into())?;
/// assert_eq!(fence.admit(12.into()), Err(Error::StaleToken { token: 12.into(), newest: 15.into() }));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Fence {
    newest: AtomicI64,
}

impl Fence {
    /// A fence that has seen no token.
    pub const fn new() -> Self {
        Self { newest: AtomicI64::new(0) }
    }

    /// Admits a token that is not older than the newest seen, which it then is.
    ///
    /// # Errors
    ///
    /// [`StaleToken`](Error::StaleToken).
    pub fn admit(&self, token: Revision) -> Result<()> {
        let newest = self.newest.fetch_max(token.get(), Ordering::AcqRel);
        if token.get() < newest {
            return Err(Error::StaleToken { token, newest: Revision::new(newest) });
        }
        Ok(())
    }
}
