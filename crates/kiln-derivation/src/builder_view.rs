//! What the builder of a derivation sees: its program, arguments, environment, and the files that it finds in its build
//! directory. A function of plain values; nothing here looks at the machine.

use std::collections::BTreeMap;

use kiln_hash::Sha256;
use kiln_store_path::{OutputName, Placeholder, StoreDir, StorePath};

use crate::derivation::{Derivation, DerivationKind};
use crate::options::BuildOptions;
use crate::references_graph::{GraphMember, graph_text};
use crate::rewrites::Rewrites;
use crate::structured_files::{attrs_json, attrs_sh};

/// The file in the build directory with the structured attributes as JSON.
pub const ATTRS_JSON_FILE: &str = ".attrs.json";

/// The file in the build directory with the structured attributes as declarations for bash.
pub const ATTRS_SH_FILE: &str = ".attrs.sh";

/// What is known about a build that is about to start.
#[derive(Clone, Debug)]
pub struct BuildContext<'a> {
    /// The store directory.
    pub store_dir: &'a StoreDir,
    /// The build directory as the builder sees it.
    pub build_directory: &'a [u8],
    /// The setting `cores`; 0 leaves the number to the builder.
    pub cores: u64,
    /// Where the builder shall put each output: its path or a scratch path.
    pub output_paths: &'a BTreeMap<OutputName, StorePath>,
    /// Digests to replace beside the placeholders of the outputs: those of outputs that go to scratch paths.
    pub redirections: &'a [(StorePath, StorePath)],
    /// The engine's values of the variables that [`BuildOptions::impure_environment_variables`] names, as far as they are
    /// set.
    pub impure_values: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    /// The closures that [`BuildOptions::references_graphs`] asks for, by their names.
    pub references_graphs: &'a BTreeMap<String, Vec<GraphMember>>,
}

/// What the builder sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderView {
    /// The program, or `builtin:NAME`.
    pub builder: Vec<u8>,
    /// Its arguments, without its own name.
    pub arguments: Vec<Vec<u8>>,
    /// Its whole environment.
    pub environment: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Files in the build directory by their names.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl BuilderView {
    /// What the builder of `derivation` sees.
    pub fn new(derivation: &Derivation, options: &BuildOptions, context: &BuildContext<'_>) -> Self {
        let rewrites = rewrites(context);
        let mut view = Self {
            builder: rewrites.apply(&derivation.builder).into_owned(),
            arguments: derivation
                .arguments
                .iter()
                .map(|argument| rewrites.apply(argument).into_owned())
                .collect(),
            environment: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        view.set_base(context);
        match &derivation.structured_attrs {
            Some(attrs) => {
                let value = attrs_json(attrs.attributes(), context);
                view.place(ATTRS_SH_FILE, attrs_sh(&value).into_bytes());
                view.place(ATTRS_JSON_FILE, crate::canonical_json(&value).into_bytes());
                view.set("NIX_ATTRS_JSON_FILE", in_directory(context, ATTRS_JSON_FILE));
                view.set("NIX_ATTRS_SH_FILE", in_directory(context, ATTRS_SH_FILE));
            }
            None => view.set_variables(derivation, options, context),
        }
        view.set_engine_variables(derivation, options, context);
        view.rewrite(&rewrites);
        view
    }

    /// Variables that the derivation may override.
    fn set_base(&mut self, context: &BuildContext<'_>) {
        self.set("PATH", "/path-not-set");
        self.set("HOME", "/homeless-shelter");
        self.set("NIX_STORE", context.store_dir.as_str());
        self.set("NIX_BUILD_CORES", context.cores.to_string());
    }

    /// The derivation's own variables, some of them as files, and the graphs.
    fn set_variables(&mut self, derivation: &Derivation, options: &BuildOptions, context: &BuildContext<'_>) {
        for (name, value) in &derivation.environment {
            if options.pass_as_file.contains(name) {
                let file = pass_as_file_name(name);
                let variable = [name.as_slice(), b"Path"].concat();
                self.set(variable, in_directory(context, &file));
                self.place(&file, value.clone());
            } else {
                self.set(name.as_slice(), value.as_slice());
            }
        }
        for (file, members) in context.references_graphs {
            self.place(file, graph_text(context.store_dir, members));
        }
    }

    /// Variables that the derivation cannot override.
    fn set_engine_variables(
        &mut self,
        derivation: &Derivation,
        options: &BuildOptions,
        context: &BuildContext<'_>,
    ) {
        for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
            self.set(name, context.build_directory);
        }
        let kind = derivation.kind().ok();
        if kind == Some(DerivationKind::Fixed) {
            self.set("NIX_OUTPUT_CHECKED", "1");
        }
        if kind.is_some_and(DerivationKind::may_be_impure) {
            for name in &options.impure_environment_variables {
                let value = context.impure_values.get(name).map(Vec::as_slice).unwrap_or_default();
                self.set(name.as_slice(), value);
            }
        }
        self.set("NIX_LOG_FD", "2");
        self.set("TERM", "xterm-256color");
    }

    fn set(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.environment.insert(name.into(), value.into());
    }

    fn place(&mut self, file: &str, content: Vec<u8>) {
        self.files.insert(file.to_owned(), content);
    }

    fn rewrite(&mut self, rewrites: &Rewrites) {
        self.environment = std::mem::take(&mut self.environment)
            .into_iter()
            .map(|(name, value)| (rewrites.apply_owned(name), rewrites.apply_owned(value)))
            .collect();
        for content in self.files.values_mut() {
            *content = rewrites.apply_owned(std::mem::take(content));
        }
    }
}

