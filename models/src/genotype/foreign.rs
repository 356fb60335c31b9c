//! Architectures of other programs, which are recognised but are not genotypes.

use crate::Error;

/// Whether a text is an architecture of NNI, with one entry for each choice of its model space.
pub(super) fn is_nni(text: &str) -> bool {
    let keys = text.split(['"', '\'']).skip(1).step_by(2);
    let is_choice = |key: &str| {
        let (cell, choice) = key.split_once('/').unwrap_or(("", key));
        let numbered = |word: &str| {
            let rest = choice.strip_prefix(word);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let labels = ["LayerChoice", "InputChoice", "chosen_layer", "chosen_inputs"];
        labels.iter().any(|label| choice.starts_with(label))
            || (!cell.is_empty() && ["op_", "input_"].into_iter().any(numbered))
            || ["normal_n", "reduce_n"].into_iter().any(numbered)
    };
    keys.take(1000).any(is_choice)
}

/// Returns the error for such a text.
pub(super) fn nni(place: &str) -> Error {
    let help = "help: write its cells as `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], ...)`, where \
                `normal/op_2_0` is the operation and `normal/input_2_0` the state of the first edge of node 2";
    Error::malformed(
        place,
        format!("this is NNI's architecture, a choice for each edge, and no genotype. {help}"),
    )
}
