//! The handle of a client to its simulation.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use leasehold::{Client, LeaseId};

use crate::draw::{Purpose, scale};
use crate::history::{Hold, Line};
use crate::world::Shared;

/// A client's handle to its simulation: a [`Client`] of the store, with random numbers and marks for the story.
///
/// Each life of a process has its own handle. The handle of a crashed process does nothing: what a destructor does with it
/// reaches no store.
#[derive(Clone)]
pub struct Me {
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: Client,
    pub(crate) process: usize,
    pub(crate) index: usize,
    pub(crate) life: u32,
    pub(crate) label: Arc<str>,
}

impl Me {
    /// Returns the label of the client: the name of its process, with a number if the process has several clients.
    pub fn name(&self) -> &str {
        &self.label
    }

    /// Returns the number of times that the process has crashed.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Returns a random number below `end`. It is drawn from the seed, the client and the number of the client's earlier draws.
    pub fn random(&self, end: u64) -> u64 {
        self.shared.with(|world| {
            let client = &mut world.clients[self.index];
            client.draws += 1;
            let nth = client.draws;
            scale(world.draws.number(self.index as u64, Purpose::User, nth), end)
        })
    }

    /// Adds a line to the story.
    pub fn note(&self, text: impl Into<String>) {
        let (client, text) = (Arc::clone(&self.label), text.into().into_boxed_str());
        self.shared.with(|world| world.line(Line::Note { client, text }));
    }

    /// Marks that the client acts as the owner of a resource, by a lease, until the mark is dropped.
    ///
    /// The run fails if two clients act as the owner of a resource at one time while the leases of both exist. An owner that
    /// was paused may act after its lease has ended. No lock prevents that: the write itself must be guarded, and a check of
    /// the outcome finds one that is not.
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold_sim::Simulation;
    /// use std::time::Duration;
    ///
    /// let mut sim = Simulation::new(1);
    /// for name in ["a", "b"] {
    ///     sim.spawn(name, |me| async move {
    ///         let session = Session::open(&*me, Duration::from_secs(5)).await?;
    ///         let guard = Mutex::new(&session, "disk").lock().await?;
    ///         let mark = me.acts_as_owner("disk", session.lease());
    ///         me.sleep(Duration::from_secs(1)).await?;
    ///         drop(mark);
    ///         guard.unlock().await
    ///     });
    /// }
    /// sim.run().unwrap();
    /// ```
    #[must_use = "dropping the mark ends it"]
    pub fn acts_as_owner(&self, resource: &str, lease: LeaseId) -> OwnerMark {
        let (client, resource) = (Arc::clone(&self.label), resource.into());
        let record = self.shared.with(|world| {
            let hold = Hold { client, resource, lease, from: world.now, to: None };
            world.begin_hold(hold, self.process, self.life)
        });
        OwnerMark { shared: Arc::clone(&self.shared), record }
    }
}

/// The client of the store.
impl Deref for Me {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Clones the client of the store, so that functions accept `impl Into<Client>`.
impl From<&Me> for Client {
    fn from(me: &Me) -> Self {
        me.client.clone()
    }
}

impl fmt::Debug for Me {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Me").field("name", &self.label).field("life", &self.life).finish_non_exhaustive()
    }
}

/// The time in which a client acts as an owner: see [`Me::acts_as_owner`].
pub struct OwnerMark {
    shared: Arc<Shared>,
    record: usize,
}

impl Drop for OwnerMark {
    fn drop(&mut self) {
        self.shared.with(|world| world.end_hold(self.record));
    }
}

impl fmt::Debug for OwnerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerMark").finish_non_exhaustive()
    }
}
