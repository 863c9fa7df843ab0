//! Placeholders: strings that stand for paths which are not known yet.

use std::fmt;

use kiln_hash::{Sha256, encoding, fold};

use crate::name::OutputName;
use crate::store_path::StorePath;

/// A string of `/` and 52 digits that stands for a path in a derivation's texts, until the path is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placeholder(Sha256);

impl Placeholder {
    /// Stands for an output of the derivation that it is used in.
    pub fn own_output(output: &OutputName) -> Self {
        Self(Sha256::of(format!("nix-output:{output}")))
    }

    /// Stands for an output of another derivation whose path is known only after its build.
    pub fn upstream_output(derivation: &StorePath, output: &OutputName) -> Self {
        let name = derivation.name();
        let name = name.strip_suffix(".drv").unwrap_or(name);
        let suffix = if output.is_out() { String::new() } else { format!("-{output}") };
        Self(Sha256::of(format!("nix-upstream-output:{}:{name}{suffix}", derivation.digest())))
    }

    /// Stands for an output of a derivation that is itself an output, which this placeholder stands for.
    pub fn computed_output(&self, output: &OutputName) -> Self {
        let parent = encoding::nix32(&fold(&self.0.0, 20));
        Self(Sha256::of(format!("nix-computed-output:{parent}:{output}")))
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.nix32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str) -> OutputName {
        OutputName::new(name).unwrap()
    }

    fn path(base_name: &str) -> StorePath {
        StorePath::from_base_name(base_name).unwrap()
    }

    #[test]
    fn known_placeholders() {
        for (placeholder, text) in [
            (
                Placeholder::own_output(&output("out")),
                "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9",
            ),
            (
                Placeholder::own_output(&output("dev")),
                "/02qcpld1y6xhs5gz9bchpxaw0xdhmsp5dv88lh25r2ss44kh8dxz",
            ),
            (
                Placeholder::upstream_output(
                    &path("73729r2qcgqncznjl19snx59k3qvqqp5-ca.drv"),
                    &output("out"),
                ),
                "/01d8a4rf5k20xs4apfmv705bpwk27pcj23gi2z6yj0mif9kwgc73",
            ),
            (
                Placeholder::upstream_output(
                    &path("a2xbd4fvhcwf205k2hpvx92iw5bnjcjx-ca-multi.drv"),
                    &output("dev"),
                ),
                "/0wj7khc0s1crbj3ckvn4v0ypc26kziwg7mgl5xc9c82nif8haxf3",
            ),
            (
                Placeholder::upstream_output(
                    &path("dhp61n06jgich8bq31zf3sh6cyiwa1ng-inner.drv.drv"),
                    &output("out"),
                )
                .computed_output(&output("out")),
                "/0zdqm8217wry0rwm4njn5cbwi0kjyqsp6kvsxmzl77vdx7yck56h",
            ),
        ] {
            assert_eq!(placeholder.to_string(), text);
        }
    }
}
