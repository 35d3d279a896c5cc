//! Every enum that is linked into the process.

use super::EnumSpec;

/// What the derive macro hands in.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registered(pub &'static EnumSpec);

inventory::collect!(Registered);

/// Every enum with `#[derive(SchemaEnum)]` that is linked into this program and bound to a
/// column, by name.
///
/// An enum of a crate that nothing of is used may be left out by the linker.
#[must_use]
pub fn registered() -> Vec<&'static EnumSpec> {
    let all = inventory::iter::<Registered>.into_iter().map(|registered| registered.0);
    let mut bound: Vec<_> = all.filter(|spec| !spec.bindings.is_empty()).collect();
    bound.sort_by_key(|spec| (spec.name, spec.bindings.first().map(|one| (one.table, one.column))));
    bound
}
