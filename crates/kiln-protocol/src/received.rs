//! What has come from the other side.

/// Bytes that have come and are not used yet.
#[derive(Debug, Default)]
pub struct Received {
    bytes: Vec<u8>,
    used: usize,
}

impl Received {
    /// Lets `take` use bytes from the front.
    pub fn offer<T>(&mut self, take: impl FnOnce(&mut &[u8]) -> T) -> T {
        let mut rest = self.bytes.get(self.used..).unwrap_or_default();
        let result = take(&mut rest);
        self.used = self.bytes.len().saturating_sub(rest.len());
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
        result
    }

    /// The bytes that are not used, to append to them what comes.
    pub fn unused(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.used);
        self.used = 0;
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_gone_and_the_rest_stays() {
        let mut received = Received::default();
        received.unused().extend(b"abcdef");
        let taken = received.offer(|bytes| {
            let (taken, rest) = bytes.split_at(2);
            *bytes = rest;
            taken.to_vec()
        });
        assert_eq!(taken, b"ab");
        received.unused().extend(b"gh");
        received.offer(|bytes| assert_eq!(*bytes, b"cdefgh"));
        received.offer(|bytes| *bytes = &[]);
        assert!(received.unused().is_empty());
    }
}
