//! Charts as plain SVG: lines, stacked layers, points. Colours are the CSS classes `c0` to `c7` of the report's
//! style, dashes `d0` to `d3`.
//!
//! Established SVG libraries set colours and fonts in every element. The report sets them in one style sheet,
//! for light and dark screens, phones and paper. Libraries that draw in the browser need a script.

use std::fmt::Write;

use milenas_models::html::escaped;

/// Width of a chart, in pixels. It fits a phone without scaling.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 200.0;
/// Margins around the plot: left, right, top, bottom.
const MARGINS: [f64; 4] = [54.0, 10.0, 12.0, 32.0];

/// Curve, or set of points.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y) in order.
    pub points: Vec<(f64, f64)>,
}

/// Mapping from values to positions in the chart.
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
    /// Minimum distance between two labels of the vertical axis: 1 where all values are counts.
    least: f64,
}

impl Axes {
    /// Returns axes that enclose all finite points.
    fn bounds<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<Axes> {
        let mut axes: Option<Axes> = None;
        for &(px, py) in points.filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let Axes { x, y, least } = axes.get_or_insert(Axes { x: [px, px], y: [py, py], least: 1.0 });
            *x = [x[0].min(px), x[1].max(px)];
            *y = [y[0].min(py), y[1].max(py)];
            if py.fract() != 0.0 {
                *least = 0.0;
            }
        }
        let mut axes = axes?;
        for range in [&mut axes.x, &mut axes.y] {
            if range[0] == range[1] {
                // A single value is centred.
                let room = range[0].abs().max(1.0) * 0.5;
                *range = [range[0] - room, range[1] + room];
            }
        }
        Some(axes)
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, right, top, bottom] = MARGINS;
        let part = |v: f64, range: [f64; 2]| (v - range[0]) / (range[1] - range[0]);
        let x = left + part(x, self.x) * (WIDTH - left - right);
        (x, HEIGHT - bottom - part(y, self.y) * (HEIGHT - top - bottom))
    }

    fn frame(&self, svg: &mut String, x_name: &str) {
        let [left, right, ..] = MARGINS;
        let heights = ticks(self.y[0], self.y[1], self.least);
        for &y in &heights {
            let (_, at) = self.at(self.x[0], y);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                WIDTH - right,
                left - 5.0,
                at + 4.0,
                tick(y, &heights)
            );
        }
        // Epochs, evaluations and parameters are counts.
        for x in ticks(self.x[0], self.x[1], 1.0) {
            let (at, _) = self.at(x, self.y[0]);
            let place = HEIGHT - MARGINS[3] + 14.0;
            let _ =
                write!(svg, "<text x=\"{at:.1}\" y=\"{place}\" text-anchor=\"middle\">{}</text>", short(x));
        }
        let middle = (left + WIDTH - right) / 2.0;
        let _ = write!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 4.0,
            escaped(x_name)
        );
    }
}

/// Returns some round values from `low` to `high`, at least `least` apart.
fn ticks(low: f64, high: f64, least: f64) -> Vec<f64> {
    let rough = ((high - low) / 4.0).max(least);
    let magnitude = 10f64.powf(rough.log10().floor());
    let at = |step: f64| -> Vec<f64> {
        let first = (low / step).ceil() as i64;
        (first..first + 8).map(|n| n as f64 * step).take_while(|x| *x <= high + step * 1e-9).collect()
    };
    let steps = [0.5, 1.0, 2.0, 5.0, 10.0].map(|n| n * magnitude);
    let next = steps.iter().position(|step| *step >= rough * 0.999).unwrap_or(steps.len() - 1);
    let found = at(steps[next]);
    // A single tick would show no scale, so the next finer step is used.
    match next.checked_sub(1).map(|finer| steps[finer]) {
        Some(finer) if found.len() < 2 && finer >= least => at(finer),
        _ => found,
    }
}

/// Formats a tick with enough digits to distinguish it from the others.
fn tick(x: f64, all: &[f64]) -> String {
    match all {
        [first, second, ..] if x.abs() < 1e4 => {
            let digits = -((second - first) * 1.001).log10();
            format!("{x:.*}", digits.ceil().clamp(0.0, 5.0) as usize)
        }
        _ => short(x),
    }
}

