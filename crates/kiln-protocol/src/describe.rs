//! The macro that makes a message from its description: a struct, its shape, how it is read and how it is written.
//!
//! ```text
//! wire_struct! {
//!     /// Documentation of the message.
//!     pub struct BuildPaths {
//!         /// Documentation of the field.
//!         pub paths: Vec<DerivedPath>,
//!         /// A field that only some versions send; in others it has its default value, and `required` is that no other can
//!         /// be sent. (Without it, what old peers don't know is left out.)
//!         pub mode: BuildMode [Versions::worker_since(15)] required,
//!     }
//! }
//! ```

/// See the module.
macro_rules! wire_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                pub $field:ident : $type:ty $([$versions:expr] $($required:ident)?)?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::wire::Wire for $name {
            const SHAPE: $crate::shape::Shape = $crate::shape::Shape::Fields {
                name: stringify!($name),
                fields: &[
                    $( $crate::shape::Field {
                        name: stringify!($field),
                        versions: wire_struct!(@versions $($versions)?),
                        shape: <$type as $crate::wire::Wire>::SHAPE,
                    }, )*
                ],
            };

            fn read(
                #[allow(unused_variables)] decoder: &mut $crate::wire::Decoder<'_>,
            ) -> Result<Self, $crate::error::ReadError> {
                Ok(Self {
                    $( $field: wire_struct!(@read decoder, $field, $type, $($versions)?), )*
                })
            }

            fn write(&self, #[allow(unused_variables)] encoder: &mut $crate::wire::Encoder<'_>) {
                $( wire_struct!(@write encoder, $name, self, $field, $($versions $(, $required)?)?); )*
            }
        }
    };
    (@versions) => { $crate::version::Versions::ALL };
    (@versions $versions:expr) => { $versions };
    (@read $decoder:ident, $field:ident, $type:ty,) => {
        <$type as $crate::wire::Wire>::read($decoder).map_err(|error| error.within(stringify!($field)))?
    };
    (@read $decoder:ident, $field:ident, $type:ty, $versions:expr) => {
        if $versions.contains($decoder.version()) {
            wire_struct!(@read $decoder, $field, $type,)
        } else {
            <$type as Default>::default()
        }
    };
    (@write $encoder:ident, $name:ident, $self:ident, $field:ident,) => {
        $crate::wire::Wire::write(&$self.$field, $encoder)
    };
    (@write $encoder:ident, $name:ident, $self:ident, $field:ident, $versions:expr) => {
        if $versions.contains($encoder.version()) {
            $crate::wire::Wire::write(&$self.$field, $encoder);
        }
    };
    (@write $encoder:ident, $name:ident, $self:ident, $field:ident, $versions:expr, required) => {
        if $versions.contains($encoder.version()) {
            $crate::wire::Wire::write(&$self.$field, $encoder);
        } else if $self.$field != Default::default() {
            $encoder.refuse(concat!(
                "the other end is too old for ", stringify!($name), " with '", stringify!($field), "'"
            ));
        }
    };
}

/// How a type that is sent as a number or a string is written and read: its shape is that of what it is sent as.
macro_rules! wire_as {
    ($type:ty, $shape:expr, |$decoder:ident| $read:expr, |$value:ident, $encoder:ident| $write:expr) => {
        impl $crate::wire::Wire for $type {
            const SHAPE: $crate::shape::Shape = $shape;

            fn read($decoder: &mut $crate::wire::Decoder<'_>) -> Result<Self, $crate::error::ReadError> {
                $read
            }

            fn write(&self, $encoder: &mut $crate::wire::Encoder<'_>) {
                let $value = self;
                $write
            }
        }
    };
}

pub(crate) use {wire_as, wire_struct};
