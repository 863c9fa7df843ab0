//! Recipes that are broken, hostile or huge are refused, in bounded time and memory, without a panic.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "support/pretend_store.rs"]
mod pretend_store;

use kiln_recipe::{Problem, Recipe, RecipeError};
use kiln_store_path::StoreDir;
use pretend_store::PretendStore;
use proptest::prelude::*;

/// A recipe with something of everything.
const SAMPLE: &str = r#"default = ["hello", "greet.dev"]
[defaults]
system = "x86_64-linux"
builder = "/bin/sh"
env = { PATH = "/bin:/usr/bin" }
[source]
main = { path = "src", name = "main", exclude = ["*.o", "!a.o", "/b/**/[a-z]?/"] }
[derivation.greet]
name = "greet-1.0"
args = ["-c", "cp ${source.main}/é $$${placeholder.dev} $${x}"]
outputs = ["out", "dev"]
[derivation.text]
outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="
outputHashMode = "recursive"
[derivation.floating]
contentAddressed = true
[derivation.hello]
structuredAttrs = true
env.list = [1, 2.5, true, { a = { output = "greet" } }, { verbatim = "${y}" }]
env.src = { path = "./b" }
env.more = """
${text} ${floating.out}"""
"#;

/// Reads a recipe and, if it is one, makes its derivations; what an error says must be fit to be shown.
fn read(bytes: &[u8]) -> Result<usize, RecipeError> {
    let made = Recipe::parse("kiln.toml", bytes).and_then(|recipe| {
        let mut store = PretendStore::default();
        recipe.instantiate(&recipe.default_targets(), "host-system", &StoreDir::default(), &mut store)?;
        Ok(store.derivations.len())
    });
    if let Err(error) = &made {
        let message = error.to_string();
        assert!(message.starts_with("kiln.toml:"), "{message}");
        assert!(message.len() < 10_000, "{message}");
        assert!(
            !message.contains(|character: char| character.is_control() && character != '\n'),
            "{message:?}"
        );
    }
    made
}

#[test]
fn the_sample_is_whole() {
    assert_eq!(read(SAMPLE.as_bytes()).unwrap_or_else(|error| panic!("{error}")), 4);
}

#[test]
fn every_truncation_is_read_or_refused() {
    let refused = (0..SAMPLE.len()).filter(|end| read(&SAMPLE.as_bytes()[..*end]).is_err()).count();
    assert!(refused > SAMPLE.len() / 2, "{refused} of {} truncations are refused", SAMPLE.len());
}

