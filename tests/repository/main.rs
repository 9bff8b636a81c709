//! The repository itself: the structure of the sources, and what its pages name and promise.

mod architecture;
mod readme;
mod rooms;
mod specification;
