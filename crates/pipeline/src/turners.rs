//! Which attribute model turns the crops of which: what a manifest's `turned_by` comes to in one pipeline.

use framepipe_model::{AttributesSpec, Manifest, ManifestError};

use crate::plan::PlanError;

/// By attribute model: the index of the one before it that says which of its crops are upside down.
pub(crate) fn turners(labels: &[String], attributes: &[Manifest]) -> Result<Vec<Option<usize>>, PlanError> {
    let specs = attributes.iter().map(Manifest::attributes).collect::<Result<Vec<_>, ManifestError>>()?;
    let turner = |(model, spec): (usize, &&AttributesSpec)| {
        let Some(by) = &spec.turned_by else { return Ok(None) };
        turner_of(model, by, labels, attributes, &specs).map(Some).map_err(|what| PlanError::Turner {
            model: attributes[model].name.clone(),
            by: by.clone(),
            what,
        })
    };
    specs.iter().enumerate().map(turner).collect()
}

/// The one model whose attribute `by` turns the crops of `model`; `Err` says what is wrong and what to do.
fn turner_of(
    model: usize,
    by: &str,
    labels: &[String],
    attributes: &[Manifest],
    specs: &[&AttributesSpec],
) -> Result<usize, String> {
    let output = |at: usize| specs[at].outputs.iter().find(|output| output.name == by);
    let sayers: Vec<usize> = (0..specs.len()).filter(|at| output(*at).is_some()).collect();
    let name = |at: usize| &attributes[at].name;
    let turner = match sayers[..] {
        [] => return Err("no attribute model of the pipeline has an output of that name: add one before it".into()),
        [turner] if turner == model => return Err("that is its own: it needs that of a model before it".into()),
        [turner] => turner,
        [one, other, ..] => return Err(format!("both {} and {} say that: take one out", name(one), name(other))),
    };
    let other = name(turner);
    if turner > model {
        return Err(format!("{other} comes after it: put {other} before it in pipeline.attributes"));
    }
    if output(turner).is_some_and(|output| output.turns.is_none()) {
        return Err(format!(
            "{other} does not say which of its labels turns: write turns = {{ label = \"…\", score_min = 0.9 }} below \
             that output in its manifest"
        ));
    }
    if let Some(first) = &specs[turner].turned_by {
        return Err(format!("{other} has its own crops turned, by {first:?}: have these turned by {first:?} too"));
    }
    let is_missing =
        |label: &&String| specs[model].applies_to.contains(*label) && !specs[turner].applies_to.contains(*label);
    match labels.iter().find(is_missing) {
        Some(label) => Err(format!("{other} does not apply to {label:?}: add it to the applies_to of {other}")),
        None => Ok(turner),
    }
}

#[cfg(test)]
mod tests;
