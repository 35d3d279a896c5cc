//! One value for each class.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::jobs::Class;

/// One value for each [`Class`], in the order of [`Class::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerClass<T>(pub [T; 4]);

impl<T: Copy> PerClass<T> {
    /// The value of this class.
    #[must_use]
    #[inline]
    pub const fn of(&self, class: Class) -> T {
        let Self([critical, normal, sheddable, bulk]) = *self;
        match class {
            Class::Critical => critical,
            Class::Normal => normal,
            Class::Sheddable => sheddable,
            Class::Bulk => bulk,
        }
    }

    /// The same, but with another value for this class.
    #[must_use]
    pub const fn with(self, class: Class, value: T) -> Self {
        let Self([critical, normal, sheddable, bulk]) = self;
        Self(match class {
            Class::Critical => [value, normal, sheddable, bulk],
            Class::Normal => [critical, value, sheddable, bulk],
            Class::Sheddable => [critical, normal, value, bulk],
            Class::Bulk => [critical, normal, sheddable, value],
        })
    }

    /// What becomes of each value.
    pub(super) fn map<U>(self, change: impl FnMut(T) -> U) -> PerClass<U> {
        PerClass(self.0.map(change))
    }

    /// One value of two for each class.
    pub(super) fn zip<U: Copy, V: Copy + Default>(
        self,
        other: PerClass<U>,
        mut join: impl FnMut(T, U) -> V,
    ) -> PerClass<V> {
        let mut joined = PerClass::default();
        for class in Class::ALL {
            joined = joined.with(class, join(self.of(class), other.of(class)));
        }
        joined
    }

    /// With their classes, dearest first.
    pub fn iter(self) -> impl Iterator<Item = (Class, T)> {
        Class::ALL.into_iter().zip(self.0)
    }
}

impl<T: Serialize> Serialize for PerClass<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (class, value) in Class::ALL.into_iter().zip(&self.0) {
            map.serialize_entry(class.as_str(), value)?;
        }
        map.end()
    }
}
