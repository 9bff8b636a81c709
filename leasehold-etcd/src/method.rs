//! `Method`: the methods of etcd's gRPC API.

/// Declares the methods and their paths.
macro_rules! methods {
    ($($method:ident $path:literal,)*) => {
        /// A method of etcd's gRPC API, which a [`Fault`](crate::faults::Fault) names.
        ///
        /// ```
        /// use leasehold_etcd::Method;
        ///
        /// assert_eq!(Method::Put.path(), "/etcdserverpb.KV/Put");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Method {
            $(#[doc = concat!("The method `", $path, "`.")] $method,)*
        }

        impl Method {
            /// Returns the path of the method's HTTP requests.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$method => $path,)*
                }
            }

            /// Returns the method with a path.
            pub(crate) fn from_path(path: &str) -> Option<Self> {
                match path {
                    $($path => Some(Self::$method),)*
                    _ => None,
                }
            }
        }
    };
}

methods! {
    Range "/etcdserverpb.KV/Range",
    RangeStream "/etcdserverpb.KV/RangeStream",
    Put "/etcdserverpb.KV/Put",
    DeleteRange "/etcdserverpb.KV/DeleteRange",
    Txn "/etcdserverpb.KV/Txn",
    Compact "/etcdserverpb.KV/Compact",
    Watch "/etcdserverpb.Watch/Watch",
    LeaseGrant "/etcdserverpb.Lease/LeaseGrant",
    LeaseRevoke "/etcdserverpb.Lease/LeaseRevoke",
    LeaseKeepAlive "/etcdserverpb.Lease/LeaseKeepAlive",
    LeaseTimeToLive "/etcdserverpb.Lease/LeaseTimeToLive",
    LeaseLeases "/etcdserverpb.Lease/LeaseLeases",
    MemberAdd "/etcdserverpb.Cluster/MemberAdd",
    MemberRemove "/etcdserverpb.Cluster/MemberRemove",
    MemberUpdate "/etcdserverpb.Cluster/MemberUpdate",
    MemberList "/etcdserverpb.Cluster/MemberList",
    MemberPromote "/etcdserverpb.Cluster/MemberPromote",
    Alarm "/etcdserverpb.Maintenance/Alarm",
    Status "/etcdserverpb.Maintenance/Status",
    Defragment "/etcdserverpb.Maintenance/Defragment",
    Hash "/etcdserverpb.Maintenance/Hash",
    HashKv "/etcdserverpb.Maintenance/HashKV",
    Snapshot "/etcdserverpb.Maintenance/Snapshot",
    MoveLeader "/etcdserverpb.Maintenance/MoveLeader",
    Downgrade "/etcdserverpb.Maintenance/Downgrade",
    AuthEnable "/etcdserverpb.Auth/AuthEnable",
    AuthDisable "/etcdserverpb.Auth/AuthDisable",
    AuthStatus "/etcdserverpb.Auth/AuthStatus",
    Authenticate "/etcdserverpb.Auth/Authenticate",
    UserAdd "/etcdserverpb.Auth/UserAdd",
    UserGet "/etcdserverpb.Auth/UserGet",
    UserList "/etcdserverpb.Auth/UserList",
    UserDelete "/etcdserverpb.Auth/UserDelete",
    UserChangePassword "/etcdserverpb.Auth/UserChangePassword",
    UserGrantRole "/etcdserverpb.Auth/UserGrantRole",
    UserRevokeRole "/etcdserverpb.Auth/UserRevokeRole",
    RoleAdd "/etcdserverpb.Auth/RoleAdd",
    RoleGet "/etcdserverpb.Auth/RoleGet",
    RoleList "/etcdserverpb.Auth/RoleList",
    RoleDelete "/etcdserverpb.Auth/RoleDelete",
    RoleGrantPermission "/etcdserverpb.Auth/RoleGrantPermission",
    RoleRevokePermission "/etcdserverpb.Auth/RoleRevokePermission",
    Lock "/v3lockpb.Lock/Lock",
    Unlock "/v3lockpb.Lock/Unlock",
    Campaign "/v3electionpb.Election/Campaign",
    Proclaim "/v3electionpb.Election/Proclaim",
    Leader "/v3electionpb.Election/Leader",
    Observe "/v3electionpb.Election/Observe",
    Resign "/v3electionpb.Election/Resign",
}

impl Method {
    /// Returns whether the response is a stream of messages.
    pub(crate) const fn is_stream(self) -> bool {
        matches!(
            self,
            Self::RangeStream | Self::Watch | Self::LeaseKeepAlive | Self::Snapshot | Self::Observe
        )
    }
}
