//! The macro that makes all of a protocol's calls from one table: number, name, and what is replied.

/// Makes an enum of the calls' names and numbers, an enum of requests, an enum of replies, and a trait that connects each
/// request with its reply. The structs of the requests are in a module `request`, under the same names.
macro_rules! call_table {
    (
        $(#[$call_meta:meta])* pub enum $call:ident, fn $method:ident = $what:literal;
        $(#[$request_meta:meta])* pub enum $request:ident;
        $(#[$response_meta:meta])* pub enum $response:ident;
        $(#[$trait_meta:meta])* pub trait $trait:ident { const $constant:ident }
        $( $(#[$meta:meta])* $number:literal $name:ident -> $reply:ty ),* $(,)?
    ) => {
        $(#[$call_meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $call {
            $( $(#[$meta])* $name = $number, )*
        }

        impl $call {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];

            /// The name that Nix gives it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* }
            }

            /// The one of this name; [`ReadError::path`] begins with it for a request that can't be read.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|call| call.name() == name)
            }

            /// The one with this number.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }
        }

        impl std::fmt::Display for $call {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        $(#[$trait_meta])*
        pub trait $trait: Wire + Into<$request> {
            /// What it asks for.
            const $constant: $call;

            /// What is replied.
            type Response: Wire;

            /// Appends the number and the request.
            ///
            /// # Errors
            /// Something in it can't be said in this version.
            fn append(&self, out: &mut Vec<u8>, dialect: &Dialect) -> Result<(), WriteError> {
                let length = out.len();
                out.extend_from_slice(&(Self::$constant as u64).to_le_bytes());
                let written = wire::append(out, self, dialect);
                if written.is_err() {
                    out.truncate(length);
                }
                written
            }
        }

        $(#[$request_meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $request {
            $( $(#[$meta])* $name(request::$name), )*
        }

        impl $request {
            /// What it asks for.
            #[must_use]
            pub const fn $method(&self) -> $call {
                match self { $( Self::$name(_) => $call::$name, )* }
            }
        }

        impl Wire for $request {
            const SHAPE: Shape = Shape::Choice {
                name: $what,
                cases: &[ $( Case { tag: $number, shape: <request::$name>::SHAPE }, )* ],
            };

            fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
                match decoder.number()? {
                    $( $number => <request::$name>::read(decoder)
                        .map(Self::$name)
                        .map_err(|error| error.within(stringify!($name))), )*
                    number => Err(ReadError::unknown($what, number)),
                }
            }

            fn write(&self, encoder: &mut Encoder<'_>) {
                encoder.number(self.$method() as u64);
                match self { $( Self::$name(request) => request.write(encoder), )* }
            }
        }

        $(#[$response_meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $response {
            $( $(#[$meta])* $name($reply), )*
        }

        impl $response {
            /// What it answers.
            #[must_use]
            pub const fn $method(&self) -> $call {
                match self { $( Self::$name(_) => $call::$name, )* }
            }

            /// Takes the reply to `call` from the front of `input`, as [`MessageReader::read`] does.
            ///
            /// # Errors
            /// See there.
            pub fn read(
                call: $call,
                reader: &mut MessageReader,
                dialect: &Dialect,
                input: &mut &[u8],
            ) -> Result<Option<Self>, ReadError> {
                match call {
                    $( $call::$name => reader
                        .read::<$reply>(dialect, input)
                        .map(|reply| reply.map(Self::$name))
                        .map_err(|error| error.within(stringify!($name))), )*
                }
            }

            /// Appends the reply.
            ///
            /// # Errors
            /// Something in it can't be said in this version.
            pub fn append(&self, out: &mut Vec<u8>, dialect: &Dialect) -> Result<(), WriteError> {
                match self { $( Self::$name(reply) => wire::append(out, reply, dialect), )* }
            }
        }

        $(
            impl $trait for request::$name {
                const $constant: $call = $call::$name;
                type Response = $reply;
            }

            impl From<request::$name> for $request {
                fn from(request: request::$name) -> Self {
                    Self::$name(request)
                }
            }
        )*
    };
}

pub(crate) use call_table;
