//! The repository itself: the structure of the sources, the names and programs in its pages, and its prose.

mod adapter;
mod architecture;
mod readme;
mod rooms;
mod specification;
mod writing;
