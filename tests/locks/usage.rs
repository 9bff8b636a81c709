//! The crate as its users use it: a service of theirs is tested with a manual clock.

use std::time::Duration;

use leasehold::concurrency::{Election, Mutex, Session};
use leasehold::{Client, Error, ManualClock, Result, Store, TxnOp};

const TTL: Duration = Duration::from_secs(5);

/// A user's service: several instances of it run, and the leader ticks.
struct Scheduler {
    session: Session,
    leadership: leasehold::Ticket<leasehold::concurrency::Leadership>,
    leads: Option<leasehold::concurrency::Leadership>,
}

impl Scheduler {
    fn start(client: impl Into<Client>, name: &'static str) -> Result<Self> {
        let session = Session::open(client, TTL).wait()?;
        let leadership = Election::new(&session, "scheduler").campaign(name);
        Ok(Self { session, leadership, leads: None })
    }

    /// Returns whether it leads and has written its tick.
    fn tick(&mut self) -> Result<bool> {
        if self.leads.is_none() {
            self.leads = self.leadership.try_wait()?;
        }
        let Some(leads) = &self.leads else {
            return Ok(false);
        };
        leads.txn().and_then([TxnOp::put("scheduler/ticked", leads.key())]).commit().wait()?;
        Ok(true)
    }
}

#[test]
fn second_scheduler_leads_when_first_hangs() -> Result<()> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let (mut first, mut second) = (Scheduler::start(&store, "a")?, Scheduler::start(&store, "b")?);
    assert_eq!((first.tick()?, second.tick()?), (true, false));

    first.session.pause().wait()?; // The process hangs, so its lease is not renewed.
    clock.advance(TTL); // No real time passes.

    assert_eq!(second.tick(), Ok(true));
    assert_eq!(first.tick(), Err(Error::NotLeader));
    Ok(())
}

/// A job that must run once, although two workers try it and one of them crashes.
#[test]
fn job_runs_once_with_crashed_worker() -> Result<()> {
    let clock = ManualClock::new();
    let store = Store::builder().clock(clock.clone()).build();
    let run = |session: &Session| -> Result<bool> {
        let mutex = Mutex::new(session, "job/lock");
        let Some(guard) = mutex.try_lock().wait()? else {
            return Ok(false);
        };
        let is_new = leasehold::Compare::version("job/done", leasehold::CompareOp::Equal, 0);
        let done = guard.txn().when([is_new]).and_then([TxnOp::put("job/done", "yes")]).commit().wait()?;
        Ok(done.succeeded())
    };
    let (one, two) = (Session::open(&store, TTL).wait()?, Session::open(&store, TTL).wait()?);
    let crashed = Mutex::new(&one, "job/lock").lock().wait()?;
    one.pause().wait()?; // The worker crashes while it holds the lock.
    std::mem::forget(crashed);
    assert!(!run(&two)?, "{}", Mutex::new(&two, "job/lock").queue().wait()?);
    clock.advance(TTL);
    assert!(run(&two)?);
    assert!(!run(&two)?, "the job is done once");
    Ok(())
}

/// Two runs with equal inputs, in which sessions hang, save equal bytes.
#[test]
fn equal_runs_save_equal_bytes() -> Result<()> {
    let run = || -> Result<Vec<u8>> {
        let clock = ManualClock::new();
        let store = Store::builder().clock(clock.clone()).build();
        let sessions: Vec<Session> =
            (0..3).map(|_| Session::open(&store, TTL).wait()).collect::<Result<_>>()?;
        for n in 0..30 {
            let session = &sessions[n * 7 % 3];
            drop(Mutex::new(session, format!("l{}", n % 2)).try_lock().wait()?);
            if n % 5 == 0 {
                drop(session.pause().wait());
            }
            clock.advance(Duration::from_millis(100));
        }
        let mut saved = Vec::new();
        store.save(&mut saved).expect("a vector accepts every write");
        Ok(saved)
    };
    assert_eq!(run()?, run()?);
    Ok(())
}
