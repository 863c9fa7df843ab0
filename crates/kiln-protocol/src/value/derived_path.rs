//! What is to be built or substituted, as one string.
//!
//! From 1.30 on, `PATH` is a path as it is, `DRV!*` all outputs of a derivation, `DRV!out,dev` some, and `DRV!out!bin` the
//! output `bin` of the derivation that is the output `out` of another. Before, and in all of the serve protocol, `DRV`
//! stands for all of its outputs, so that a derivation as it is can't be named.

use kiln_store_path::{DerivedPath, OutputName, OutputsSpec, SingleDerivedPath, StoreDir};

use crate::error::ReadError;
use crate::limits::MAX_TEXT;
use crate::shape::Shape;
use crate::version::Version;
use crate::wire::{Decoder, Encoder, Wire};

/// The first version in which `DRV` is a path as it is.
const OPAQUE_DERIVATIONS: u8 = 30;

/// The most outputs that can be followed from one derivation to the next.
const MAX_WAY: usize = 64;

impl Wire for DerivedPath {
    const SHAPE: Shape = Shape::Bytes { limit: MAX_TEXT };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let text = decoder.text()?;
        let store_dir = &decoder.dialect().store_dir;
        if is_old(decoder.version()) {
            Self::parse_legacy(store_dir, text).map_err(ReadError::value)
        } else {
            parse(store_dir, text)
        }
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        let old = is_old(encoder.version());
        let text = match self {
            Self::Opaque(path) if old && path.is_derivation() => {
                encoder.refuse(format!(
                    "the other end is too old to be asked for the derivation '{path}' itself rather than for its outputs"
                ));
                String::new()
            }
            Self::Opaque(path) => encoder.dialect().store_dir.print(path),
            Self::Built { derivation, .. } if old && !derivation.outputs.is_empty() => {
                let path = &derivation.path;
                encoder.refuse(format!(
                    "the other end is too old to be asked for outputs of a derivation that '{path}' makes"
                ));
                String::new()
            }
            Self::Built { derivation, outputs } => {
                let mut text = encoder.dialect().store_dir.print(&derivation.path);
                for output in &derivation.outputs {
                    text.push('!');
                    text.push_str(output.as_str());
                }
                match outputs {
                    OutputsSpec::All if old => text,
                    outputs => format!("{text}!{outputs}"),
                }
            }
        };
        encoder.bytes(text);
    }
}

fn is_old(version: Version) -> bool {
    !version.is_worker_since(OPAQUE_DERIVATIONS)
}

fn parse(store_dir: &StoreDir, text: &str) -> Result<DerivedPath, ReadError> {
    let Some((derivation, outputs)) = text.rsplit_once('!') else {
        return store_dir.parse(text).map(DerivedPath::Opaque).map_err(ReadError::value);
    };
    let outputs = OutputsSpec::parse(outputs).map_err(ReadError::value)?;
    let mut way = derivation.split('!');
    let path = store_dir.parse(way.next().unwrap_or_default()).map_err(ReadError::value)?;
    let way: Vec<OutputName> =
        way.take(MAX_WAY + 1).map(OutputName::new).collect::<Result<_, _>>().map_err(ReadError::value)?;
    if way.len() > MAX_WAY {
        return Err(ReadError::value(format_args!("more than {MAX_WAY} outputs of outputs")));
    }
    Ok(DerivedPath::Built { derivation: SingleDerivedPath { path, outputs: way }, outputs })
}
