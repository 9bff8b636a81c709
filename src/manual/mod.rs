//! The manual: testing recipes, the store in a long-lived process, costs, alternatives, etcd's behaviour rule by rule,
//! differences of etcd's releases, and requests of users.

pub mod asked {
    #![doc = include_str!("asked.md")]

    #[expect(unused_imports, reason = "the page links to them")]
    use crate::concurrency::*;
}

#[doc = include_str!("compared.md")]
pub mod compared {}

#[doc = include_str!("costs.md")]
pub mod costs {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[expect(
    rustdoc::broken_intra_doc_links,
    clippy::doc_lazy_continuation,
    reason = "the file is a page of the repository too, with marks in brackets"
)]
#[doc = include_str!("../../SEMANTICS.md")]
pub mod semantics {}

#[doc = include_str!("which_etcd.md")]
pub mod which_etcd {}

#[doc = include_str!("testing.md")]
pub mod testing {}
