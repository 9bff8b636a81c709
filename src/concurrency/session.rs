use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Result;
use crate::api::{Grant, LeaseId};
use crate::client::Client;
use crate::sync::Mutex;

/// A lease that is kept alive for as long as the session is there: what locks go with.
///
/// Handles are cheap to clone. When the last is dropped, and with it the guards and tickets of the session's locks, the lease
/// is revoked, and whatever was attached to it is gone.
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::Session;
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10))?;
/// assert!(session.is_alive()?);
/// session.close()?;
/// assert!(!session.is_alive()?);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    lease: LeaseId,
    ttl: Duration,
    holds: Mutex<Holds>,
    /// Whether the lease is none of this session's business any more.
    is_over: AtomicBool,
}

/// The numbers of holds. One that is over gives its number back, so that a lock that is taken again and again needs but one key,
/// of which history keeps versions, and not a new key each time.
#[derive(Default)]
struct Holds {
    numbered: u64,
    free: BTreeSet<u64>,
}

impl Session {
    /// Opens a session whose lease lives `ttl` beyond the last renewal: granted and kept alive by one request, and without
    /// any work from then on. A TTL below the store's minimum is raised to it: see [`ttl`](Self::ttl).
    ///
    /// # Errors
    ///
    /// Those of [`Engine::grant`](crate::Engine::grant).
    pub fn open(client: impl Into<Client>, ttl: Duration) -> Result<Self> {
        let client = client.into();
        let granted = client.grant(Grant::new(ttl).standing()).wait()?;
        let shared = Shared {
            client,
            lease: granted.id(),
            ttl: granted.ttl(),
            holds: Mutex::new(Holds::default()),
            is_over: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The lease.
    pub fn lease(&self) -> LeaseId {
        self.shared.lease
    }

    /// The TTL in force, after raising it to the minimum.
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// Whether the lease still lives.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.client().time_to_live(self.shared.lease, false).wait()?.ttl().is_some())
    }

    /// Stops renewing, as when this process hangs or is cut off: the lease ends one TTL after its last renewal.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::Error::LeaseNotFound) if it has ended.
    pub fn pause(&self) -> Result<()> {
        self.client().pause_keep_alive(self.shared.lease).wait()
    }

    /// Renews again, from now on.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::Error::LeaseNotFound) if the lease has ended meanwhile.
    pub fn resume(&self) -> Result<()> {
        self.client().resume_keep_alive(self.shared.lease).wait()
    }

    /// Leaves the lease and its keys to themselves: they live on until one TTL after the last renewal (R-SES-3).
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::Error::LeaseNotFound) if it has ended.
    pub fn orphan(&self) -> Result<()> {
        self.shared.is_over.store(true, Ordering::Release);
        self.pause()
    }

    /// Ends the lease, and deletes its keys: every lock of the session is given up (R-SES-3).
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::Error::LeaseNotFound) if it has ended already.
    pub fn close(&self) -> Result<()> {
        self.client().revoke(self.shared.lease).wait()?;
        self.shared.is_over.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The number of a new hold: the lowest that is free.
    pub(super) fn next_hold(&self) -> u64 {
        let mut holds = self.shared.holds.lock();
        if let Some(free) = holds.free.pop_first() {
            return free;
        }
        holds.numbered += 1;
        holds.numbered - 1
    }

    /// Gives back the number of a hold whose key it has deleted itself.
    pub(super) fn end_hold(&self, number: u64) {
        self.shared.holds.lock().free.insert(number);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_over.load(Ordering::Acquire) {
            let (client, lease) = (self.client.clone(), self.lease);
            // That it has ended already is what was wanted.
            self.client.detach(async move { drop(client.revoke(lease).await) });
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("lease", &self.lease())
            .field("ttl", &self.ttl())
            .finish_non_exhaustive()
    }
}
