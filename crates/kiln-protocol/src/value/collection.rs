//! Lists, sets and maps. Sets and maps are written in order and read in any.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ReadError;
use crate::limits::MAX_ELEMENTS;
use crate::shape::{Field, Shape};
use crate::version::Versions;
use crate::wire::{Decoder, Encoder, Wire};

/// Reads a count and as many elements into any collection. Nothing is reserved for elements that have not been read.
fn read_elements<T: Wire, C: Extend<T> + Default>(decoder: &mut Decoder<'_>) -> Result<C, ReadError> {
    let mut collection = C::default();
    for _ in 0..decoder.number()? {
        collection.extend([T::read(decoder)?]);
    }
    Ok(collection)
}

impl<T: Wire> Wire for Vec<T>
where
    T: Element,
{
    const SHAPE: Shape = Shape::List { limit: MAX_ELEMENTS, element: &T::SHAPE };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        read_elements(decoder)
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.count(self.len());
        for element in self {
            element.write(encoder);
        }
    }
}

/// What lists are made of: everything but single bytes, whose lists are strings.
pub(crate) trait Element {}

impl Element for Vec<u8> {}
impl<A, B> Element for (A, B) {}
impl Element for kiln_store_path::StorePath {}
impl Element for kiln_store_path::DerivedPath {}
impl Element for kiln_narinfo::Realisation {}
impl Element for super::KeyedBuildResult {}
impl Element for super::SubstitutablePathInfo {}

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    const SHAPE: Shape = Shape::List { limit: MAX_ELEMENTS, element: &T::SHAPE };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        read_elements(decoder)
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.count(self.len());
        for element in self {
            element.write(encoder);
        }
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    const SHAPE: Shape = Shape::List { limit: MAX_ELEMENTS, element: &<(K, V)>::SHAPE };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        read_elements::<(K, V), _>(decoder)
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.count(self.len());
        for (key, value) in self {
            key.write(encoder);
            value.write(encoder);
        }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    const SHAPE: Shape = Shape::Fields {
        name: "pair",
        fields: &[
            Field { name: "key", versions: Versions::ALL, shape: A::SHAPE },
            Field { name: "value", versions: Versions::ALL, shape: B::SHAPE },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let key = A::read(decoder).map_err(|error| error.within("key"))?;
        let value = B::read(decoder).map_err(|error| error.within("value"))?;
        Ok((key, value))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        self.0.write(encoder);
        self.1.write(encoder);
    }
}
