//! Backends in front of a store that do something of their own, and pass the rest on.

/// The methods of a [`Backend`](leasehold::Backend) that are passed on as they are: `passes_on!(self, self.store; watch timer)`.
macro_rules! passes_on {
    ($this:ident, $to:expr; $($method:ident)*) => {
        $(crate::passing::passes_on!(@ $method $this, $to);)*
    };
    (@ call $this:ident, $to:expr) => {
        fn call(&$this, request: leasehold::Request) -> leasehold::Call<leasehold::Response> {
            leasehold::Backend::call(&$to, request)
        }
    };
    (@ watch $this:ident, $to:expr) => {
        fn watch(&$this, requests: &[leasehold::WatchRequest], inbox: &std::sync::Arc<leasehold::Inbox>) {
            leasehold::Backend::watch(&$to, requests, inbox);
        }
    };
    (@ timer $this:ident, $to:expr) => {
        fn timer(&$this, at: Option<leasehold::Timestamp>, inbox: &std::sync::Arc<leasehold::Inbox>) {
            leasehold::Backend::timer(&$to, at, inbox);
        }
    };
    (@ renew $this:ident, $to:expr) => {
        fn renew(&$this, lease: leasehold::LeaseId, is_on: bool) {
            leasehold::Backend::renew(&$to, lease, is_on);
        }
    };
    (@ pull $this:ident, $to:expr) => {
        fn pull(&$this, inbox: &leasehold::Inbox) {
            leasehold::Backend::pull(&$to, inbox);
        }
    };
    (@ cancel $this:ident, $to:expr) => {
        fn cancel(&$this, inbox: &leasehold::Inbox) {
            leasehold::Backend::cancel(&$to, inbox);
        }
    };
    (@ lag $this:ident, $to:expr) => {
        fn lag(&$this, inbox: &leasehold::Inbox, id: leasehold::WatchId) -> Option<leasehold::Lag> {
            leasehold::Backend::lag(&$to, inbox, id)
        }
    };
    (@ now $this:ident, $to:expr) => {
        fn now(&$this) -> leasehold::Timestamp {
            leasehold::Backend::now(&$to)
        }
    };
    (@ detach $this:ident, $to:expr) => {
        fn detach(&$this, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
            leasehold::Backend::detach(&$to, task);
        }
    };
    (@ drive $this:ident, $to:expr) => {
        fn drive(&$this, poll: &mut dyn FnMut(&mut std::task::Context<'_>) -> std::task::Poll<()>) {
            leasehold::Backend::drive(&$to, poll);
        }
    };
}

pub(crate) use passes_on;
