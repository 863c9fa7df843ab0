//! What the hook is told, in the primitive encodings of the worker protocol: numbers of 64 bits with the lowest byte first,
//! and strings with their length before them, filled up with zeros to a multiple of 8 bytes.

/// Bytes for the hook's standard input.
#[derive(Debug, Default)]
pub(super) struct HookInput(Vec<u8>);

impl HookInput {
    /// Said once, first: all settings, by name, as `nix.conf` has them.
    pub(super) fn settings<'a>(settings: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut input = Self::default();
        for (name, value) in settings {
            input.number(1);
            input.string(name.as_bytes());
            input.string(value.as_bytes());
        }
        input.number(0);
        input
    }

    /// Asks for a machine for a derivation, given by its full path.
    pub(super) fn offer<'a>(
        willing: bool,
        system: &[u8],
        derivation: &str,
        features: impl ExactSizeIterator<Item = &'a str>,
    ) -> Self {
        let mut input = Self::default();
        input.string(b"try");
        input.number(willing.into());
        input.string(system);
        input.string(derivation.as_bytes());
        input.strings(features);
        input
    }

    /// Said after the hook has accepted: the closure of the inputs as full paths, and the names of the outputs to make.
    pub(super) fn work<'a>(
        inputs: impl ExactSizeIterator<Item = String>,
        outputs: impl ExactSizeIterator<Item = &'a str>,
    ) -> Self {
        let mut input = Self::default();
        input.strings(inputs);
        input.strings(outputs);
        input
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn string(&mut self, string: &[u8]) {
        self.number(string.len() as u64);
        self.0.extend_from_slice(string);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    fn strings<S: AsRef<str>>(&mut self, strings: impl ExactSizeIterator<Item = S>) {
        self.number(strings.len() as u64);
        strings.for_each(|string| self.string(string.as_ref().as_bytes()));
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Nix 2.8.0 and 2.34.8 told their hooks: one that accepted, one that declined.
    const RECORDED: [(&[u8], &[u8]); 2] = [
        (include_bytes!("data/nix-2.8.0-accepted"), include_bytes!("data/nix-2.8.0-declined")),
        (include_bytes!("data/nix-2.34.8-accepted"), include_bytes!("data/nix-2.34.8-declined")),
    ];

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
        for (accepted, declined) in RECORDED {
            for (recorded, has_work) in [(accepted, true), (declined, false)] {
                let mut reader = Reader(recorded);
                let mut settings = Vec::new();
                while reader.number() == 1 {
                    settings.push((reader.string(), reader.string().to_owned()));
                }
                assert!(settings.len() > 80 && settings.iter().any(|setting| setting.0 == "builders"));
                let mut ours = HookInput::settings(settings).into_bytes();
                assert_eq!(reader.string(), "try");
                let (willing, system) = (reader.number() == 1, reader.string());
                let (derivation, features) = (reader.string(), reader.strings());
                assert!(system == "x86_64-linux" && derivation.ends_with(".drv"), "{system} {derivation}");
                ours.extend(
                    HookInput::offer(willing, system.as_bytes(), derivation, features.into_iter())
                        .into_bytes(),
                );
                if has_work {
                    let (inputs, outputs) = (reader.strings(), reader.strings());
                    assert!(inputs[0].starts_with("/nix/store/") && outputs == ["dev", "out"]);
                    let inputs = inputs.into_iter().map(str::to_owned);
                    ours.extend(HookInput::work(inputs, outputs.into_iter()).into_bytes());
                }
                assert!(reader.0.is_empty());
                assert!(ours == recorded);
            }
        }
    }
}
