//! Frames of zstd, several at once.

use std::collections::VecDeque;
use std::io::{self, BufRead, Cursor, Read};
use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::super::{Coding, make};
use super::budget::{Budget, Permits};
use super::frames::{self, Next};

/// Frames are gathered until they or their contents have so many bytes: a thread for each small one would cost more than
/// it brings.
const PIECE: usize = 4 << 20;

/// Reads frames, and hands them to threads. At most as many pieces are on their way as a file may have threads: nothing more is
/// read until the first one of them was taken.
pub(super) struct Frames<'a, S> {
    input: Input<'a, S>,
    pieces: VecDeque<Piece>,
    current: Cursor<Vec<u8>>,
    budget: Arc<Budget>,
    /// The least length of a piece.
    least: usize,
    /// No frame was found yet.
    is_empty: bool,
}

/// What comes after the pieces.
enum Input<'a, S> {
    /// More frames, perhaps.
    Frames(S),
    /// What only the ordinary decoder can deal with.
    Other(Box<dyn Read + Send + 'a>),
    /// A failure, until it was told.
    Failed(Option<io::Error>),
    End,
}

/// The contents of some frames.
enum Piece {
    Decoding(JoinHandle<io::Result<Vec<u8>>>),
    Decoded(io::Result<Vec<u8>>),
}

impl<'a, S: BufRead + Send + 'a> Frames<'a, S> {
    pub(super) fn new(source: S, budget: Arc<Budget>) -> Self {
        Self {
            input: Input::Frames(source),
            pieces: VecDeque::new(),
            current: Cursor::default(),
            budget,
            least: PIECE,
            is_empty: true,
        }
    }

    /// The next piece, if there is one: reads ahead until it is decoded, or enough others are on their way.
    fn next_piece(&mut self) -> Option<io::Result<Vec<u8>>> {
        while let Input::Frames(_) = self.input
            && self.pieces.len() < self.budget.of_file()
            && !self.pieces.front().is_some_and(Piece::is_decoded)
        {
            self.gather();
        }
        self.pieces.pop_front().map(Piece::wait)
    }

    /// Reads a piece, or what shows that there is none.
    fn gather(&mut self) {
        let (mut bytes, mut length) = (Vec::new(), 0);
        let input = mem::replace(&mut self.input, Input::End);
        let Input::Frames(mut source) = input else { return };
        self.input = loop {
            let whole = bytes.len();
            match frames::next(&mut source, &mut bytes) {
                Ok(Next::Frame(contents)) => {
                    length += contents;
                    self.is_empty = false;
                }
                Ok(Next::End) if !self.is_empty => break Input::End,
                // A file must not be empty, either.
                Ok(Next::End | Next::Other) => {
                    let begun = bytes.split_off(whole);
                    let decoder = make(Coding::Zstd, Cursor::new(begun).chain(source));
                    break decoder.map_or_else(|error| Input::Failed(Some(error)), Input::Other);
                }
                Err(error) => {
                    bytes.truncate(whole);
                    break Input::Failed(Some(error));
                }
            }
            if bytes.len().max(length) >= self.least {
                break Input::Frames(source);
            }
        };
        if !bytes.is_empty() {
            let is_worthwhile = bytes.len().max(length) >= self.least;
            let permit = if is_worthwhile { self.budget.take(1, 1) } else { None };
            self.pieces.push_back(Piece::new(bytes, length, permit));
        }
    }
}

impl<S> Frames<'_, S> {
    /// Waits for the threads. What they have made, and of a panic there more than was reported, nobody wants any more.
    fn end_threads(&mut self) {
        for piece in self.pieces.drain(..) {
            if let Piece::Decoding(thread) = piece {
                drop(thread.join());
            }
        }
    }
}

impl<S> Drop for Frames<'_, S> {
    fn drop(&mut self) {
        self.end_threads();
    }
}

impl<'a, S: BufRead + Send + 'a> Read for Frames<'a, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = self.current.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            // It makes room for the next one.
            self.current = Cursor::default();
            match self.next_piece() {
                Some(Ok(piece)) => self.current = Cursor::new(piece),
                Some(Err(error)) => {
                    self.end_threads();
                    self.input = Input::Failed(None);
                    return Err(error);
                }
                None => break,
            }
        }
        match &mut self.input {
            Input::Other(decoder) => decoder.read(buffer),
            Input::Failed(error) => {
                Err(error.take().unwrap_or_else(|| io::Error::other("decoding has failed")))
            }
            Input::Frames(_) | Input::End => Ok(0),
        }
    }
}

impl Piece {
    /// Has a piece decoded, on a thread if there may be one.
    fn new(bytes: Vec<u8>, length: usize, permit: Option<Permits>) -> Self {
        let Some(permit) = permit else { return Self::Decoded(decode(&bytes, length)) };
        let bytes = Arc::new(bytes);
        let work = {
            let bytes = Arc::clone(&bytes);
            move || {
                let _permit = permit;
                decode(&bytes, length)
            }
        };
        match thread::Builder::new().name("decoder".to_owned()).spawn(work) {
            Ok(thread) => Self::Decoding(thread),
            // The system has its own limits for threads.
            Err(_) => Self::Decoded(decode(&bytes, length)),
        }
    }

    fn is_decoded(&self) -> bool {
        match self {
            Self::Decoding(thread) => thread.is_finished(),
            Self::Decoded(_) => true,
        }
    }

    fn wait(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Decoding(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Self::Decoded(result) => result,
        }
    }
}

/// Decodes whole frames whose contents say that they have this length together.
fn decode(bytes: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let mut decoder = make(Coding::Zstd, bytes)?;
    let mut contents = vec![0; length];
    decoder.read_exact(&mut contents)?;
    match decoder.read(&mut [0])? {
        0 => Ok(contents),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than it says")),
    }
}

#[cfg(test)]
mod tests;
