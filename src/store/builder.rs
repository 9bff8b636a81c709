use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, SystemClock};
use super::handle::Store;
use super::shell::Shell;

use crate::api::{AutoCompaction, Limits};
use crate::engine::{Engine, EngineConfig};
use crate::snapshot::{LoadError, LoadOptions, read_snapshot};

/// Configures and builds a [`Store`], or loads one from a save.
///
/// ```
/// use leasehold::{AutoCompaction, Limits, ManualClock, Store};
/// use std::time::Duration;
///
/// let store = Store::builder()
///     .clock(ManualClock::new())
///     .limits(Limits { max_txn_ops: 1000, ..Limits::default() })
///     .auto_compaction(AutoCompaction::Periodic(Duration::from_secs(3600)))
///     .build();
/// # let _ = store;
/// ```
#[must_use]
pub struct StoreBuilder {
    clock: Option<Arc<dyn Clock>>,
    config: EngineConfig,
    load_options: LoadOptions,
}

impl StoreBuilder {
    pub(super) fn new() -> Self {
        Self { clock: None, config: EngineConfig::default(), load_options: LoadOptions::new() }
    }

    /// Sets the clock. The default is a new [`SystemClock`].
    ///
    /// ```
    /// use leasehold::{ManualClock, Store};
    /// use leasehold::clock::Timestamp;
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// clock.advance(Duration::from_secs(60)); // no thread has to sleep
    /// assert_eq!(store.now(), Timestamp::ORIGIN + Duration::from_secs(60));
    /// ```
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Some(Arc::new(clock)), ..self }
    }

    /// Sets the limits. The defaults are the limits of etcd's server, but without a quota of bytes.
    ///
    /// ```
    /// use leasehold::{Error, Limits, Store, Txn, TxnOp};
    ///
    /// let limits = Limits { max_txn_ops: 1, ..Limits::default() };
    /// let store = Store::builder().limits(limits).build();
    /// let two_puts = Txn::new().and_then([TxnOp::put("a", "1"), TxnOp::put("b", "2")]);
    /// assert_eq!(store.txn(two_puts), Err(Error::TooManyOps));
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets the cluster id in the headers of responses. The default is 1.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::builder().cluster_id(7).member_id(2).build();
    /// let response = store.get("config/mode")?;
    /// assert_eq!((response.header().cluster_id(), response.header().member_id()), (7, 2));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn cluster_id(mut self, id: u64) -> Self {
        self.config.cluster_id = id;
        self
    }

    /// Sets the member id in the headers of responses and in alarms. The default is 1.
    pub fn member_id(mut self, id: u64) -> Self {
        self.config.member_id = id;
        self
    }

    /// Sets the automatic compaction. By default, the store does not compact by itself.
    ///
    /// With [`AutoCompaction::Periodic`], the store starts the timer thread of a [`SystemClock`] at once, because the
    /// first compaction is a deadline.
    ///
    /// ```
    /// use leasehold::{AutoCompaction, ManualClock, Revision, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let keep_two = AutoCompaction::Revision(2);
    /// let store = Store::builder().clock(clock.clone()).auto_compaction(keep_two).build();
    /// for value in ["1", "2", "3", "4"] {
    ///     store.put(("counter", value))?;
    /// }
    /// clock.advance(Duration::from_secs(5 * 60)); // the interval of this mode
    /// assert_eq!(store.revision()?, Revision::new(5));
    /// assert_eq!(store.status()?.compact_revision(), Some(Revision::new(3)));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn auto_compaction(mut self, auto_compaction: AutoCompaction) -> Self {
        self.config.auto_compaction = Some(auto_compaction);
        self
    }

    /// Sets the interval of progress notifications to watchers that requested them and receive no events (R-WCH-20).
    /// The default is 10 minutes. The store raises an interval below 100 ms to 100 ms.
    ///
    /// ```
    /// use leasehold::{ManualClock, Store, Watch};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let second = Duration::from_secs(1);
    /// let store = Store::builder().clock(clock.clone()).progress_interval(second).build();
    /// let mut watcher = store.watch(Watch::key("config/mode").progress_notify())?;
    /// store.put(("jobs/1", "queued"))?; // no event of the watcher
    /// clock.advance(second);
    /// let progress = watcher.try_recv()?.expect("a notification is due");
    /// assert!(progress.is_progress_notify() && progress.header().revision() == store.revision()?);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.config.progress_interval = interval;
        self
    }

    /// Sets the [capacity](crate::Watch::capacity) of watches whose request sets no capacity. The default is
    /// [`Watch::DEFAULT_CAPACITY`](crate::Watch::DEFAULT_CAPACITY).
    ///
    /// With a capacity of 1, a watcher that does not receive is unsynced after two changes. A test can then compact the
    /// events that are not queued for the watcher:
    ///
    /// ```
    /// use leasehold::{Error, Store, Watch};
    ///
    /// let store = Store::builder().watch_capacity(1).build();
    /// let mut watcher = store.watch(Watch::key("mode"))?;
    /// for value in ["blue", "green", "red"] {
    ///     store.put(("mode", value))?;
    /// }
    /// store.compact(store.revision()?)?;
    /// assert_eq!(watcher.try_recv()?.expect("the first change is queued").events()[0].kv().value(), b"blue");
    /// assert!(matches!(watcher.try_recv(), Err(Error::Compacted { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn watch_capacity(mut self, responses: usize) -> Self {
        self.config.watch_capacity = responses;
        self
    }

    /// Sets the options for [`load`](Self::load). [`build`](Self::build) ignores them.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::snapshot::LoadOptions;
    ///
    /// let mut saved = Vec::new();
    /// Store::new().save(&mut saved)?;
    /// let options = LoadOptions::new().bump_revision(1000); // revisions after the save may have been seen
    /// let store = Store::builder().load_options(options).load(&saved[..])?;
    /// assert_eq!(store.revision()?.get(), 1001);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.load_options = options;
        self
    }

    /// Builds an empty store.
    ///
    /// ```
    /// use leasehold::Store;
    ///
    /// let store = Store::builder().build(); // as `Store::new()`
    /// assert_eq!((store.revision()?.get(), store.status()?.keys()), (1, 0));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn build(self) -> Store {
        let (config, clock, _) = self.into_parts();
        let engine = Engine::new(config, clock.now());
        open(engine, clock)
    }

    /// Loads a store from a save that [`Store::save`] wrote.
    ///
    /// The reader is read to the end of the save and no further, in pieces of at most 64 KiB.
    ///
    /// The store continues from the saved state with this builder's clock and configuration. A save has no samples of
    /// automatic compaction, so the first period of a periodic compaction begins with the load.
    ///
    /// Changes after the save are lost, and their revisions and fencing tokens are assigned again. If a client or
    /// another system may have seen one of these revisions or tokens, load with [`LoadOptions::bump_revision`] or
    /// [`LoadOptions::bump_revision_above`].
    ///
    /// By default, every lease is restored without a standing keep-alive. A restored lease expires after its
    /// remaining time, counted from the end of the load (R-LSE-12), so the locks of a process that does not restart are
    /// released then. A process that restarts keeps its lease with
    /// [`Session::open_with_lease`](crate::concurrency::Session::open_with_lease). [`LoadOptions::keep_standing`]
    /// restores standing keep-alives instead.
    ///
    /// ```
    /// use leasehold::{Grant, ManualClock, Store};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let store = Store::builder().clock(clock.clone()).build();
    /// let lease = store.grant(Grant::new(Duration::from_secs(10)))?.id();
    /// clock.advance(Duration::from_secs(4));
    /// let mut saved = Vec::new();
    /// store.save(&mut saved)?;
    ///
    /// let loaded = Store::builder().clock(ManualClock::new()).load(&saved[..])?;
    /// assert_eq!(loaded.time_to_live(lease, false)?.ttl(), Some(Duration::from_secs(6)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`LoadError::Io`] if the reader fails.
    /// - [`LoadError::BadMagic`], [`LoadError::Truncated`] or [`LoadError::Corrupt`] if the input is not a complete and
    ///   valid save.
    /// - [`LoadError::NewerVersion`] if the save has a format that only a newer version of this crate can read.
    /// - [`LoadError::BumpOutOfRange`] if the bump of [`LoadOptions`] is too large.
    pub fn load(self, mut from: impl Read) -> Result<Store, LoadError> {
        let (config, clock, options) = self.into_parts();
        // Read the clock after the whole input is read: a slow reader must not shorten the leases.
        let engine = read_snapshot(config, &mut from)?.start(&options, clock.now())?;
        Ok(open(engine, clock))
    }

    /// Returns the configuration, the clock and the options for loading.
    fn into_parts(self) -> (EngineConfig, Arc<dyn Clock>, LoadOptions) {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        (self.config, clock, self.load_options)
    }
}

/// Creates a store and attaches it to its clock.
fn open(engine: Engine, clock: Arc<dyn Clock>) -> Store {
    let shell = Shell::new(engine, {
        let clock = Arc::clone(&clock);
        move || clock.now()
    });
    let store = Store::from_shell(Arc::new(shell));
    // The clock gets a weak handle, so that the clock does not keep the store alive.
    // The timer needs a handle to the store, so the timer is set after the store is created.
    if let Some(timer) = clock.attach(store.downgrade()) {
        store.shell().set_timer_of_clock(move |deadline| timer.arm(deadline));
    }
    store
}

impl fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("StoreBuilder");
        debug.field("config", &self.config).field("load_options", &self.load_options).finish_non_exhaustive()
    }
}

impl Store {
    /// Creates an empty store at revision 1, with real time and the [default limits](Limits).
    ///
    /// The store starts a timer thread when it first has a deadline, or memory that a compaction left to reclaim. A
    /// deadline is the end of a lease or of a timed wait, an automatic compaction, or a progress notification.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder that configures the clock, limits and other options of a store.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::new()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
