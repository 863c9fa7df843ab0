//! The references of paths as pictures for other programs: Graphviz' DOT, and GraphML.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use super::Infos;

/// The colours of edges, in turn.
const COLOURS: [&str; 6] = ["black", "red", "green", "blue", "magenta", "burlywood"];

const GRAPHML_START: &str = "\
<?xml version='1.0' encoding='utf-8'?>
<graphml xmlns='http://graphml.graphdrawing.org/xmlns'
    xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'
    xsi:schemaLocation='http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd'>
<key id='narSize' for='node' attr.name='narSize' attr.type='int'/>\
<key id='name' for='node' attr.name='name' attr.type='string'/>\
<key id='type' for='node' attr.name='type' attr.type='string'/><graph id='G' edgedefault='directed'>
";

/// The graph below `start` as DOT.
pub(super) fn dot(start: &BTreeSet<StorePath>, infos: &Infos) -> String {
    let mut text = "digraph G {\n".to_owned();
    let mut colours = COLOURS.iter().cycle();
    each(start, infos, |info, others| {
        let (node, name) = (&info.path, info.path.name());
        let _ = writeln!(
            text,
            "\"{node}\" [label = \"{name}\", shape = box, style = filled, fillcolor = \"#ff0000\"];"
        );
        for reference in others {
            let colour = colours.next().unwrap_or(&"black");
            let _ = writeln!(text, "\"{reference}\" -> \"{node}\" [color = \"{colour}\"];");
        }
    });
    text + "}\n"
}

/// The graph below `start` as GraphML.
pub(super) fn graphml(start: &BTreeSet<StorePath>, infos: &Infos) -> String {
    let mut text = GRAPHML_START.to_owned();
    each(start, infos, |info, others| {
        let (node, size) = (&info.path, info.nar_size);
        // Nix shows the name up to its first dash.
        let name =
            node.name().split_inclusive('-').next().filter(|part| part.ends_with('-')).unwrap_or_default();
        let kind = if node.is_derivation() { "derivation" } else { "output-path" };
        let _ = write!(
            text,
            "  <node id=\"{node}\">\n    <data key=\"narSize\">{size}</data>\n    <data key=\"name\">{name}</data>\n    \
             <data key=\"type\">{kind}</data>\n  </node>\n"
        );
        for reference in others {
            let _ = writeln!(text, "  <edge source=\"{node}\" target=\"{reference}\"/>");
        }
    });
    text + "</graph>\n</graphml>\n"
}

/// Calls `take` for each path below `start`, the first by name of those that are known next, with its references to others.
fn each(start: &BTreeSet<StorePath>, infos: &Infos, mut take: impl FnMut(&PathInfo, &[&StorePath])) {
    let mut open: BTreeSet<&StorePath> = start.iter().collect();
    let mut done = BTreeSet::new();
    while let Some(path) = open.pop_first() {
        let Some(info) = infos.get(path).filter(|_| done.insert(path)) else { continue };
        let others: Vec<&StorePath> =
            info.references.iter().filter(|reference| **reference != info.path).collect();
        take(info, &others);
        open.extend(others.into_iter().filter(|reference| !done.contains(reference)));
    }
}
