//! Values that are written as text. A mistake in one is reported where it stands, not at the list around it: for that
//! the error must come from within the text's own deserializer.

use serde::de::{Deserializer, Error, Visitor};
use std::fmt;
use std::marker::PhantomData;

struct Text<T>(PhantomData<T>);

impl<T: TryFrom<String, Error = &'static str>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::try_from(text.to_owned()).map_err(E::custom)
    }
}

/// Reads such a value.
pub(super) fn deserialize<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<String, Error = &'static str>,
{
    from.deserialize_str(Text(PhantomData))
}

/// Types that are written as text: `TryFrom<String>` reads them, `Into<String>` writes them.
macro_rules! written_as_text {
    ($($name:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                crate::policy::text::deserialize(from)
            }
        }
    )+};
}
pub(super) use written_as_text;
