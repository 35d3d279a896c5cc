//! The enums on real databases.
