//! etcd's lock and election services, message for message, with what etcd was observed to do where that is odd (R-0-5).

mod campaign;
mod common;
mod election;
mod lock;
mod messages;
mod observe;

pub use election::ElectionService;
pub use lock::LockService;
pub use messages::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, LockRequest, LockResponse,
    ObserveRequest, ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse, UnlockRequest,
    UnlockResponse,
};
pub use observe::Observer;
