//! Presence rules: what Go's `omitempty` leaves out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The value `{}`, as in Go's sets (`map[string]struct{}`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Values that Go's `omitempty` takes for empty.
pub(crate) trait Omit {
    fn omit(&self) -> bool;
}

/// For `skip_serializing_if`.
pub(crate) fn omit<T: Omit>(value: &T) -> bool {
    value.omit()
}

macro_rules! omit_default {
    ($($kind:ty),*) => { $(impl Omit for $kind {
        fn omit(&self) -> bool {
            *self == <$kind>::default()
        }
    })* };
}
omit_default!(String, bool, i64, u64, u32, u16, i32, [u32; 2]);

impl<T> Omit for Vec<T> {
    fn omit(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Omit for BTreeMap<K, V> {
    fn omit(&self) -> bool {
        self.is_empty()
    }
}

// A Go slice or map is omitted both when nil and when empty; a pointer only when nil, for which fields say
// `Option::is_none` themselves.
impl<T> Omit for Option<Vec<T>> {
    fn omit(&self) -> bool {
        self.as_ref().is_none_or(Vec::is_empty)
    }
}

impl<K, V> Omit for Option<BTreeMap<K, V>> {
    fn omit(&self) -> bool {
        self.as_ref().is_none_or(BTreeMap::is_empty)
    }
}