/// What must be replaced in everything that the builder gets.
fn rewrites(context: &BuildContext<'_>) -> Rewrites {
    let mut rewrites = Rewrites::new();
    for (output, path) in context.output_paths {
        rewrites.insert(Placeholder::own_output(output).to_string(), context.store_dir.print(path));
    }
    for (from, to) in context.redirections {
        rewrites.redirect(from, to);
    }
    rewrites
}

fn in_directory(context: &BuildContext<'_>, file: &str) -> Vec<u8> {
    [context.build_directory, b"/", file.as_bytes()].concat()
}

/// The file in the build directory that holds the value of a variable named in `passAsFile`.
pub fn pass_as_file_name(variable: &[u8]) -> String {
    format!(".attr-{}", Sha256::of(variable).nix32())
}

#[cfg(test)]
mod tests {
    use kiln_store_path::StorePathName;

    use super::*;
    use crate::aterm::Strictness;

    fn derivation(text: &str) -> Derivation {
        let name = StorePathName::new("t").unwrap();
        Derivation::parse_aterm(text.as_bytes(), &name, &StoreDir::default(), Strictness::Strict).unwrap()
    }

    fn view(derivation: &Derivation, context: &BuildContext<'_>) -> BuilderView {
        BuilderView::new(derivation, &BuildOptions::of(derivation).unwrap(), context)
    }

