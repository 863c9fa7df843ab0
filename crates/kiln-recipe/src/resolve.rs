//! What the names in a recipe refer to: each must be there, and the derivations must have an order in which each comes
//! after those that it needs.

use std::collections::BTreeMap;

use kiln_store_path::OutputName;
use toml::Spanned;

use crate::error::{Mistake, Problem};
use crate::interpolation::{Reference, SOURCE};
use crate::recipe::Target;
use crate::source_text::{Span, shown};
use crate::suggestion::closest;
use crate::syntax::{DerivationDeclaration, Document, Value, visit};

/// How many references of a circle a message shows.
const SHOWN_REFERENCES: usize = 8;

/// Checks all references and gives the names of the derivations in an order in which each comes after those that it
/// refers to.
pub(crate) fn resolve(document: &Document) -> Result<Vec<String>, Mistake> {
    let names: BTreeMap<&str, usize> =
        document.derivations.keys().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let mut needs = Vec::new();
    for (name, derivation) in &document.derivations {
        let mut needed = BTreeMap::new();
        for (reference, at) in references(derivation) {
            check(document, name, derivation, reference, at.clone())?;
            if let Reference::Output { derivation, .. } = reference
                && let Some(index) = names.get(derivation.as_str())
            {
                needed.entry(*index).or_insert_with(|| at.clone());
            }
        }
        needs.push(needed.into_iter().collect());
    }
    for target in &document.default {
        find_target(document, target.get_ref())
            .map_err(|mistake| Mistake { at: Some(target.span()), ..mistake })?;
    }
    let names: Vec<&String> = document.derivations.keys().collect();
    let name = |index: usize| names.get(index).map(|name| (*name).clone()).unwrap_or_default();
    match in_order(&needs) {
        Ok(order) => Ok(order.into_iter().map(name).collect()),
        Err(cycle) => Err(cycle_mistake(&cycle, name)),
    }
}

/// Every reference of a derivation and its place, those of the defaults among them.
pub(crate) fn references(derivation: &DerivationDeclaration) -> Vec<(&Reference, Span)> {
    let mut found = Vec::new();
    let own = derivation.env.values().map(AsRef::as_ref);
    let values = std::iter::once(derivation.builder.as_ref()).chain(derivation.args.iter()).chain(own);
    for value in values {
        visit(value, |value: &Spanned<Value>| match value.get_ref() {
            Value::Reference(reference) => found.push((reference, value.span())),
            Value::Text(template) => {
                found.extend(template.interpolations().map(|found| (&found.reference, found.at.clone())));
            }
            _ => {}
        });
    }
    found
}

/// Checks that what is referred to is there.
fn check(
    document: &Document,
    user: &str,
    user_declaration: &DerivationDeclaration,
    reference: &Reference,
    at: Span,
) -> Result<(), Mistake> {
    match reference {
        Reference::Source(name) if document.sources.contains_key(name) => Ok(()),
        Reference::Source(name) => {
            let suggestion = closest(name, document.sources.keys().map(String::as_str));
            Err(Mistake::new(Problem::UnknownSource(name.clone()), at).did_you_mean(suggestion))
        }
        Reference::Placeholder(output) => check_output(user, user_declaration, output, at),
        Reference::Output { derivation, output } => match (document.derivations.get(derivation), output) {
            (Some(declaration), Some(output)) => check_output(derivation, declaration, output, at),
            (Some(_), None) => Ok(()),
            (None, _) => Err(unknown_derivation(document, user_declaration, derivation, at)),
        },
    }
}

fn unknown_derivation(document: &Document, user: &DerivationDeclaration, name: &str, at: Span) -> Mistake {
    let mistake = Mistake::new(Problem::UnknownDerivation(name.to_owned()), at);
    if user.outputs.names.iter().any(|output| output.as_str() == name) {
        return mistake.help(format!(
            "for the path of this derivation's own output write '${{placeholder.{name}}}', or '${name}' in a shell script"
        ));
    }
    if document.sources.contains_key(name) {
        return mistake.help(format!("for the source of this name write '{SOURCE}.{name}'"));
    }
    match closest(name, document.derivations.keys().map(String::as_str)) {
        Some(suggestion) => mistake.did_you_mean(Some(suggestion)),
        None => mistake.help("for the two characters '${' themselves, write '$${'"),
    }
}

fn check_output(
    name: &str,
    declaration: &DerivationDeclaration,
    output: &str,
    at: Span,
) -> Result<(), Mistake> {
    let outputs = || declaration.outputs.names.iter().map(OutputName::as_str);
    if outputs().any(|name| name == output) {
        return Ok(());
    }
    let problem = Problem::UnknownOutput { derivation: name.to_owned(), output: shown(output) };
    let mistake = Mistake::new(problem, at);
    Err(match closest(output, outputs()) {
        Some(suggestion) => mistake.did_you_mean(Some(suggestion)),
        None => {
            mistake.help(format!("its outputs are: {}", outputs().take(20).collect::<Vec<_>>().join(", ")))
        }
    })
}

/// The target that `NAME` (all outputs) or `NAME.OUTPUT` means.
pub(crate) fn find_target(document: &Document, text: &str) -> Result<Target, Mistake> {
    let (name, output) = match text.split_once('.') {
        Some((name, output)) => (name, Some(output)),
        None => (text, None),
    };
    let Some(declaration) = document.derivations.get(name) else {
        let suggestion = closest(name, document.derivations.keys().map(String::as_str));
        return Err(Mistake::of_file(Problem::UnknownDerivation(shown(name))).did_you_mean(suggestion));
    };
    let names = &declaration.outputs.names;
    let outputs = match output {
        None => names.clone(),
        Some(output) => names.iter().filter(|known| known.as_str() == output).cloned().collect(),
    };
    if outputs.is_empty() {
        let output = output.unwrap_or_default();
        let suggestion = closest(output, names.iter().map(OutputName::as_str));
        let problem = Problem::UnknownOutput { derivation: name.to_owned(), output: shown(output) };
        return Err(Mistake::of_file(problem).did_you_mean(suggestion));
    }
    Ok(Target { derivation: name.to_owned(), outputs })
}

