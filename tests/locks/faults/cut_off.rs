//! A backend that is cut off from its store reports the end of a lease once, one TTL after its last renewal. Each wait of the
//! session's locks ends by then, although no watch delivers an event.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Slot, MutexGuard};

use leasehold::backend::{Backend, Delivery, Inbox, Layer, Request, Response, WatchRequest};
use leasehold::clock::Timestamp;
use leasehold::concurrency::{Election, Mutex, RwLock, Semaphore, Session};
use leasehold::service::{LockRequest, LockService};
use leasehold::{Call, Client, Error, LeaseId, Ticket};
use leasehold_testkit::helpers::{millis, put, secs};
use leasehold_testkit::wakers::{Count, poll_with};

use crate::scheduled_backend::{FaultRates, Stepped};

const DOWN: Error = Error::Unavailable { maybe_applied: false };
const AT_ONCE: FaultRates = FaultRates { at_once: 1, refused: 0, lost: 0, late: 0 };

/// A store behind a connection that can be cut. Only this layer answers requests for the end of a lease.
#[derive(Clone)]
struct Line(Arc<Shared>);

struct Shared {
    stepped: Stepped,
    is_cut: AtomicBool,
    /// The unanswered requests for the end of a lease.
    ends: Slot<Vec<(LeaseId, Arc<Inbox>)>>,
    /// The number of all such requests.
    requested_ends: AtomicUsize,
}

impl Line {
    fn new() -> Self {
        let stepped = Stepped::new(1);
        stepped.set_fault_rates(AT_ONCE);
        let (is_cut, ends, requested_ends) = Default::default();
        Self(Arc::new(Shared { stepped, is_cut, ends, requested_ends }))
    }

    fn client(&self) -> Client {
        Client::new(self.clone())
    }

    fn session(&self) -> Session {
        Session::open(self.client(), secs(5)).wait().expect("a lease is granted")
    }

    fn set_cut(&self, is_cut: bool) {
        self.0.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Reports the end of a lease to the inboxes that requested it. Later requests are not answered, since a backend forgets a
    /// lease that it has reported and learns nothing while it is cut off.
    fn report_end(&self, lease: LeaseId) {
        let requests = std::mem::take(&mut *self.ends());
        let (of_lease, others) = requests.into_iter().partition(|(id, _)| *id == lease);
        *self.ends() = others;
        let of_lease: Vec<(LeaseId, Arc<Inbox>)> = of_lease;
        for (_, inbox) in of_lease {
            inbox
                .push(Delivery::LeaseEnded(lease), Timestamp::ORIGIN)
                .into_iter()
                .for_each(|waker| waker.wake());
        }
    }

    fn ends(&self) -> MutexGuard<'_, Vec<(LeaseId, Arc<Inbox>)>> {
        self.0.ends.lock().expect("no test panics while it holds the list")
    }

    /// Ends the first watch of each inbox that has requested the end of a lease.
    fn end_watches(&self) {
        let inboxes = self.ends().clone();
        for (_, inbox) in inboxes {
            Backend::watch(&self.0.stepped, &[WatchRequest::Cancel(1.into())], &inbox);
        }
    }

    /// Cuts the connection until the session has expired.
    fn lose(&self, session: &Session) {
        self.set_cut(true);
        self.report_end(session.lease());
    }

    /// Returns the number of requests for the end of a lease.
    fn requested_ends(&self) -> usize {
        self.0.requested_ends.load(Ordering::SeqCst)
    }
}

impl Layer for Line {
    fn inner(&self) -> &dyn Backend {
        &self.0.stepped
    }

    fn call(&self, request: Request) -> Call<Response> {
        if self.0.is_cut.load(Ordering::SeqCst) {
            Call::from_result(Err(DOWN))
        } else {
            self.0.stepped.call(request)
        }
    }

    fn watch(&self, requests: &[WatchRequest], inbox: &Arc<Inbox>) {
        let mut passed = Vec::new();
        for request in requests {
            match request {
                WatchRequest::Lease(id) => {
                    self.ends().push((*id, Arc::clone(inbox)));
                    self.0.requested_ends.fetch_add(1, Ordering::SeqCst);
                }
                other => passed.push(other.clone()),
            }
        }
        Backend::watch(&self.0.stepped, &passed, inbox);
    }
}