/// Formats a number in few characters.
fn short(x: f64) -> String {
    match x.abs() {
        a if a >= 1e6 => format!("{}M", trimmed(x / 1e6)),
        a if a >= 1e4 => format!("{}k", trimmed(x / 1e3)),
        _ => trimmed(x),
    }
}

fn trimmed(x: f64) -> String {
    let text = format!("{x:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn open(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" tabindex=\"0\"><title>{title}</title>"
    )
}

/// Draws curves over `x_name`; empty without a point.
pub fn lines(title: &str, x_name: &str, series: &[Series]) -> String {
    let Some(axes) = Axes::bounds(series.iter().flat_map(|s| &s.points)) else { return String::new() };
    let mut svg = open(title);
    axes.frame(&mut svg, x_name);
    for (i, Series { name, points }) in series.iter().enumerate() {
        let places =
            points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).map(|&(x, y)| axes.at(x, y));
        let places: Vec<String> = places.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (name, last) = (escaped(name), points.last().map_or(String::new(), |p| short(p.1)));
        let _ = match &places[..] {
            [one] => {
                let (x, y) = one.split_once(',').unwrap_or_default();
                let class = format!("dot f{}", i % 8);
                write!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"><title>{name}: {last}</title></circle>"
                )
            }
            _ => write!(
                svg,
                "<polyline class=\"{}\" points=\"{}\"><title>{name}: {last} at the end</title></polyline>",
                stroke(i),
                places.join(" ")
            ),
        };
    }
    svg + "</svg>" + &keys(series)
}

/// Returns the CSS classes of a curve. Colours repeat after 8 curves, with other dashes.
fn stroke(i: usize) -> String {
    format!("line c{} d{}", i % 8, (i + i / 8) % 4)
}

/// Formats the legend: names with a sample of their curves.
fn keys(series: &[Series]) -> String {
    let mut text = String::from("<p class=\"legend\">");
    for (i, Series { name, .. }) in series.iter().enumerate() {
        let _ = write!(
            text,
            "<span><svg class=\"key\" viewBox=\"0 0 27 10\" aria-hidden=\"true\"><line class=\"{}\" x2=\"27\" y1=\"5\" \
             y2=\"5\"/></svg>{}</span> ",
            stroke(i),
            escaped(name)
        );
    }
    text + "</p>"
}

/// Draws points with their names beside them.
pub fn points(title: &str, x_name: &str, points: &[(String, f64, f64)]) -> String {
    let places: Vec<(f64, f64)> = points.iter().map(|(_, x, y)| (*x, *y)).collect();
    let Some(axes) = Axes::bounds(places.iter()) else { return String::new() };
    let mut svg = open(title);
    axes.frame(&mut svg, x_name);
    for (name, x, y) in points {
        let (at, height) = axes.at(*x, *y);
        let (anchor, beside) = if at > WIDTH * 0.7 { ("end", -6.0) } else { ("start", 6.0) };
        // A name must not overlap the labels below the plot.
        let down = if height > HEIGHT - MARGINS[3] - 8.0 { -6.0 } else { 4.0 };
        let name = escaped(name);
        let _ = write!(
            svg,
            "<circle class=\"dot f0\" cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"3.5\"><title>{name}: {}, {}</title></circle>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>",
            short(*x),
            short(*y),
            at + beside,
            height + down
        );
    }
    svg + "</svg>"
}

/// Draws fractions of a whole over time as stacked layers: `layers` `[time][part]`.
pub fn layers(title: &str, layers: &[&[f32]]) -> String {
    let (width, height) = (150.0, 60.0);
    let title = escaped(title);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\" tabindex=\"0\" \
         preserveAspectRatio=\"none\"><title>{title}</title>"
    );
    // A single time is drawn as a stripe.
    let times: Vec<&[f32]> = if layers.len() == 1 { vec![layers[0]; 2] } else { layers.to_vec() };
    let x = |time: usize| time as f64 / (times.len().max(2) - 1) as f64 * width;
    let parts = times.first().map_or(0, |first| first.len());
    let mut below = vec![0.0; times.len()];
    for part in 0..parts {
        let top: Vec<f64> = below.iter().zip(&times).map(|(b, row)| b + f64::from(row[part])).collect();
        let edge =
            |heights: &[f64], time: usize| format!("{:.1},{:.1}", x(time), height * (1.0 - heights[time]));
        let up = (0..times.len()).map(|time| edge(&top, time));
        let back = (0..times.len()).rev().map(|time| edge(&below, time));
        let outline: Vec<String> = up.chain(back).collect();
        let _ = write!(svg, "<polygon class=\"f{}\" points=\"{}\"/>", part % 8, outline.join(" "));
        below = top;
    }
    svg + "</svg>"
}

