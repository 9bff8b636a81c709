//! Panics of clients and scenarios, which are caught with their place and are not printed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// A caught panic.
#[derive(Debug)]
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) place: String,
    pub(crate) payload: Box<dyn Any + Send>,
}

thread_local! {
    static IS_CAPTURED: Cell<bool> = const { Cell::new(false) };
    /// The place of the last panic that the hook has met.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs user code and catches its panic. While it runs, the panics of this thread are not printed.
pub(crate) fn capture<T>(code: impl FnOnce() -> T) -> Result<T, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if IS_CAPTURED.get() {
                LAST.set(info.location().map(|at| format!("{}:{}", at.file(), at.line())));
            } else {
                before(info);
            }
        }));
    });
    let was_captured = IS_CAPTURED.replace(true);
    let caught = catch_unwind(AssertUnwindSafe(code));
    IS_CAPTURED.set(was_captured);
    caught.map_err(|payload| {
        // A payload that was thrown again has the place of the last panic, and under a foreign hook none.
        let place = LAST.take().unwrap_or_default();
        Panic { message: message(&*payload), place, payload }
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(|message| (*message).to_owned());
    let message = literal.or_else(|| payload.downcast_ref::<String>().cloned());
    message.unwrap_or_else(|| "a panic without a message".to_owned())
}