#[test]
fn every_flipped_bit_is_read_or_refused() {
    for index in 0..SAMPLE.len() {
        for bit in 0..8 {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            bytes[index] ^= 1 << bit;
            let _ = read(&bytes);
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_where_they_are() {
    let error = read(b"# ok\n[derivation.x]\nbuilder = \"/bin/\xffsh\"\n").unwrap_err();
    assert!(matches!(error.problem(), Problem::NotUtf8));
    assert_eq!(error.position().unwrap().to_string(), "3:17");
    assert!(read(b"\xc3").is_err());
}

#[test]
fn too_large_recipes_are_not_read() {
    let error = read(&vec![b'#'; (1 << 20) + 1]).unwrap_err();
    assert!(matches!(error.problem(), Problem::TooLarge { .. }));
    assert_eq!(read(&vec![b'#'; 1 << 20]).unwrap(), 0);
}

#[test]
fn deep_nesting_is_refused() {
    let derivation = "[derivation.x]\nbuilder = 'x'\nstructuredAttrs = true\nenv.x = ";
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let nested = |depth: usize| format!("{derivation}{}1{}\n", open.repeat(depth), close.repeat(depth));
        assert_eq!(read(nested(60).as_bytes()).unwrap(), 1);
        for depth in [65, 70, 79, 80, 81, 1_000, 100_000] {
            assert!(read(nested(depth).as_bytes()).is_err(), "{depth}");
        }
        let unclosed = format!("{derivation}{}", open.repeat(200_000));
        assert!(read(unclosed.as_bytes()).is_err());
    }
    let dotted = format!("{derivation}1\n[derivation.x.env{}]\n", ".a".repeat(70));
    assert!(read(dotted.as_bytes()).is_err());
}

/// Brackets and the dots of keys multiply, also where the text is broken.
#[test]
fn nesting_by_dotted_keys_is_refused() {
    let key = format!("a{}", ".a".repeat(75));
    for step in [
        "=K{", "K={", "K\n=\n{", "K={]", "K=[{", "K=[}{", "K={x=[1,", "K=={", "K={\"", "{K", "K={},K={",
        "K={#\n",
    ] {
        let step = step.replace('K', &key);
        for count in [3, 75, 500] {
            let text = format!("[derivation.{key}]\n{}1{}\n", step.repeat(count), "}".repeat(count));
            assert!(read(text.as_bytes()).is_err(), "{step}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    for number in [
        "9223372036854775808",
        "-9223372036854775809",
        "0xffffffffffffffff",
        &"9".repeat(100_000),
        "1e999",
        "nan",
        "+inf",
    ] {
        let text = format!("[derivation.x]\nbuilder = 'x'\nenv.n = {number}\n");
        assert!(read(text.as_bytes()).is_err(), "{number}");
    }
    assert!(read(b"[derivation.x]\nbuilder = 'x'\nenv = { a = -9223372036854775808, b = 1_000, c = 0b11, d = 1e300 }\n").is_ok());
}

#[test]
fn circles_of_every_length_are_refused() {
    for length in 1..=30 {
        let mut text = String::new();
        for index in 0..length {
            let next = (index + 1) % length;
            text.push_str(&format!("[derivation.d{index}]\nbuilder = 'x'\nargs = ['${{d{next}}}']\n"));
        }
        let error = read(text.as_bytes()).unwrap_err();
        assert!(matches!(error.problem(), Problem::Cycle(names) if names.len() == length), "{error}");
    }
    let long: String = (0..15_000)
        .map(|index| format!("[derivation.d{index}]\nbuilder='${{d{}}}'\n", (index + 1) % 15_000))
        .collect();
    assert!(read(long.as_bytes()).is_err());
}

#[test]
fn a_long_chain_is_read() {
    let count = 3_000;
    let mut text = "[derivation.d0]\nbuilder = 'x'\n".to_owned();
    for index in 1..count {
        text.push_str(&format!("[derivation.d{index}]\nbuilder = '${{d{}}}'\n", index - 1));
    }
    assert_eq!(read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}")), count);
}

#[test]
fn defaults_do_not_multiply_without_bound() {
    let mut text = "[defaults]\nbuilder = 'x'\n[defaults.env]\n".to_owned();
    text.extend((0..20_000).map(|index| format!("a{index}=1\n")));
    text.push_str("[derivation]\n");
    text.extend((0..20_000).map(|index| format!("d{index}={{}}\n")));
    let error = read(text.as_bytes()).unwrap_err();
    assert!(matches!(error.problem(), Problem::TooManyValues(_)), "{error}");
}

#[test]
fn many_outputs_and_references_to_them_are_bounded() {
    let recipe = |outputs: usize| {
        let names: String = (0..outputs).map(|index| format!("'o{index}',")).collect();
        let references = format!("${{x.o{}}}", outputs - 1).repeat(20_000);
        format!(
            "[derivation]\nx = {{ builder = 'x', outputs = [{names}] }}\ny = {{ builder = '{references}' }}\n"
        )
    };
    assert_eq!(read(recipe(1_000).as_bytes()).unwrap(), 2);
    assert!(matches!(read(recipe(1_001).as_bytes()).unwrap_err().problem(), Problem::TooManyOutputs(_)));
}

#[test]
fn huge_names_and_strings_make_short_messages() {
    let long = "n".repeat(200_000);
    for text in [
        format!("{long} = 1\n"),
        format!("[derivation.{long}]\nbuilder = 'x'\n"),
        format!("[derivation.x]\nbuilder = '${{{long}}}'\n"),
        format!("[derivation.x]\nbuilder = '${{{long}-}}'\n"),
        format!("[derivation.x]\nbuilder = '${{x.{long}}}'\n"),
        format!("[derivation.x]\nbuilder = '${{source.{long}}}'\n"),
        format!("[derivation.x]\nbuilder = 'x'\noutputs = ['{long}']\n"),
        format!("[derivation.x]\nbuilder = 'x'\noutputHash = '{long}'\n"),
        format!("[derivation.x]\nbuilder = 'x'\noutputHash = 'sha256-{long}'\n"),
        format!("[derivation.x]\nbuilder = 'x'\noutputHash = '{long}:x'\n"),
        format!("[derivation.x]\nbuilder = 'x'\noutputHashMode = '{long}'\n"),
        format!("[derivation.x]\nbuilder = 'x'\nenv = {{ '{long}=' = '' }}\n"),
        format!("[source.x]\npath = '{long}'\n"),
        format!("[source.x]\npath = 'x'\nexclude = ['{long}[']\n"),
        format!("[source.x]\nstorePath = '{long}'\n[derivation.x]\nbuilder = '${{source.x}}'\n"),
        format!("default = '{long}'\n"),
    ] {
        assert!(read(text.as_bytes()).is_err(), "{}", &text[..40]);
    }
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    /// Lines of recipes in any order are more often recipes than random bytes are.
    #[test]
    fn shuffled_lines_are_read_or_refused(lines in proptest::collection::vec(prop_oneof![
        proptest::sample::select(SAMPLE.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
        "[a-z.]{1,9} = [\"'\\[{$}a-z0-9. ]{0,12}",
        "\\[(source|derivation|defaults)\\.[a-z\"]{1,5}\\]",
    ], 0..12)) {
        let _ = read(lines.join("\n").as_bytes());
    }
}
