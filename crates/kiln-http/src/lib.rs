//! The HTTP client: one `GET`, `HEAD` or `PUT`, however often it takes.
//!
//! A [`Client`] keeps connections and knows proxies, certificates and passwords. Each [`Download`] that it begins follows
//! redirects, sends credentials to whom they belong, tries again what may go better the next time, and goes on where a
//! broken transfer ended if the server can do that. Whoever wants the file asks for one [`Piece`] after the other, so
//! that nothing comes faster than it is used, and memory does not depend on how much there is.
//!
//! [`Client::put`] sends a file, from its start each time that it has to be tried again, [`Client::put_in_parts`] sends one to
//! a bucket so that only a part has to be sent again, and [`Client::exists`] asks whether there is one.
//!
//! [`decoder`] undoes the ways in which files are compressed, on their way or where they lie; [`decoder_on_threads`] does that
//! with a few threads for a large file.
//!
//! The client needs tokio and nothing else of its surroundings: it runs in the engine's runtime as well as in a runtime
//! of one thread inside a builder's sandbox. What servers send is hostile: heads, redirects, waits and memory are bounded.
//!
//! * `connector` makes connections: directly or through a proxy, with or without TLS.
//! * `credentials` decides who gets to see which password; `netrc` reads them.
//! * `failure` says what can go wrong and what of it is worth another try, `retry` when.
//! * `s3` signs requests to buckets.
//! * `resume` has the rules for going on where a transfer ended, `stall` for noticing that it does not go on.

mod client;
mod connector;
mod credentials;
mod decoding;
mod download;
mod failure;
mod multipart;
mod netrc;
mod resolver;
mod resume;
mod retry;
mod s3;
mod settings;
mod stall;
mod tls;
mod upload;
mod upload_body;

pub use client::Client;
pub use decoding::{Coding, UnknownCoding, XZ_MEMORY, decoder, decoder_on_threads};
pub use download::{Download, Piece, Retry, SmallFile};
pub use failure::{DownloadError, Failure};
pub use multipart::{LEAST_PART, Parts};
pub use netrc::Netrc;
pub use s3::{AwsEnvironment, S3Bucket, S3BucketError, S3Credentials, S3CredentialsError, S3Signer};
pub use settings::{Patience, Proxies, TransferSettings};
pub use tls::Authorities;
pub use upload::{Upload, UploadError};
