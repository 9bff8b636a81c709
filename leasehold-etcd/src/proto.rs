//! etcd's messages and services, generated from the files in `proto/`.
#![expect(
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated code"
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

pub(crate) mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

pub(crate) mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
