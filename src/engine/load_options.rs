/// Options for loading a save: [`StoreBuilder::load_options`](crate::StoreBuilder::load_options) and
/// [`Engine::load`](crate::Engine::load) take them.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LoadOptions {
    pub(super) keep_standing: bool,
}

impl LoadOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores standing keep-alives, so the loaded store continues exactly as the saved one would.
    ///
    /// By default, a lease with a standing keep-alive becomes an ordinary lease with its remaining time, because its
    /// owner may be gone. A process that returns keeps the lease with
    /// [`Session::open_with_lease`](crate::concurrency::Session::open_with_lease).
    ///
    /// A restored keep-alive has no owner and never ends by itself. Use this option only where every owner of such a
    /// lease continues too, as in a simulation.
    pub fn keep_standing(mut self) -> Self {
        self.keep_standing = true;
        self
    }
}
