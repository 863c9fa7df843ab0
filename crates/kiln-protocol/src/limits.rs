//! How much may come, at which place. No real client or daemon sends more, and nothing is allocated before it has come.

/// The longest store path, in bytes: a store directory and a base name.
pub const MAX_PATH: usize = 4096 + 1 + 244;

/// The longest word, in bytes: names, keys, versions, numbers in text form, URLs.
pub const MAX_WORD: usize = 8192;

/// The longest text, in bytes: messages, scripts in a derivation's environment, JSON.
pub const MAX_TEXT: usize = 64 << 20;

/// The longest realisation in JSON, in bytes. Parsed JSON takes many times the memory of its text.
pub const MAX_REALISATION: usize = 1 << 20;

/// The most elements of a list, set or map. (An element has at least eight bytes, so that a message's length bounds them too.)
pub const MAX_ELEMENTS: u64 = 1 << 24;

/// The most fields of an activity or result. Real ones have up to four.
pub const MAX_ACTIVITY_FIELDS: u64 = 64;

/// The most traces of an error.
pub const MAX_TRACES: u64 = 1 << 16;

/// The most features that one side of a handshake announces.
pub const MAX_FEATURES: u64 = 256;

/// A limit for the length of requests, in bytes, which fits all that real clients send: paths by the hundred thousand,
/// derivations with large environments, texts (old AddTextToStore). What streams doesn't count.
pub const MAX_REQUEST: usize = 128 << 20;

/// A limit for the length of replies, in bytes, which fits the list of all paths of a store with ten million of them.
pub const MAX_RESPONSE: usize = 1 << 30;
