//! What the engine asks, as values.

use kiln_protocol::hook::{ANOTHER_SETTING, HookSetting, NO_MORE_SETTINGS, Offer, TRY, Work, dialect};
use kiln_protocol::{Dialect, MessageReader, Received, Wire};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::{Error, Result};

/// Settings that an engine may have. Nix has some 190.
const MOST_SETTINGS: usize = 4096;

/// The longest message, in bytes: a closure of a hundred thousand paths and more.
const LONGEST: usize = 128 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The engine's side of the conversation.
pub struct Questions<R> {
    input: R,
    received: Received,
    dialect: Dialect,
}

impl<R: AsyncRead + Unpin> Questions<R> {
    /// What comes from `input`.
    #[must_use]
    pub fn new(input: R) -> Self {
        Self { input, received: Received::default(), dialect: dialect() }
    }

    /// The engine's settings, by name, with values as `nix.conf` has them. They come first.
    ///
    /// # Errors
    /// The engine makes no sense, or goes away.
    pub async fn settings(&mut self) -> Result<Vec<HookSetting>> {
        let mut settings = Vec::new();
        loop {
            match self.expect::<u64>().await? {
                NO_MORE_SETTINGS => return Ok(settings),
                ANOTHER_SETTING if settings.len() < MOST_SETTINGS => settings.push(self.expect().await?),
                ANOTHER_SETTING => return Err(Error::Settings(MOST_SETTINGS)),
                number => return Err(Error::Number(number)),
            }
        }
    }

    /// The next build that a machine is wanted for; `None` when the engine wants no more.
    ///
    /// # Errors
    /// The engine makes no sense.
    pub(crate) async fn offer(&mut self) -> Result<Option<Offer>> {
        match self.next::<String>().await? {
            Some(word) if word == TRY => self.expect().await.map(Some),
            _ => Ok(None),
        }
    }

    /// What belongs to the build that was accepted.
    ///
    /// # Errors
    /// The engine makes no sense, or goes away.
    pub(crate) async fn work(&mut self) -> Result<Work> {
        self.expect().await
    }

    async fn expect<T: Wire>(&mut self) -> Result<T> {
        let end = || Error::Engine(std::io::ErrorKind::UnexpectedEof.into());
        self.next().await?.ok_or_else(end)
    }

    /// The next message; `None` if there is none.
    async fn next<T: Wire>(&mut self) -> Result<Option<T>> {
        let mut reader = MessageReader::new(LONGEST);
        loop {
            if let Some(message) = self.received.offer(|bytes| reader.read::<T>(&self.dialect, bytes))? {
                return Ok(Some(message));
            }
            let unused = self.received.unused();
            unused.reserve(CHUNK);
            let read = self.input.read_buf(unused).await.map_err(Error::Engine)?;
            match read {
                0 if reader.is_between_messages() => return Ok(None),
                0 => return Err(Error::Engine(std::io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_testing::HOOK_RECORDINGS;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn h5_what_nix_asks_is_understood() {
        for (recorded, has_work) in HOOK_RECORDINGS {
            let mut questions = Questions::new(recorded);
            let settings = questions.settings().await.unwrap();
            let value = |name: &str| &settings.iter().find(|setting| setting.name == name).unwrap().value;
            assert_eq!(value("system"), b"x86_64-linux");
            let offer = questions.offer().await.unwrap().unwrap();
            assert!(offer.derivation.starts_with("/nix/store/") && offer.derivation.ends_with(".drv"));
            assert_eq!(offer.system, b"x86_64-linux");
            if has_work {
                let work = questions.work().await.unwrap();
                assert!(work.inputs.iter().all(|path| path.starts_with("/nix/store/")));
                assert_eq!(work.outputs.into_iter().collect::<Vec<_>>(), ["dev", "out"]);
            }
            assert_eq!(questions.offer().await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn h5_who_breaks_off_or_wants_something_else_is_understood() {
        let (recorded, _) = HOOK_RECORDINGS[0];
        for length in [0, 7, 8, recorded.len() - 1] {
            let mut questions = Questions::new(&recorded[..length]);
            let told = async {
                questions.settings().await?;
                questions.offer().await?;
                questions.work().await
            };
            assert!(matches!(told.await, Err(Error::Engine(_))), "{length}");
        }
        let mut end = Questions::new(&[0; 8][..]);
        assert!(end.settings().await.unwrap().is_empty());
        let mut other = Questions::new(&b"\x04\0\0\0\0\0\0\0quit\0\0\0\0"[..]);
        assert_eq!(other.offer().await.unwrap(), None);
        let mut number = Questions::new(&[2, 0, 0, 0, 0, 0, 0, 0][..]);
        assert!(matches!(number.settings().await, Err(Error::Number(2))));
    }

    proptest! {
        #[test]
        fn h5_no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), place in 0..2000_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (recorded, _) = HOOK_RECORDINGS[0];
            let damaged = [&recorded[..place.min(recorded.len())], &bytes].concat();
            runtime.block_on(async {
                let mut questions = Questions::new(damaged.as_slice());
                if questions.settings().await.is_ok() && matches!(questions.offer().await, Ok(Some(_))) {
                    let _ = questions.work().await;
                }
            });
        }
    }
}
