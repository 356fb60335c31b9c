//! Tests of the exact text of each format.

use super::*;
use crate::answer::{OutputMeaning, Score};

fn view() -> AnswerOptions {
    AnswerOptions {
        labels: ["cat, small", "dog"].map(String::from).to_vec(),
        top_k: 2,
        threshold: None,
        score: Score::Probability,
        meaning: OutputMeaning::Logits,
        all_scores: false,
        features: None,
    }
}

fn written(format: RowFormat, view: &AnswerOptions) -> String {
    let mut out = Vec::new();
    let mut sink = open(format, Box::new(&mut out), view, true).unwrap();
    let one =
        Predictions { predictions: vec![(0, 0.75)], scores: vec![0.75, 0.25], features: vec![0.5, -1.0] };
    let two = Predictions { predictions: vec![(1, 0.5), (0, 0.5)], ..one.clone() };
    sink.write("a.png", Ok(&one)).unwrap();
    sink.write("b \"c\".png", Ok(&two)).unwrap();
    sink.write("d.png", Err("cut\nshort")).unwrap();
    sink.flush().unwrap();
    drop(sink);
    String::from_utf8(out).unwrap()
}

#[test]
fn csv_rows() {
    let expected = "\
path,label,index,score,label_2,index_2,score_2,error
a.png,\"cat, small\",0,0.750000,,,,
\"b \"\"c\"\".png\",dog,1,0.500000,\"cat, small\",0,0.500000,
d.png,,,,,,,cut short
";
    assert_eq!(written(RowFormat::Csv, &view()), expected);
    let wide = AnswerOptions { top_k: 1, all_scores: true, features: Some(2), score: Score::Logit, ..view() };
    let expected = "\
path,label,index,score,\"score.cat, small\",score.dog,feature.0,feature.1,error
a.png,\"cat, small\",0,0.75,0.75,0.25,0.5,-1,
\"b \"\"c\"\".png\",dog,1,0.5,0.75,0.25,0.5,-1,
d.png,,,,,,,,cut short
";
    assert_eq!(written(RowFormat::Csv, &wide), expected);
}

#[test]
fn json_lines() {
    let expected = r#"
{"path":"a.png","predictions":[{"label":"cat, small","index":0,"score":0.75}],"error":null}
{"path":"b \"c\".png","predictions":[{"label":"dog","index":1,"score":0.5},{"label":"cat, small","index":0,"score":0.5}],"error":null}
{"path":"d.png","predictions":[],"error":"cut short"}
"#;
    assert_eq!(written(RowFormat::Jsonl, &view()), expected.trim_start());
    let wide = AnswerOptions { top_k: 1, all_scores: true, features: Some(2), ..view() };
    let last = r#"{"path":"d.png","predictions":[],"scores":[],"features":[],"error":"cut short"}"#;
    assert!(written(RowFormat::Jsonl, &wide).ends_with(&format!("{last}\n")));
}

#[test]
fn text_for_the_eye() {
    let expected = "\
a.png: cat, small 75.0 %
b \"c\".png: dog 50.0 %, cat, small 50.0 %
d.png: error: cut short
";
    assert_eq!(written(RowFormat::Text, &view()), expected);
}
