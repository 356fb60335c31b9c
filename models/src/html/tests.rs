//! Tests of the parts of a report.

use super::*;
use crate::metrics::{Ranked, Scores};

fn scores(classes: usize) -> (Vec<Ranked>, Scores) {
    let labels: Vec<String> = (0..classes).map(|i| format!("<{i}>")).collect();
    let answer = |class: usize| {
        let mut logits = vec![0.0; classes];
        logits[(class + usize::from(class.is_multiple_of(7))) % classes] = 1.0 + class as f32;
        Ranked::new(&logits, class as u32)
    };
    let ranked: Vec<Ranked> = (0..classes).map(answer).collect();
    let scores = Scores::new(&ranked, &labels);
    (ranked, scores)
}

#[test]
fn names_are_escaped_and_nothing_is_loaded() {
    let (ranked, scores) = scores(10);
    let body = classes(&scores) + &confusion(&scores).unwrap() + &frequent_confusions(&scores);
    let body = body + &calibration(&ranked) + &facts(&[("a<b", "c&d".into())]) + &figure("e>f", "<b></b>");
    let report = HtmlReport { title: "a & \"b\"", body: &body, style: "", reload: Some(30) };
    let text = report.document();
    assert!(text.contains("<h1>a &amp; &quot;b&quot;</h1>") && text.contains("content=\"30\""));
    assert!(text.contains("&lt;3&gt;") && !text.contains("<3>") && text.contains("a&lt;b"));
    assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("<script"));
    assert!(!HtmlReport { reload: None, ..report }.document().contains("refresh"));
}

#[test]
fn many_classes_have_no_matrix() {
    let (_, scores) = scores(41);
    assert!(confusion(&scores).is_none());
    let text = frequent_confusions(&scores);
    assert!(
        text.contains("41 classes") && text.contains("<th scope=\"row\">&lt;0&gt;</th><td>&lt;1&gt;</td>")
    );
}

#[test]
fn a_percentage_that_is_not_known_is_a_dash() {
    assert_eq!((percent(0.125), percent(f64::NAN)), ("12.50 %".into(), "-".into()));
}
