//! `nix-cache-info`: what a binary cache says about itself (binary-cache specification, section 2).

use kiln_store_path::{InvalidStoreDir, StoreDir};

/// The content of `nix-cache-info`; every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheInfo {
    /// The store directory of the cache's paths, which must be the engine's.
    pub store_dir: Option<StoreDir>,
    /// Whether the cache may be asked about many paths at once; absent means no.
    pub want_mass_query: Option<bool>,
    /// The cache's place among the others, lowest first; absent means 0.
    pub priority: Option<i64>,
}

/// Why a `nix-cache-info` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    /// `Priority` is not a number.
    #[error("binary cache '{cache}': Priority {value:?} is not a number")]
    Priority {
        /// The cache, as the caller names it.
        cache: String,
        /// The value.
        value: String,
    },
    /// `StoreDir` is not a store directory.
    #[error("binary cache '{cache}': {error}")]
    StoreDir {
        /// The cache, as the caller names it.
        cache: String,
        /// What is wrong with it.
        error: InvalidStoreDir,
    },
    /// The cache is for another store directory.
    #[error("binary cache '{cache}' is for Nix stores with prefix '{found}', not '{expected}'")]
    OtherStoreDir {
        /// The cache, as the caller names it.
        cache: String,
        /// Its store directory.
        found: StoreDir,
        /// The engine's.
        expected: StoreDir,
    },
}

impl CacheInfo {
    /// Reads the file; `cache` names the cache in messages. Lines without a colon and unknown names are skipped, values
    /// trimmed, and of a repeated field the last one counts.
    ///
    /// # Errors
    /// A field that does not read.
    pub fn parse(cache: &str, text: &[u8]) -> Result<Self, CacheInfoError> {
        let text = String::from_utf8_lossy(text);
        let mut info = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name {
                "StoreDir" => {
                    info.store_dir = Some(
                        StoreDir::new(value)
                            .map_err(|error| CacheInfoError::StoreDir { cache: cache.to_owned(), error })?,
                    );
                }
                "WantMassQuery" => info.want_mass_query = Some(value == "1"),
                "Priority" => {
                    info.priority = Some(value.parse().map_err(|_| CacheInfoError::Priority {
                        cache: cache.to_owned(),
                        value: value.chars().take(80).collect(),
                    })?);
                }
                _ => {}
            }
        }
        Ok(info)
    }

    /// Checks that the cache's paths are for `expected`.
    ///
    /// # Errors
    /// They are for another store directory.
    pub fn check_store_dir(&self, cache: &str, expected: &StoreDir) -> Result<(), CacheInfoError> {
        match &self.store_dir {
            Some(found) if found != expected => Err(CacheInfoError::OtherStoreDir {
                cache: cache.to_owned(),
                found: found.clone(),
                expected: expected.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes the fields that are there.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if let Some(store_dir) = &self.store_dir {
            text.push_str(&format!("StoreDir: {store_dir}\n"));
        }
        if let Some(want) = self.want_mass_query {
            text.push_str(&format!("WantMassQuery: {}\n", u8::from(want)));
        }
        if let Some(priority) = self.priority {
            text.push_str(&format!("Priority: {priority}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_nix_wrote() {
        let text = include_bytes!("../tests/data/cache/2.34-none/nix-cache-info");
        let info = CacheInfo::parse("sample", text).unwrap();
        assert_eq!(info.store_dir, Some(StoreDir::default()));
        assert_eq!(info.to_text().as_bytes(), text);
        assert!(info.check_store_dir("sample", &StoreDir::default()).is_ok());
        assert!(info.check_store_dir("sample", &StoreDir::new("/gnu/store").unwrap()).is_err());
    }

    #[test]
    fn is_lenient_but_not_about_numbers() {
        let text =
            b"junk\nPriority: 30\nStoreDir:/nix/store \nUnknown: x\nWantMassQuery: 1\nPriority:  -40\n";
        let info = CacheInfo::parse("c", text).unwrap();
        assert_eq!((info.want_mass_query, info.priority), (Some(true), Some(-40)));
        assert_eq!(CacheInfo::parse("c", b"").unwrap(), CacheInfo::default());
        assert!(CacheInfo::parse("c", b"Priority: high\n").is_err());
        assert!(CacheInfo::parse("c", b"StoreDir: nix\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CacheInfo::parse("c", &text);
        }

        #[test]
        fn every_info_reads_back(want in any::<Option<bool>>(), priority in any::<Option<i64>>()) {
            let info = CacheInfo { store_dir: Some(StoreDir::default()), want_mass_query: want, priority };
            prop_assert_eq!(CacheInfo::parse("c", info.to_text().as_bytes()), Ok(info));
        }
    }
}
