//! Giving a key up.

use bytes::Bytes;

use super::retry::INTERVAL;
use super::session::Session;
use super::shares::Needless;
use crate::api::{Compare, CompareOp, GetResponse, Revision, Txn, TxnOp, TxnOpResponse};
use crate::{Error, Result};

/// Which key is to be deleted.
#[derive(Clone, Copy)]
pub(super) enum Is {
    /// The one of this create revision.
    Created(Revision),
    /// The one of these create and mod revisions.
    Untouched(Needless),
    /// Whichever is there on the session's lease and not needed.
    Unknown,
}

/// A key that is to be deleted.
pub(super) struct Release {
    pub(super) session: Session,
    pub(super) key: Bytes,
    pub(super) is: Is,
    /// Its number, if it is a hold's own.
    pub(super) number: Option<u64>,
}

impl Release {
    /// Deletes the key, and tries again while the store cannot be reached, until the session ends. Trying again is safe, since
    /// the create revision is compared.
    pub(super) async fn persist(self) {
        while let Err(Error::Unavailable { .. }) = self.run().await {
            let client = self.session.client();
            if self.session.is_ending() || client.sleep(INTERVAL).await.is_err() {
                return;
            }
        }
    }

    /// Deletes the key if its create revision is unchanged. Succeeds if the key is gone.
    pub(super) async fn run(&self) -> Result<()> {
        let client = self.session.client();
        let mut untouched = match self.is {
            Is::Created(created) => {
                let done = client.txn(delete_created(&self.key, created)).await?;
                if let Some(number) = self.number.filter(|_| done.succeeded()) {
                    self.session.end_hold(number);
                }
                return Ok(());
            }
            Is::Untouched(untouched) => Some(untouched),
            Is::Unknown => self.needless(&client.get(self.key.clone()).await?, None),
        };
        while let Some((created, modified)) = untouched {
            let is_untouched = Compare::mod_revision(self.key.clone(), CompareOp::Equal, modified);
            let delete = delete_created(&self.key, created).when([is_untouched]);
            let done = client.txn(delete.or_else([TxnOp::get(self.key.clone())])).await?;
            untouched = match done.responses() {
                // Somebody has written to it.
                [TxnOpResponse::Get(found)] => self.needless(found, Some(created)),
                _ => None,
            };
        }
        Ok(())
    }

    /// The key that was found, if it is the session's, and of that create revision, and not needed.
    fn needless(&self, found: &GetResponse, created: Option<Revision>) -> Option<Needless> {
        let kv = found.kvs().first()?;
        let is_meant = match created {
            Some(created) => kv.create_revision() == created,
            None => kv.lease() == self.session.lease(),
        };
        let found = (kv.create_revision(), kv.mod_revision());
        (is_meant && !self.session.shares().is_needed(&self.key, found)).then_some(found)
    }
}

/// Deletes a key if it is still the one of that create revision.
pub(super) fn delete_created(key: &Bytes, created: Revision) -> Txn {
    Txn::new().when([is_created(key, created)]).and_then([TxnOp::delete(key.clone())])
}

pub(super) fn is_created(key: &Bytes, at: Revision) -> Compare {
    Compare::create_revision(key.clone(), CompareOp::Equal, at)
}
