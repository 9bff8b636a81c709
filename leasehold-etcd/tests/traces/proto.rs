//! etcd's messages, as the package's build script generates them, for requests that the `etcd-client` crate cannot send.

#![expect(
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code, with all services of etcd"
)]

pub(crate) mod authpb {
    tonic::include_proto!("authpb");
}

pub(crate) mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

pub(crate) mod mvccpb {
    tonic::include_proto!("mvccpb");
}
