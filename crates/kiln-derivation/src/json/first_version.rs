//! The first version of the format byte for byte as Nix 2.8 writes it: keys in an order of its own, few escapes, and
//! bytes that are no UTF-8 as they are.

use kiln_store_path::{StoreDir, StorePath};
use serde_json::Value;

use super::writer::output_json;
use super::{JsonLayout, JsonVersion};
use crate::derivation::Derivation;

/// What `nix show-derivation` prints of derivations, without the line feed at the end.
pub(super) fn show<'a>(
    derivations: impl IntoIterator<Item = (&'a StorePath, &'a Derivation)>,
    store_dir: &StoreDir,
    layout: JsonLayout,
) -> Vec<u8> {
    let mut writer = Writer { text: Vec::new(), layout, depth: 0, is_first: true };
    writer.nest("{", "}", |writer| {
        for (path, derivation) in derivations {
            writer.key(store_dir.print(path).as_bytes());
            writer.nest("{", "}", |writer| writer.derivation(derivation, store_dir));
        }
    });
    writer.text
}

struct Writer {
    text: Vec<u8>,
    layout: JsonLayout,
    depth: usize,
    /// Whether the innermost array or object has no element yet.
    is_first: bool,
}

impl Writer {
    fn derivation(&mut self, derivation: &Derivation, store_dir: &StoreDir) {
        self.key(b"outputs");
        self.nest("{", "}", |writer| {
            for (name, output) in &derivation.outputs {
                let description = output_json(output, store_dir, JsonVersion::V1);
                writer.key(name.as_str().as_bytes());
                writer.nest("{", "}", |writer| writer.output(&description));
            }
        });
        self.key(b"inputSrcs");
        self.strings(derivation.input_sources.iter().map(|path| store_dir.print(path)));
        self.key(b"inputDrvs");
        self.nest("{", "}", |writer| {
            for (path, used) in &derivation.input_derivations {
                writer.key(store_dir.print(path).as_bytes());
                writer.strings(used.outputs().iter().map(|output| output.as_str()));
            }
        });
        self.key(b"system");
        self.string(&derivation.system);
        self.key(b"builder");
        self.string(&derivation.builder);
        self.key(b"args");
        self.strings(&derivation.arguments);
        self.key(b"env");
        self.nest("{", "}", |writer| {
            for (name, value) in derivation.written_environment() {
                writer.key(name);
                writer.string(value);
            }
        });
    }

    fn output(&mut self, description: &Value) {
        for key in ["path", "hashAlgo", "hash", "impure"] {
            match description.get(key) {
                Some(Value::String(text)) => {
                    self.key(key.as_bytes());
                    self.string(text.as_bytes());
                }
                Some(Value::Bool(true)) => {
                    self.key(key.as_bytes());
                    self.text.extend_from_slice(b"true");
                }
                _ => {}
            }
        }
    }

    fn strings(&mut self, strings: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.nest("[", "]", |writer| {
            for string in strings {
                writer.begin_element();
                writer.string(string.as_ref());
            }
        });
    }

    fn nest(&mut self, open: &str, close: &str, write: impl FnOnce(&mut Self)) {
        self.text.extend_from_slice(open.as_bytes());
        self.depth += 1;
        self.is_first = true;
        write(self);
        self.depth -= 1;
        if !self.is_first {
            self.new_line();
        }
        self.is_first = false;
        self.text.extend_from_slice(close.as_bytes());
    }

    fn key(&mut self, key: &[u8]) {
        self.begin_element();
        self.string(key);
        self.text.extend_from_slice(match self.layout {
            JsonLayout::Compact => b":",
            JsonLayout::Indented => b": ",
        });
    }

    fn begin_element(&mut self) {
        if !self.is_first {
            self.text.push(b',');
        }
        self.is_first = false;
        self.new_line();
    }

    fn new_line(&mut self) {
        if self.layout == JsonLayout::Indented {
            self.text.push(b'\n');
            self.text.extend(std::iter::repeat_n(b' ', 2 * self.depth));
        }
    }

    fn string(&mut self, string: &[u8]) {
        self.text.push(b'"');
        for &byte in string {
            match byte {
                b'"' | b'\\' => self.text.extend_from_slice(&[b'\\', byte]),
                b'\n' => self.text.extend_from_slice(b"\\n"),
                b'\r' => self.text.extend_from_slice(b"\\r"),
                b'\t' => self.text.extend_from_slice(b"\\t"),
                0..0x20 => self.text.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.text.push(byte),
            }
        }
        self.text.push(b'"');
    }
}
