//! Put and DeleteRange (sections 3 and 4), and the checks of every mutating request (R-TXN-1).

use super::super::wire::{AlarmKind, DeleteRangeRequest, DeleteRangeResponse, Kv, PutRequest, PutResponse};
use super::{Model, Refusal, Row, Stage, State, proto};

/// R-MNT-9.
pub(super) fn put_cost(request: &PutRequest) -> u64 {
    256 + request.key.len() as u64 + request.value.len() as u64
}

/// R-PUT-1.
pub(super) fn check_static_put(request: &PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Stage::Static.refuses(Row::EmptyKey));
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Stage::Static.refuses(Row::ValueProvided));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Stage::Static.refuses(Row::LeaseProvided));
    }
    Ok(())
}

/// R-DEL-1.
pub(super) fn check_static_delete(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() { Err(Stage::Static.refuses(Row::EmptyKey)) } else { Ok(()) }
}

impl Model {
    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        let cost = put_cost(request);
        self.check_quota(cost)?;
        check_static_put(request)?;
        self.check_size(proto::put(request).len())?;
        self.check_corrupt()?;
        self.check_no_space(cost)?;
        self.state.check_put(request)?;
        let response = self.state.execute_put(request)?;
        self.state.commit();
        Ok(response)
    }

    pub(super) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Refusal> {
        check_static_delete(request)?;
        self.check_size(proto::delete_range(request).len())?;
        self.check_corrupt()?;
        let response = self.state.execute_delete(request);
        self.state.commit();
        Ok(response)
    }

    /// R-MNT-9: the quota is checked before anything else.
    pub(super) fn check_quota(&self, cost: u64) -> Result<(), Refusal> {
        match self.settings.quota_bytes {
            Some(quota) if cost > 0 && self.state.bytes_for_quota() + cost >= quota => {
                Err(Stage::Quota.refuses(Row::NoSpace))
            }
            _ => Ok(()),
        }
    }

    /// Section 15: only the encoded request counts.
    pub(super) fn check_size(&self, encoded: usize) -> Result<(), Refusal> {
        if encoded > self.settings.max_request_bytes {
            return Err(Stage::Size.refuses(Row::RequestTooLarge));
        }
        Ok(())
    }

    /// R-MNT-8.
    pub(super) fn check_corrupt(&self) -> Result<(), Refusal> {
        if self.state.alarms.iter().any(|alarm| alarm.1 == AlarmKind::Corrupt) {
            return Err(Stage::Alarm.refuses(Row::Corrupt));
        }
        Ok(())
    }

    /// R-MNT-8.
    pub(super) fn check_no_space(&self, cost: u64) -> Result<(), Refusal> {
        if cost > 0 && self.state.alarms.iter().any(|alarm| alarm.1 == AlarmKind::NoSpace) {
            return Err(Stage::Alarm.refuses(Row::NoSpace));
        }
        Ok(())
    }
}

impl State {
    /// R-PUT-2.
    pub(super) fn check_put(&self, request: &PutRequest) -> Result<(), Refusal> {
        if request.lease != 0 && self.leases.iter().all(|lease| lease.id != request.lease) {
            return Err(Stage::Dynamic.refuses(Row::LeaseNotFound));
        }
        if (request.ignore_value || request.ignore_lease) && self.get(&request.key).is_none() {
            return Err(Stage::Dynamic.refuses(Row::KeyNotFound));
        }
        Ok(())
    }

    /// R-REV-4, R-REV-5, R-PUT-3 to R-PUT-5. If an earlier operation has deleted the key, R-TXN-5 applies.
    pub(super) fn execute_put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        let revision = self.current + 1;
        let previous = self.get(&request.key).cloned();
        let mut kv = Kv {
            key: request.key.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        match &previous {
            Some(previous) => {
                kv.create_revision = previous.create_revision;
                kv.version = previous.version + 1;
                if request.ignore_value {
                    kv.value = previous.value.clone();
                }
                if request.ignore_lease {
                    kv.lease = previous.lease;
                }
            }
            None if request.ignore_value || request.ignore_lease => {
                return Err(Stage::Execution.refuses(Row::KeyNotFound));
            }
            None => {}
        }
        self.record(&request.key, Some(kv));
        let prev_kv = if request.prev_kv { previous } else { None };
        Ok(PutResponse { revision: self.header(), prev_kv })
    }

    /// R-DEL-2, R-DEL-3.
    pub(super) fn execute_delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found: Vec<Kv> =
            self.within(&request.key, &request.range_end, i64::MAX).into_iter().cloned().collect();
        for kv in &found {
            self.record(&kv.key, None);
        }
        let deleted = found.len() as i64;
        let prev_kvs = if request.prev_kv { found } else { Vec::new() };
        DeleteRangeResponse { revision: self.header(), deleted, prev_kvs }
    }
}