    fn context<'a>(
        store_dir: &'a StoreDir,
        output_paths: &'a BTreeMap<OutputName, StorePath>,
        redirections: &'a [(StorePath, StorePath)],
        impure_values: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> BuildContext<'a> {
        const NO_GRAPHS: &BTreeMap<String, Vec<GraphMember>> = &BTreeMap::new();
        BuildContext {
            store_dir,
            build_directory: b"/build",
            cores: 0,
            output_paths,
            redirections,
            impure_values,
            references_graphs: NO_GRAPHS,
        }
    }

    /// B2: placeholders of own outputs and redirected digests, in the builder, arguments, variables and files.
    #[test]
    fn placeholders_and_redirected_digests_are_replaced_everywhere() {
        let own = Placeholder::own_output(&OutputName::out()).to_string();
        let elsewhere = "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
        let text = format!(
            r#"Derive([("out","","r:sha256","")],[],[],"x","{own}/b",["-o{own}","{elsewhere}"],[("f","see {own}"),("n{own}","v"),("passAsFile","f"),("x","{elsewhere}")])"#
        );
        let (store_dir, impure) = (StoreDir::default(), BTreeMap::new());
        let scratch: StorePath = "00000000000000000000000000000000-t".parse().unwrap();
        let outputs = [(OutputName::out(), scratch)].into();
        let redirections = [(
            store_dir.parse(elsewhere).unwrap(),
            "11111111111111111111111111111111-simple".parse::<StorePath>().unwrap(),
        )];
        let view = view(&derivation(&text), &context(&store_dir, &outputs, &redirections, &impure));
        let out = "/nix/store/00000000000000000000000000000000-t";
        let redirected = "/nix/store/11111111111111111111111111111111-simple";
        assert_eq!(view.builder, format!("{out}/b").into_bytes());
        assert_eq!(view.arguments, [format!("-o{out}").into_bytes(), redirected.into()]);
        assert_eq!(view.environment[&b"x"[..]], redirected.as_bytes());
        assert_eq!(view.environment[format!("n{out}").as_bytes()], b"v");
        assert_eq!(view.files[&pass_as_file_name(b"f")], format!("see {out}").into_bytes());
    }

    /// B1: the engine's variables reach the builders of fixed outputs only, and win over the derivation's own.
    #[test]
    fn impure_variables() {
        let variables = r#"("NIX_OUTPUT_CHECKED","no"),("PWD","/"),("TERM","dumb"),("impureEnvVars","proxy unset"),("proxy","own")"#;
        let fixed = format!(
            r#"Derive([("out","/nix/store/aj0ndnjjchs49vk8x5ralwx6d9f4xzj4-t","sha256","5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")],[],[],"x","y",[],[{variables}])"#
        );
        let floating = format!(r#"Derive([("out","","r:sha256","")],[],[],"x","y",[],[{variables}])"#);
        let impure = format!(r#"Derive([("out","","r:sha256","impure")],[],[],"x","y",[],[{variables}])"#);
        let (store_dir, outputs) = (StoreDir::default(), BTreeMap::new());
        let values =
            [(b"proxy".to_vec(), b"engine".to_vec()), (b"other".to_vec(), b"secret".to_vec())].into();
        let seen = |text: &str, name: &str| {
            let view = view(&derivation(text), &context(&store_dir, &outputs, &[], &values));
            view.environment.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        for (text, checked, proxy, unset) in [
            (&fixed, "1", "engine", Some("")),
            (&impure, "no", "engine", Some("")),
            (&floating, "no", "own", None),
        ] {
            assert_eq!(seen(text, "NIX_OUTPUT_CHECKED").as_deref(), Some(checked));
            assert_eq!(seen(text, "proxy").as_deref(), Some(proxy));
            assert_eq!(seen(text, "unset").as_deref(), unset);
            assert_eq!(seen(text, "other"), None);
            assert_eq!(seen(text, "PWD").as_deref(), Some("/build"));
            assert_eq!(seen(text, "TERM").as_deref(), Some("xterm-256color"));
            assert_eq!(seen(text, "PATH").as_deref(), Some("/path-not-set"));
        }
    }

    /// B3: a variable that is named like the path of a file comes after it and wins.
    #[test]
    fn a_variable_may_shadow_the_path_of_a_file() {
        let text = r#"Derive([("out","","r:sha256","")],[],[],"x","y",[],[("f","content"),("fPath","own"),("passAsFile","f g")])"#;
        let (store_dir, outputs, values) = (StoreDir::default(), BTreeMap::new(), BTreeMap::new());
        let view = view(&derivation(text), &context(&store_dir, &outputs, &[], &values));
        assert_eq!(view.environment[&b"fPath"[..]], b"own");
        assert!(!view.environment.contains_key(&b"f"[..]));
        assert_eq!(view.files.len(), 1, "a variable that does not exist gives no file");
    }
}