/// The nodes of a circle, each with the place of its reference to the next.
type Cycle = Vec<(usize, Span)>;

/// Orders nodes so that each comes after those that it needs.
fn in_order(needs: &[Vec<(usize, Span)>]) -> Result<Vec<usize>, Cycle> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        /// On the way from the start to the node that is looked at.
        Open,
        Done,
    }
    let mut states = vec![State::New; needs.len()];
    let mut order = Vec::with_capacity(needs.len());
    for start in 0..needs.len() {
        // The way to the current node: each node, and how many of its needs have been looked at.
        let mut way = vec![(start, 0)];
        while let Some((node, seen)) = way.last_mut() {
            let node = *node;
            if *seen == 0 && states.get(node) == Some(&State::Done) {
                way.pop();
                continue;
            }
            if let Some(state) = states.get_mut(node) {
                *state = State::Open;
            }
            let next = needs.get(node).and_then(|needs| needs.get(*seen));
            *seen += 1;
            match next.map(|(next, _)| (*next, states.get(*next))) {
                Some((next, Some(State::Open))) => return Err(cycle_of(&way, next, needs)),
                Some((next, Some(State::New))) => way.push((next, 0)),
                Some(_) => {}
                None => {
                    if let Some(state) = states.get_mut(node) {
                        *state = State::Done;
                    }
                    order.push(node);
                    way.pop();
                }
            }
        }
    }
    Ok(order)
}

/// The part of a way that begins at `first`, to which its last node refers.
fn cycle_of(way: &[(usize, usize)], first: usize, needs: &[Vec<(usize, Span)>]) -> Cycle {
    let circle = way.iter().skip_while(|(node, _)| *node != first);
    circle
        .filter_map(|(node, seen)| {
            let (_, at) = needs.get(*node)?.get(seen.checked_sub(1)?)?;
            Some((*node, at.clone()))
        })
        .collect()
}

fn cycle_mistake(cycle: &Cycle, name: impl Fn(usize) -> String) -> Mistake {
    let names: Vec<String> = cycle.iter().map(|(node, _)| name(*node)).collect();
    let at = cycle.first().map_or(0..0, |(_, at)| at.clone());
    let mut mistake = Mistake::new(Problem::Cycle(names.clone()), at);
    for (index, (node, at)) in cycle.iter().enumerate().skip(1).take(SHOWN_REFERENCES) {
        let next = names.get(index + 1).or(names.first()).cloned().unwrap_or_default();
        mistake = mistake.note(at.clone(), format!("'{}' refers to '{next}' here", name(*node)));
    }
    match names.as_slice() {
        [_] => mistake.help("for the path of its own output, write '${placeholder.out}'"),
        _ => mistake,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[&[usize]]) -> Vec<Vec<(usize, Span)>> {
        edges.iter().map(|needs| needs.iter().map(|need| (*need, 0..0)).collect()).collect()
    }

    #[test]
    fn what_is_needed_comes_first() {
        assert_eq!(in_order(&graph(&[&[1, 2], &[2], &[]])).unwrap(), [2, 1, 0]);
        assert_eq!(in_order(&graph(&[])).unwrap(), [0; 0]);
    }

    #[test]
    fn a_long_chain_does_not_recurse() {
        let count = 200_000;
        let needs: Vec<Vec<(usize, Span)>> = (0..count)
            .map(|node| if node + 1 < count { vec![(node + 1, 0..0)] } else { Vec::new() })
            .collect();
        assert_eq!(in_order(&needs).unwrap().first(), Some(&(count - 1)));
        let mut circle = needs;
        circle[count - 1].push((0, 0..0));
        assert_eq!(in_order(&circle).unwrap_err().len(), count);
    }

    #[test]
    fn circles_of_every_length_are_found() {
        for length in 1..20 {
            // A way of three nodes leads into the circle and is no part of it.
            let mut edges: Vec<Vec<usize>> = vec![vec![1], vec![2], vec![3]];
            edges.extend((0..length).map(|node| vec![3 + (node + 1) % length]));
            let edges: Vec<&[usize]> = edges.iter().map(Vec::as_slice).collect();
            let cycle: Vec<usize> =
                in_order(&graph(&edges)).unwrap_err().into_iter().map(|(node, _)| node).collect();
            assert_eq!(cycle, (3..3 + length).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn orders_or_finds_a_circle(edges in proptest::collection::vec(proptest::collection::vec(0_usize..12, 0..3), 12)) {
            let needs: Vec<Vec<(usize, Span)>> =
                edges.iter().map(|needs| needs.iter().map(|need| (*need, 0..0)).collect()).collect();
            match in_order(&needs) {
                Ok(order) => {
                    let place = |node: usize| order.iter().position(|other| *other == node).unwrap();
                    prop_assert_eq!(order.len(), edges.len());
                    for (node, needs) in edges.iter().enumerate() {
                        prop_assert!(needs.iter().all(|need| place(*need) < place(node)));
                    }
                }
                Err(cycle) => {
                    prop_assert!(!cycle.is_empty());
                    for (index, (node, _)) in cycle.iter().enumerate() {
                        let next = cycle[(index + 1) % cycle.len()].0;
                        prop_assert!(edges[*node].contains(&next));
                    }
                }
            }
        }
    }
}
