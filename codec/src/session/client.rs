//! The client's side of an association.