/// Regression: only the session was notified, so the ticket of `lost` stayed pending.
#[test]
fn guard_of_a_session_that_is_cut_off_is_lost() {
    let line = Line::new();
    let one = line.session();
    let lock = Mutex::new(&one, "m").lock().wait().unwrap();
    let again = Mutex::reentrant(&one, "r").lock().wait().unwrap();
    let permit = Semaphore::new(&one, "s", 2).acquire().wait().unwrap();
    let reader = RwLock::new(&one, "w").read().wait().unwrap();
    let leader = Election::new(&one, "e").campaign("v").wait().unwrap();
    let mut lost = [lock.lost(), again.lost(), permit.lost(), reader.lost(), leader.lost()];
    line.set_cut(true);
    // The read of this `lost` fails, so it watches from the create revision of its key.
    let mut late = lock.lost();
    assert!(lost.iter_mut().chain([&mut late]).all(|lost| lost.try_wait() == Ok(None)));
    let woken = Count::default();
    assert!(poll_with(&mut lost[0], &woken.waker()).is_pending());
    line.lose(&one);
    assert_eq!(woken.get(), 1);
    assert!(lost.iter_mut().chain([&mut late]).all(|lost| lost.try_wait() == Ok(Some(()))));
    assert_eq!(lock.lost().try_wait(), Ok(Some(())), "a later ticket completes at once");
}

/// Regression: the ticket of `lost` failed with the error of its read.
#[test]
fn loss_whose_watch_ends_while_reads_fail_is_notified_later() {
    let line = Line::new();
    let one = line.session();
    let lock = Mutex::new(&one, "m").lock().wait().unwrap();
    let mut lost = lock.lost();
    line.set_cut(true);
    line.end_watches();
    let woken = Count::default();
    assert!(poll_with(&mut lost, &woken.waker()).is_pending());
    line.0.stepped.clock().advance(millis(100));
    assert_eq!((woken.get(), lost.try_wait()), (1, Ok(None)), "the read fails again");
    line.set_cut(false);
    line.0.stepped.store().delete(lock.key()).unwrap();
    assert_eq!(lost.try_wait(), Ok(Some(())));
}

/// Regression: a waiting ticket stayed pending for as long as its backend was cut off.
#[test]
fn ticket_of_a_session_that_is_cut_off_ends() {
    let line = Line::new();
    let (one, two) = (line.session(), line.session());
    let held = (Mutex::new(&one, "m").lock().wait(), Mutex::new(&one, "e").lock().wait());
    let mut lock = Mutex::new(&two, "m").lock();
    let mut again = Mutex::reentrant(&two, "m").lock();
    let mut shared = Mutex::reentrant(&two, "m").lock();
    let mut candidacy = Election::new(&two, "e").campaign("v");
    assert!(lock.try_wait().unwrap().is_none() && again.try_wait().unwrap().is_none());
    assert!(shared.try_wait().unwrap().is_none() && candidacy.try_wait().unwrap().is_none());
    line.lose(&two);
    for ticket in [&mut lock, &mut again, &mut shared] {
        assert_eq!(ticket.try_wait().map(drop), Err(Error::SessionExpired));
    }
    assert_eq!(candidacy.try_wait().map(drop), Err(Error::NotLeader));
    assert_eq!(two.lost().try_wait(), Ok(Some(())));
    assert_eq!(one.lost().try_wait(), Ok(None));
    drop(held);
}

/// The end of the lease is reported before the ticket polls the answer to its put.
#[test]
fn ticket_whose_put_is_answered_before_the_cut_ends() {
    let line = Line::new();
    let one = line.session();
    let _held = Mutex::new(&one, "m").lock().wait().unwrap();
    line.0.stepped.set_fault_rates(FaultRates::default());
    let mut waiting = Mutex::new(&one, "m").lock();
    line.0.stepped.settle();
    let mut lost = one.lost();
    line.lose(&one);
    assert_eq!(lost.try_wait(), Ok(Some(())));
    assert_eq!(waiting.try_wait().map(drop), Err(Error::SessionExpired));
}

/// Regression: a second ticket stayed pending, since a backend that has reported the end of a lease forgets the lease.
#[test]
fn loss_of_a_session_is_repeated_to_later_tickets() {
    let line = Line::new();
    let one = line.session();
    let mut first = one.lost();
    line.lose(&one);
    assert_eq!(one.lost().try_wait(), Ok(None), "no ticket has received the end of the lease");
    assert_eq!(first.try_wait(), Ok(Some(())));
    assert_eq!([one.lost().try_wait(), one.with_name("x").lost().try_wait()], [Ok(Some(())), Ok(Some(()))]);
    // The connection is back before the lease has ended at the store.
    line.set_cut(false);
    one.resume().wait().unwrap();
    let mut later = one.lost();
    assert_eq!(later.try_wait(), Ok(None));
    line.report_end(one.lease());
    assert_eq!(later.try_wait(), Ok(Some(())));
}

