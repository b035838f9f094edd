//! Plots as SVG, drawn here: the page needs no script and no network.

use std::fmt::Write;

use super::page::escaped;

/// A line of a plot. `class` gives its colour.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// How a value becomes a place on its axis.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    Log,
    /// Quantiles, each nine as wide as the one before.
    Nines,
}

pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) scale: Scale,
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;

/// Lines, and a legend below them.
pub(super) fn lines(x: &Axis, y: &Axis, series: &[Series]) -> String {
    let all = || series.iter().flat_map(|s| s.points.iter().copied());
    let (x_range, y_range) = (
        range(x.scale, all().map(|p| p.0)),
        range(y.scale, all().map(|p| p.1)),
    );
    let at_x = |value| LEFT + place(x.scale, x_range, value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value| HEIGHT - BOTTOM - place(y.scale, y_range, value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(&format!("{} by {}", y.label, x.label));
    for tick in ticks(y.scale, y_range) {
        let at = at_y(tick);
        let (right, label) = (WIDTH - RIGHT, shown(y.scale, tick));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for tick in ticks(x.scale, x_range) {
        let (at, label) = (at_x(tick), shown(x.scale, tick));
        let bottom = HEIGHT - BOTTOM;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
            bottom + 16.0
        );
    }
    for line in series {
        // A line from one point to itself is not seen.
        if let [(x, y)] = line.points[..] {
            let _ = write!(
                svg,
                "<circle class=\"line {}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                line.class,
                at_x(x),
                at_y(y)
            );
        }
        let points = line.points.iter();
        let points: Vec<_> = points
            .map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y)))
            .collect();
        let _ = write!(
            svg,
            "<polyline class=\"line {}\" points=\"{}\"><title>{}</title></polyline>",
            line.class,
            points.join(" "),
            escaped(&line.name)
        );
    }
    labels(&mut svg, x.label, y.label);
    svg.push_str("</svg>");
    let named = series.iter().map(|s| (s.name.as_str(), s.class.as_str()));
    svg + &legend(named)
}

/// A row of a plot of bars, each made of parts that are named alike in all rows.
pub(super) struct Bar {
    pub(super) name: String,
    /// Value and class.
    pub(super) parts: Vec<(f64, String)>,
    /// Beside the bar.
    pub(super) label: String,
}

/// Bars from left to right, their names above them.
pub(super) fn bars(bars: &[Bar], parts: &[(&str, &str)]) -> String {
    const ROW: f64 = 40.0;
    const ROOM_FOR_LABEL: f64 = 96.0;
    let height = bars.len() as f64 * ROW + 6.0;
    let whole = |bar: &Bar| bar.parts.iter().map(|(value, _)| value).sum::<f64>();
    let most = bars.iter().map(whole).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (row, bar) in bars.iter().enumerate() {
        let top = row as f64 * ROW;
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"0\" y=\"{:.1}\">{}</text>",
            top + 13.0,
            escaped(&bar.name)
        );
        let mut left = 0.0;
        for (value, class) in &bar.parts {
            let width = value / most * (WIDTH - ROOM_FOR_LABEL);
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"16\"/>",
                top + 18.0
            );
            left += width;
        }
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 6.0,
            top + 31.0,
            escaped(&bar.label)
        );
    }
    svg.push_str("</svg>");
    svg + &legend(parts.iter().copied())
}

fn open(title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}</title>",
        escaped(title)
    )
}

fn labels(svg: &mut String, x: &str, y: &str) {
    let _ = write!(
        svg,
        "<text class=\"axis middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"axis middle\" transform=\"translate(12 {:.1}) rotate(-90)\">{}</text>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        HEIGHT - 8.0,
        escaped(x),
        TOP + (HEIGHT - TOP - BOTTOM) / 2.0,
        escaped(y)
    );
}

fn legend<'a>(named: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let keys: String = named
        .map(|(name, class)| format!("<span><i class=\"{class}\"></i>{}</span>", escaped(name)))
        .collect();
    format!("<p class=\"legend\">{keys}</p>")
}

