//! JSON as Nix dumps it: compact, keys sorted bytewise, only `"`, `\` and control characters escaped, numbers in the
//! shortest form that reads back, with the exponents and the `.0` of Nix's JSON library.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// The canonical text of a value (Nix: `nlohmann::json::dump()`).
///
/// The value's maps must have string keys, as [`serde_json::Value`]'s do; anything else gives an empty text.
pub fn canonical_json(value: &impl Serialize) -> String {
    dump(value, CompactFormatter)
}

/// The indented text of a value, two spaces a level (Nix: `nlohmann::json::dump(2)`).
///
/// The value's maps must have string keys, as [`serde_json::Value`]'s do; anything else gives an empty text.
pub fn indented_json(value: &impl Serialize) -> String {
    dump(value, PrettyFormatter::new())
}

fn dump(value: &impl Serialize, layout: impl Formatter) -> String {
    let mut text = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut text, NixNumbers(layout)));
    match written {
        // Writing to memory cannot fail, and the writer makes UTF-8 only.
        Ok(()) => String::from_utf8(text).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// A layout whose floating-point numbers are written as Nix writes them.
struct NixNumbers<F>(F);

/// Passes methods on to the layout inside.
macro_rules! delegate {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            fn $method<W: ?Sized + io::Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
                self.0.$method(writer $(, $argument)*)
            }
        )*
    };
}

impl<F: Formatter> Formatter for NixNumbers<F> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

/// A finite number: plain notation where the decimal point falls within the first 15 digits or at most four places
/// before them, else `d.ddde±xx`.
fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (sign, unsigned) = match scientific.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", scientific.as_str()),
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let digits = mantissa.replace('.', "");
    // Where the decimal point stands, counted from the first digit; a double's exponent has at most three digits.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |number: i32| "0".repeat(usize::try_from(number).unwrap_or(0));
    let body = if (1..=15).contains(&point) {
        if count <= point {
            format!("{digits}{}.0", zeros(point - count))
        } else {
            let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
            format!("{whole}.{fraction}")
        }
    } else if (-3..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, more) = digits.split_at(1);
        let dot = if more.is_empty() { "" } else { "." };
        let exponent_sign = if point < 1 { '-' } else { '+' };
        format!("{first}{dot}{more}e{exponent_sign}{:02}", (point - 1).unsigned_abs())
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn numbers_look_like_nixs() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (1.0, "1.0"),
            (-7.25, "-7.25"),
            (1e14, "100000000000000.0"),
            (123456789012345.6, "123456789012345.6"),
            (1e15, "1e+15"),
            (1.25e20, "1.25e+20"),
            (1e100, "1e+100"),
            (0.001, "0.001"),
            (0.00012, "0.00012"),
            (0.00001, "1e-05"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn strings_and_keys() {
        let value = json!({"b": [1, -2, u64::MAX, null, true], "a": "\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\"\\/é☃", "": {}});
        assert_eq!(
            canonical_json(&value),
            "{\"\":{},\"a\":\"\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}\\\"\\\\/é☃\",\"b\":[1,-2,18446744073709551615,null,true]}"
        );
        assert_eq!(
            indented_json(&json!({"a": [1, 2.0], "b": [], "c": {}})),
            "{\n  \"a\": [\n    1,\n    2.0\n  ],\n  \"b\": [],\n  \"c\": {}\n}"
        );
    }

    proptest! {
        #[test]
        fn floats_read_back(value in any::<f64>().prop_filter("JSON has finite numbers only", |value| value.is_finite())) {
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
            let Value::Number(number) = serde_json::from_str(&float(value)).unwrap() else { panic!("not a number") };
            prop_assert!(number.is_f64(), "stays a floating-point number");
        }
    }
}
