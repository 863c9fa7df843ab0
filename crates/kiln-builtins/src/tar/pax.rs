//! The records of POSIX's extended headers: `LENGTH KEY=VALUE` and a newline, one after the other.

/// What an extended header says of the entry after it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// The contents are in GNU's format for files with holes.
    pub(super) sparse: bool,
}

impl Extension {
    /// Takes over what the records say. Of a key that comes again, the last value holds.
    pub(super) fn read(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const WRONG: &str = "an extended header has a malformed record";
        while !records.is_empty() {
            let space = records.iter().take(20).position(|&byte| byte == b' ').ok_or(WRONG)?;
            let length =
                records.get(..space).and_then(decimal).and_then(|length| usize::try_from(length).ok());
            let (record, rest) = length.and_then(|length| records.split_at_checked(length)).ok_or(WRONG)?;
            let record =
                record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(WRONG)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(WRONG)?;
            let (key, value) = (record.get(..equals).ok_or(WRONG)?, record.get(equals + 1..).ok_or(WRONG)?);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(value).ok_or(WRONG)?),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(records: &[u8]) -> Result<Extension, &'static str> {
        let mut extension = Extension::default();
        extension.read(records).map(|()| extension)
    }

    #[test]
    fn records_are_read() {
        assert_eq!(
            read(b"30 mtime=1350244992.023960108\n12 path=a=b\n14 linkpath=\xff\n11 size=42\n").unwrap(),
            Extension {
                path: Some(b"a=b".into()),
                link: Some(b"\xff".into()),
                size: Some(42),
                sparse: false
            }
        );
        assert!(read(b"22 GNU.sparse.major=1\n").unwrap().sparse);
        assert_eq!(read(b"").unwrap(), Extension::default());
    }

    #[test]
    fn malformed_records() {
        let records: [&[u8]; 9] = [
            b"x",
            b"9 path=a",
            b"99 path=a\n",
            b"10 path=a\nb",
            b"0 path=a\n",
            b"2 \n",
            b"7 path\n",
            b"+9 path=a\n",
            b"18446744073709551616 a=b\n",
        ];
        for records in records {
            assert!(read(records).is_err(), "{}", records.escape_ascii());
        }
        assert!(read(b"12 size=-100\n").is_err());
    }

    proptest! {
        #[test]
        fn any_records_can_be_read(records in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&records);
        }
    }
}
