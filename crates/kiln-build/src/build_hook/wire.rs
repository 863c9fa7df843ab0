//! What the hook is told, as bytes.

use kiln_protocol::hook::{ANOTHER_SETTING, HookSetting, NO_MORE_SETTINGS, Offer, TRY, Work};
use kiln_protocol::{Dialect, Wire, hook};

/// Bytes for the hook's standard input.
#[derive(Debug)]
pub(super) struct HookInput {
    bytes: Vec<u8>,
    dialect: Dialect,
}

impl HookInput {
    fn new() -> Self {
        Self { bytes: Vec::new(), dialect: hook::dialect() }
    }

    /// Said once, first: all settings, by name, as `nix.conf` has them.
    pub(super) fn settings<'a>(settings: impl IntoIterator<Item = (&'a str, String)>) -> Vec<u8> {
        let mut input = Self::new();
        for (name, value) in settings {
            input.add(&ANOTHER_SETTING);
            input.add(&HookSetting { name: name.to_owned(), value: value.into_bytes() });
        }
        input.add(&NO_MORE_SETTINGS);
        input.bytes
    }

    /// Asks for a machine for a derivation.
    pub(super) fn offer(offer: &Offer) -> Vec<u8> {
        let mut input = Self::new();
        input.add(&TRY.to_owned());
        input.add(offer);
        input.bytes
    }

    /// Said after the hook has accepted.
    pub(super) fn work(work: &Work) -> Vec<u8> {
        let mut input = Self::new();
        input.add(work);
        input.bytes
    }

    fn add(&mut self, message: &impl Wire) {
        // Only what some versions can't say is refused, and here is only one.
        let written = kiln_protocol::append(&mut self.bytes, message, &self.dialect);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

#[cfg(test)]
mod tests {
    use kiln_testing::HOOK_RECORDINGS;

    use super::*;

    /// Reads what [`HookInput`] writes.
    struct Reader<'a>(&'a [u8]);

    impl<'a> Reader<'a> {
        fn number(&mut self) -> u64 {
            let (number, rest) = self.0.split_first_chunk().unwrap();
            self.0 = rest;
            u64::from_le_bytes(*number)
        }

        fn string(&mut self) -> &'a str {
            let length = usize::try_from(self.number()).unwrap();
            let (string, rest) = self.0.split_at(length);
            self.0 = &rest[length.next_multiple_of(8) - length..];
            std::str::from_utf8(string).unwrap()
        }

        fn strings(&mut self) -> Vec<&'a str> {
            (0..self.number()).map(|_| self.string()).collect()
        }
    }

    #[test]
    fn h1_h2_the_bytes_are_those_that_nix_sends() {
        for (recorded, has_work) in HOOK_RECORDINGS {
            let mut reader = Reader(recorded);
            let mut settings = Vec::new();
            while reader.number() == 1 {
                settings.push((reader.string(), reader.string().to_owned()));
            }
            assert!(settings.len() > 80 && settings.iter().any(|setting| setting.0 == "builders"));
            let mut ours = HookInput::settings(settings);
            assert_eq!(reader.string(), "try");
            let (willing, system) = (reader.number() == 1, reader.string());
            let (derivation, features) = (reader.string(), reader.strings());
            assert!(system == "x86_64-linux" && derivation.ends_with(".drv"), "{system} {derivation}");
            ours.extend(HookInput::offer(&Offer {
                willing,
                system: system.as_bytes().to_vec(),
                derivation: derivation.to_owned(),
                features: features.into_iter().map(str::to_owned).collect(),
            }));
            if has_work {
                let (inputs, outputs) = (reader.strings(), reader.strings());
                assert!(inputs[0].starts_with("/nix/store/") && outputs == ["dev", "out"]);
                let [inputs, outputs] =
                    [inputs, outputs].map(|texts| texts.into_iter().map(str::to_owned).collect());
                ours.extend(HookInput::work(&Work { inputs, outputs }));
            }
            assert!(reader.0.is_empty());
            assert!(ours == recorded);
        }
    }
}