/// The end of the lease is received while a read is pending. A pending read discards watch events, but not this end.
#[test]
fn end_of_a_session_during_a_read_is_not_missed() {
    let line = Line::new();
    let one = line.session();
    let held = Mutex::new(&one, "m").lock().wait().unwrap();
    let mut waiting = Mutex::new(&one, "m").lock();
    assert!(waiting.try_wait().unwrap().is_none());
    line.0.stepped.set_fault_rates(FaultRates::default());
    let mut lost = held.lost();
    assert_eq!(lost.try_wait(), Ok(None));
    held.unlock().wait().unwrap();
    assert!(waiting.try_wait().unwrap().is_none(), "the ticket reads its place in the queue");
    line.report_end(one.lease());
    assert_eq!(lost.try_wait(), Ok(Some(())));
    assert_eq!(waiting.try_wait().map(drop), Err(Error::SessionExpired));
}

/// A resumed leadership has the lease of an earlier session until it proclaims.
#[test]
fn resumed_leadership_is_lost_with_its_own_lease() {
    for proclaims in [false, true] {
        let line = Line::new();
        let (before, one) = (line.session(), line.session());
        let leader = Election::new(&before, "e").campaign("v").wait().unwrap();
        let (key, token) = (leader.key().to_vec(), leader.token());
        std::mem::forget(leader);
        let leader = Election::new(&one, "e").resume(key, token).wait().unwrap();
        if proclaims {
            leader.proclaim("w").wait().unwrap();
        }
        let mut lost = leader.lost();
        line.lose(&one);
        assert_eq!(lost.try_wait(), Ok(proclaims.then_some(())));
    }
}

/// A free lock makes no request for the end of its lease, and a wait makes one, however often it watches again.
#[test]
fn waits_request_the_end_of_their_lease_once() {
    let line = Line::new();
    let (one, two) = (line.session(), line.session());
    let held = Mutex::new(&one, "m").lock().wait().unwrap();
    let mut before: Vec<Ticket<_>> = (0..3).map(|_| Mutex::new(&one, "m").lock()).collect();
    assert_eq!(line.requested_ends(), 3);
    let mut waiting = Mutex::new(&two, "m").lock();
    let mut served =
        LockService::new(line.client()).lock(LockRequest { name: "m".into(), lease: two.lease() });
    assert_eq!(line.requested_ends(), 4, "a wait of the service ignores its lease (R-LCK-7)");
    while before.pop().is_some() {
        line.0.stepped.settle();
        assert!(waiting.try_wait().unwrap().is_none(), "the ticket watches the next predecessor");
    }
    held.unlock().wait().unwrap();
    waiting.try_wait().unwrap().expect("the ticket has no predecessor").unlock().wait().unwrap();
    assert!(served.try_wait().unwrap().is_some());
    drop(Mutex::new(&two, "free").lock().wait().unwrap());
    drop(Mutex::new(&two, "free").try_lock().wait().unwrap());
    assert_eq!(line.requested_ends(), 4);
}

/// The cleanup after an ambiguous failure waits for the put by a watch of its own.
#[test]
fn late_put_is_deleted_although_its_watch_was_ended_and_compacted() {
    for is_compacted in [false, true] {
        let line = Line::new();
        let (one, stepped) = (line.session(), &line.0.stepped);
        stepped.set_fault_rates(FaultRates { late: 1, ..AT_ONCE });
        let lost = Mutex::new(&one, "m").lock().wait().map(drop);
        assert_eq!(lost, Err(Error::Unavailable { maybe_applied: true }));
        stepped.set_fault_rates(AT_ONCE);
        stepped.run_tasks();
        line.end_watches();
        stepped.run_tasks();
        if is_compacted {
            put(stepped.store(), "a", "1");
            let newest = put(stepped.store(), "a", "2");
            stepped.store().compact(newest).unwrap();
        }
        assert!(stepped.step(), "the put is executed");
        stepped.run_tasks();
        assert_eq!(stepped.store().get("m/1-0").unwrap().count(), 1, "no watch deletes the late key yet");
        line.set_cut(is_compacted);
        for _ in 0..5 {
            stepped.clock().advance(millis(100));
            stepped.run_tasks();
            line.set_cut(false);
        }
        assert_eq!(stepped.store().get("m/1-0").unwrap().count(), 0);
    }
}