fn range(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let most = values.clone().fold(f64::MIN_POSITIVE, f64::max);
    match scale {
        Scale::Linear => (0.0, most * 1.05),
        Scale::Log => {
            let least = values.filter(|v| *v > 0.0).fold(most, f64::min);
            (
                10_f64.powf(least.log10().floor()),
                10_f64.powf(most.log10().ceil()),
            )
        }
        Scale::Nines => {
            let most = values.filter(|q| *q < 1.0).fold(0.9, f64::max);
            (0.0, most)
        }
    }
}

/// 0 to 1.
fn place(scale: Scale, (least, most): (f64, f64), value: f64) -> f64 {
    let nines = |q: f64| -(1.0 - q.min(most)).log10();
    let part = match scale {
        Scale::Linear => (value - least) / (most - least),
        Scale::Log if most > least => (value.max(least) / least).log10() / (most / least).log10(),
        Scale::Log => 0.5,
        Scale::Nines => nines(value) / nines(most),
    };
    part.clamp(0.0, 1.0)
}

fn ticks(scale: Scale, (least, most): (f64, f64)) -> Vec<f64> {
    match scale {
        Scale::Linear => {
            let step = nice((most - least) / 5.0);
            let count = (most / step).floor() as u32;
            (0..=count).map(|n| f64::from(n) * step).collect()
        }
        Scale::Log => {
            let (low, high) = (least.log10().round() as i32, most.log10().round() as i32);
            (low..=high).map(|power| 10_f64.powi(power)).collect()
        }
        Scale::Nines => {
            let all = [0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
            all.into_iter().filter(|q| *q <= most).collect()
        }
    }
}

/// 1, 2 or 5 times a power of ten, at or above.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= value * 0.999);
    step.unwrap_or(10.0) * power
}

fn shown(scale: Scale, value: f64) -> String {
    match scale {
        Scale::Nines => match value {
            0.0 => "0 %".to_owned(),
            // 0.999 is 99.9 %, and floats have more to say.
            q => {
                let nines = (-(1.0 - q).log10()).round() as usize;
                format!("{:.*} %", nines.saturating_sub(2), q * 100.0)
            }
        },
        Scale::Linear | Scale::Log => match value {
            v if v >= 1e6 => format!("{} M", trimmed(v / 1e6)),
            v if v >= 1e4 => format!("{} k", trimmed(v / 1e3)),
            v => trimmed(v),
        },
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_their_range() {
        assert_eq!(ticks(Scale::Linear, (0.0, 105.0)), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(Scale::Log, (0.1, 100.0)), [0.1, 1.0, 10.0, 100.0]);
        let nines: Vec<_> = ticks(Scale::Nines, (0.0, 0.9995))
            .into_iter()
            .map(|q| shown(Scale::Nines, q))
            .collect();
        assert_eq!(nines, ["0 %", "90 %", "99 %", "99.9 %"]);
        assert_eq!(shown(Scale::Linear, 250_000.0), "250 k");
        assert_eq!(shown(Scale::Linear, 0.25), "0.25");
    }

    #[test]
    fn each_value_has_its_place_and_none_lies_outside() {
        assert_eq!(place(Scale::Linear, (0.0, 10.0), 5.0), 0.5);
        assert!((place(Scale::Log, (1.0, 100.0), 10.0) - 0.5).abs() < 1e-9);
        assert!((place(Scale::Nines, (0.0, 0.9999), 0.99) - 0.5).abs() < 1e-9);
        for (scale, range) in [
            (Scale::Linear, (0.0, 10.0)),
            (Scale::Log, (1.0, 1.0)),
            (Scale::Nines, (0.0, 0.9)),
        ] {
            for value in [-1.0, 0.0, 1.0, 1e9] {
                assert!((0.0..=1.0).contains(&place(scale, range, value)));
            }
        }
    }

    #[test]
    fn a_name_cannot_break_the_page() {
        let series = Series {
            name: "</svg><script>".to_owned(),
            class: "off".to_owned(),
            points: vec![(0.0, 1.0)],
        };
        let axis = |scale| Axis { label: "x", scale };
        let svg = lines(&axis(Scale::Linear), &axis(Scale::Log), &[series]);
        assert!(!svg.contains("<script>"), "{svg}");
    }
}
