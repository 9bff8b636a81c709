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

    /// Sets the clock; the default is a new [`SystemClock`].
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Some(Arc::new(clock)), ..self }
    }

    /// Sets the limits; the defaults are the limits of etcd's server.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets the cluster id in headers; the default is 1.
    pub fn cluster_id(mut self, id: u64) -> Self {
        self.config.cluster_id = id;
        self
    }

    /// Sets the member id in headers and alarms; the default is 1.
    pub fn member_id(mut self, id: u64) -> Self {
        self.config.member_id = id;
        self
    }

    /// Sets the automatic compaction; the default is none. With one, the store starts the timer thread of a
    /// [`SystemClock`] at once.
    pub fn auto_compaction(mut self, auto_compaction: AutoCompaction) -> Self {
        self.config.auto_compaction = Some(auto_compaction);
        self
    }

    /// Sets the interval of progress responses to watchers that requested them and have received nothing else (R-WCH-20).
    /// The default is 10 minutes, the minimum 100 ms.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.config.progress_interval = interval;
        self
    }

    /// Sets the [capacity](crate::Watch::capacity) of watches that set none. The default is
    /// [`Watch::DEFAULT_CAPACITY`](crate::Watch::DEFAULT_CAPACITY).
    ///
    /// A capacity of 1 brings a slow watcher to its limit at once, so a test can let a compaction overtake it:
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
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.load_options = options;
        self
    }

    /// Builds an empty store.
    pub fn build(self) -> Store {
        let (config, clock, _) = self.into_parts();
        let engine = Engine::new(config, clock.now());
        open(engine, clock)
    }

    /// Loads a store from a save that [`Store::save`] wrote. Reads to the end of the save and no further, in pieces of at
    /// most 64 KiB.
    ///
    /// The store continues from the saved state with this builder's clock and configuration. Automatic compaction takes new
    /// samples.
    ///
    /// Changes after the save are lost, and their revisions and fencing tokens are assigned again. If something outside the
    /// store may have seen one of them, load with [`LoadOptions::bump_revision`] or [`LoadOptions::bump_revision_above`].
    ///
    /// Every lease is restored as an ordinary lease with its remaining time, counted from the end of the load (R-LSE-12). A
    /// standing keep-alive ends, so the locks of a process that does not return are released when its lease expires. A
    /// process that returns keeps its lease with
    /// [`Session::open_with_lease`](crate::concurrency::Session::open_with_lease).
    /// [`LoadOptions::keep_standing`] restores standing keep-alives instead.
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
    /// [`LoadError`] if the input is not a complete and valid save in a known format, if the reader fails, or if a bump is
    /// out of range.
    pub fn load(self, mut from: impl Read) -> Result<Store, LoadError> {
        let (config, clock, options) = self.into_parts();
        let engine = read_snapshot(config, &mut from)?.start(&options, clock.now())?;
        Ok(open(engine, clock))
    }

    /// Returns the configuration, the clock and the options for loading.
    fn into_parts(self) -> (EngineConfig, Arc<dyn Clock>, LoadOptions) {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        (self.config, clock, self.load_options)
    }
}

/// Makes a store and attaches its clock.
fn open(engine: Engine, clock: Arc<dyn Clock>) -> Store {
    let shell = Shell::new(engine, {
        let clock = Arc::clone(&clock);
        move || clock.now()
    });
    let store = Store::from_shell(Arc::new(shell));
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
    /// An empty store at revision 1, with real time, etcd's limits, and no thread until something is to happen by the clock:
    /// a lease, a wait for a time, an automatic compaction.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Makes a store with a clock or limits of your choice.
    pub fn builder() -> StoreBuilder {
        StoreBuilder::new()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
