//! Leases and time (section 8).

use super::super::wire::Response;
use super::{End, Lease, Model, Refusal, Row, Stage, State};

const SECOND: u128 = 1_000_000_000;

impl Lease {
    fn ttl_nanos(&self) -> u128 {
        self.ttl.max(0) as u128 * SECOND
    }

    /// Returns the instant at which the lease expires without further renewals.
    ///
    /// A lease with automatic keep-alive was last renewed a whole number of intervals after its anchor.
    fn deadline(&self, now: u128) -> u128 {
        match self.end {
            End::Deadline(deadline) => deadline,
            End::Standing { anchor } => {
                let interval = (self.ttl_nanos() / 3).max(1);
                let renewals = (now - anchor) / interval;
                anchor + renewals * interval + self.ttl_nanos()
            }
        }
    }

    fn renew(&mut self, now: u128) {
        self.end = match self.end {
            End::Deadline(_) => End::Deadline(now + self.ttl_nanos()),
            End::Standing { .. } => End::Standing { anchor: now },
        };
    }
}

impl Model {
    /// R-LSE-2, R-LSE-3, R-MNT-8, R-MNT-9. For id 0, the next free number of a counter is used.
    pub(super) fn lease_grant(&mut self, ttl: i64, id: i64, standing: bool) -> Result<Response, Refusal> {
        const COST: u64 = 64;
        self.check_quota(COST)?;
        self.check_corrupt()?;
        self.check_no_space(COST)?;
        if ttl > self.settings.max_ttl {
            return Err(Stage::Dynamic.refuses(Row::TtlTooLarge));
        }
        let state = &mut self.state;
        let mut id = id;
        if id == 0 {
            while state.lease(state.next_lease).is_some() {
                state.next_lease += 1;
            }
            id = state.next_lease;
            state.next_lease += 1;
        }
        if state.lease(id).is_some() {
            return Err(Stage::Dynamic.refuses(Row::LeaseExists));
        }
        let ttl = ttl.max(self.settings.min_ttl);
        let mut lease = Lease { id, ttl, sequence: state.grants, end: End::Deadline(0) };
        if standing {
            lease.end = End::Standing { anchor: 0 };
        }
        lease.renew(state.now);
        state.leases.push(lease);
        state.grants += 1;
        Ok(Response::LeaseGrant { revision: state.current, id, ttl })
    }

    /// R-LSE-5.
    pub(super) fn lease_revoke(&mut self, id: i64) -> Result<Response, Refusal> {
        self.check_corrupt()?;
        self.state.find_lease(id)?;
        self.state.end_lease(id);
        Ok(Response::LeaseRevoke { revision: self.state.current })
    }

    /// Ends a lease as its deadline does. Alarms do not prevent it.
    pub(super) fn lease_expire(&mut self, id: i64) -> Result<Response, Refusal> {
        self.state.find_lease(id)?;
        self.state.end_lease(id);
        Ok(Response::LeaseExpire { revision: self.state.current })
    }

    /// R-LSE-7.
    pub(super) fn lease_keep_alive(&mut self, id: i64) -> Response {
        let (revision, now) = (self.state.current, self.state.now);
        match self.state.find_lease(id) {
            Ok(lease) => {
                lease.renew(now);
                Response::LeaseKeepAlive { revision, id, ttl: lease.ttl }
            }
            Err(_) => Response::LeaseKeepAlive { revision, id, ttl: 0 },
        }
    }

    /// Pauses the automatic keep-alive. The deadline is one TTL after the last automatic renewal.
    pub(super) fn lease_pause(&mut self, id: i64) -> Result<Response, Refusal> {
        let now = self.state.now;
        let lease = self.state.find_lease(id)?;
        lease.end = End::Deadline(lease.deadline(now));
        Ok(Response::LeasePauseKeepAlive)
    }

    pub(super) fn lease_resume(&mut self, id: i64) -> Result<Response, Refusal> {
        let now = self.state.now;
        let lease = self.state.find_lease(id)?;
        if let End::Deadline(_) = lease.end {
            lease.end = End::Standing { anchor: now };
        }
        Ok(Response::LeaseResumeKeepAlive)
    }

    /// R-LSE-10.
    pub(super) fn lease_time_to_live(&self, id: i64, keys: bool) -> Response {
        let state = &self.state;
        let revision = state.current;
        let Some(lease) = state.lease(id) else {
            return Response::LeaseTimeToLive { revision, id, ttl: -1, granted_ttl: 0, keys: Vec::new() };
        };
        let ttl = ((lease.deadline(state.now) - state.now) / SECOND) as i64;
        let keys = if keys { state.attached(id) } else { Vec::new() };
        Response::LeaseTimeToLive { revision, id, ttl, granted_ttl: lease.ttl, keys }
    }

    /// R-LSE-11.
    pub(super) fn lease_leases(&self) -> Response {
        let state = &self.state;
        let mut leases: Vec<&Lease> = state.leases.iter().collect();
        leases.sort_by_key(|lease| (lease.deadline(state.now), lease.sequence));
        Response::LeaseLeases {
            revision: state.current,
            ids: leases.into_iter().map(|lease| lease.id).collect(),
        }
    }

    /// R-LSE-6, R-LSE-9: due leases end before the new time is visible, in (deadline, id) order.
    ///
    /// Ticks of watch streams come in between, and after the leases of one instant.
    pub(super) fn advance(&mut self, nanos: u64) -> Response {
        let end = self.state.now + u128::from(nanos);
        let is_due = |instant: &u128| *instant <= end;
        loop {
            let lease = self.state.next_deadline().filter(|(deadline, _)| is_due(deadline));
            let tick = self.next_tick().filter(is_due);
            match (lease, tick) {
                // At one instant, leases end before the tick.
                (Some((deadline, id)), tick) if tick.is_none_or(|tick| deadline <= tick) => {
                    self.state.now = deadline;
                    self.state.end_lease(id);
                    self.publish();
                }
                (_, Some(tick)) => {
                    self.state.now = tick;
                    self.tick();
                }
                _ => break,
            }
        }
        self.state.now = end;
        Response::Advance
    }
}

impl State {
    fn lease(&self, id: i64) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.id == id)
    }

    fn find_lease(&mut self, id: i64) -> Result<&mut Lease, Refusal> {
        let found = self.leases.iter_mut().find(|lease| lease.id == id);
        found.ok_or_else(|| Stage::Dynamic.refuses(Row::LeaseNotFound))
    }

    /// Returns the keys of a lease: a key belongs to the lease that its live pair names (R-LSE-4, R-PUT-5).
    fn attached(&self, id: i64) -> Vec<Vec<u8>> {
        self.latest().into_values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect()
    }

    /// Returns the next deadline of a lease without automatic keep-alive, and its id.
    fn next_deadline(&self) -> Option<(u128, i64)> {
        let deadlines = self.leases.iter().filter_map(|lease| match lease.end {
            End::Deadline(deadline) => Some((deadline, lease.id)),
            End::Standing { .. } => None,
        });
        deadlines.min()
    }

    /// R-LSE-5: deletes the lease and its keys, in ascending order at one revision.
    fn end_lease(&mut self, id: i64) {
        for key in self.attached(id) {
            self.record(&key, None);
        }
        self.commit();
        self.leases.retain(|lease| lease.id != id);
    }
}