/// Formats the legend of stacked layers.
pub fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("<p class=\"legend\">");
    for (i, name) in names.enumerate() {
        let _ = write!(
            text,
            "<span><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"f{}\" width=\"10\" height=\"10\"/></svg>{}</span> ",
            i % 8,
            escaped(name)
        );
    }
    text + "</p>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0, 0.0), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 49.0, 0.0), [0.0, 20.0, 40.0]);
        // There is no epoch 1.5, and no two ticks have one name.
        assert_eq!(ticks(1.0, 3.0, 1.0), [1.0, 2.0, 3.0]);
        let near = ticks(0.04992, 0.05, 0.0);
        let names: Vec<String> = near.iter().map(|x| tick(*x, &near)).collect();
        assert_eq!(names, ["0.04992", "0.04994", "0.04996", "0.04998", "0.05000"]);
        assert_eq!(tick(20.0, &[0.0, 20.0]), "20");
        for (low, high) in
            [(-3.7, 12.2), (0.911, 0.934), (1e6, 4e6), (5.0, 5.1), (10.58, 11.42), (3056.0, 3954.0)]
        {
            let found = ticks(low, high, 0.0);
            assert!((2..=6).contains(&found.len()), "{low} {high}: {found:?}");
            assert!(found.iter().all(|x| (low - 1e-9..=high + 1e-9).contains(x)));
        }
        assert_eq!([short(1_500_000.0), short(25_000.0), short(0.25)], ["1.5M", "25k", "0.25"]);
    }

    #[test]
    fn curves_have_their_coordinates() {
        let series = [Series { name: "a <b>".into(), points: vec![(0.0, 0.0), (10.0, 1.0)] }];
        let svg = lines("t", "epoch", &series);
        // Bottom left and top right of the plot.
        assert!(svg.contains("points=\"54.0,168.0 330.0,12.0\""), "{svg}");
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>"));
        assert!(lines("t", "x", &[]).is_empty());
    }

    #[test]
    fn counts_have_no_halves() {
        let heights = |points: &[(f64, f64)]| {
            let axes = Axes::bounds(points.iter()).unwrap();
            ticks(axes.y[0], axes.y[1], axes.least)
        };
        assert_eq!(heights(&[(0.0, 6.0), (1.0, 7.0), (2.0, 8.0)]), [6.0, 7.0, 8.0]);
        assert_eq!(heights(&[(0.0, 6.0), (1.0, 7.5), (2.0, 8.0)]), [6.0, 6.5, 7.0, 7.5, 8.0]);
    }

    #[test]
    fn curves_differ_without_their_colours() {
        let series: Vec<Series> = (0..16)
            .map(|i| Series { name: format!("run {i}"), points: vec![(0.0, 0.0), (1.0, f64::from(i))] })
            .collect();
        let svg = lines("t", "epoch", &series);
        let strokes: Vec<String> = (0..16).map(stroke).collect();
        assert!(strokes.windows(2).all(|pair| pair[0][8..] != pair[1][8..]), "{strokes:?}");
        for stroke in &strokes {
            // A curve and its key.
            assert_eq!(svg.matches(&format!("class=\"{stroke}\"")).count(), 2, "{stroke}");
        }
    }

    #[test]
    fn single_and_non_finite_values_are_drawn() {
        let series = [Series { name: "a".into(), points: vec![(0.0, f64::NAN), (1.0, 2.0)] }];
        assert!(lines("t", "x", &series).contains("<circle"));
        assert!(!lines("t", "x", &series).contains("NaN,"));
        assert!(points("t", "x", &[("n6".into(), 3.0, 3.0)]).contains("n6"));
    }

    #[test]
    fn layers_add_up_to_the_whole() {
        let svg = layers("edge", &[&[0.25, 0.75], &[0.5, 0.5]]);
        assert!(svg.contains("points=\"0.0,45.0 150.0,30.0 150.0,60.0 0.0,60.0\""), "{svg}");
        assert!(svg.contains("points=\"0.0,0.0 150.0,0.0 150.0,30.0 0.0,45.0\""), "{svg}");
    }
}
