//! Charts as inline SVG: axes, labels and a text alternative; colours are the page's own variables.

use std::fmt::Write;

use super::escape::html;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// One point; `low` and `high` draw a whisker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) range: Option<(f64, f64)>,
}

/// A named series; `class` picks its colour (`a`, `b`, `c`, `d`, `ideal`).
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) class: &'static str,
    pub(super) points: Vec<Point>,
    /// Joined by a line; otherwise points alone.
    pub(super) line: bool,
    /// Points drawn as dots.
    pub(super) dots: bool,
    /// The value written at every point.
    pub(super) values: bool,
}

/// How numbers are written on an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Percent,
    Plain,
}

/// What stands around a plot.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x_title: &'a str,
    pub(super) y_title: &'a str,
    pub(super) unit: Unit,
    /// Names at x = 0, 1, 2, ...; empty: a numeric axis.
    pub(super) names: Vec<String>,
    /// Fixed range of y.
    pub(super) y_range: Option<(f64, f64)>,
}

/// About five round numbers over a range.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(1e-12);
    let power = 10f64.powf((span / 5.0).log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| span / s <= 6.0).unwrap_or(span);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|k| k as f64 * step).collect()
}

/// A number for people: few digits, thousands apart.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, unit) = match magnitude {
        m if m >= 1e15 => return format!("{value:.2e}"),
        m if m >= 1e12 => (value / 1e12, "T"),
        m if m >= 1e9 => (value / 1e9, "G"),
        m if m >= 1e6 => (value / 1e6, "M"),
        m if m >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        s if s.fract() == 0.0 => 0,
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => format!("{}%", number((value * 1000.0).round() / 10.0)),
        Unit::Plain => number(value),
    }
}

/// A legend, where there is more than one series.
fn legend(series: &[Series]) -> String {
    if series.len() < 2 {
        return String::new();
    }
    let item = |s: &Series| format!("<span class=\"key {}\">{}</span>", s.class, html(&s.name));
    format!("<p class=\"legend\">{}</p>", series.iter().map(item).collect::<String>())
}

/// Points and lines over two axes.
pub(super) fn plot(about: &Plot<'_>, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|s| &s.points);
    let ys = || {
        points().flat_map(|p| [Some(p.y), p.range.map(|r| r.0), p.range.map(|r| r.1)].into_iter().flatten())
    };
    let (mut low, mut high) = ys().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(y), h.max(y)));
    if !low.is_finite() {
        return String::new();
    }
    let pad =
        ((high - low) * 0.12).max(if about.unit == Unit::Percent { 0.01 } else { high.abs() * 0.02 + 1e-9 });
    (low, high) = about.y_range.unwrap_or((low - pad, high + pad));
    if about.unit == Unit::Percent {
        (low, high) = (low.max(0.0), high.min(1.0));
    }
    let (x_low, x_high) = match about.names.len() {
        0 => points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.x), h.max(p.x))),
        n => (-0.5, n as f64 - 0.5),
    };
    let x_high = if x_high > x_low { x_high } else { x_low + 1.0 };
    let x_at = |x: f64| LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - (y - low) / (high - low).max(1e-12) * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    for tick in ticks(low, high) {
        let y = y_at(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 7.0,
            y + 4.0,
            written(tick, about.unit)
        );
    }
    let x_ticks: Vec<(f64, String)> = match about.names.is_empty() {
        true => ticks(x_low, x_high).into_iter().map(|x| (x, number(x))).collect(),
        false => about.names.iter().enumerate().map(|(n, name)| (n as f64, name.clone())).collect(),
    };
    for (x, name) in x_ticks {
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x_at(x),
            HEIGHT - BOTTOM + 17.0,
            html(&name)
        );
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
         <text class=\"title\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        html(about.x_title),
        y = HEIGHT - BOTTOM,
    );
    for s in series {
        let _ = write!(svg, "<g class=\"{}\">", s.class);
        if s.line && s.points.len() > 1 {
            let path: Vec<String> =
                s.points.iter().map(|p| format!("{:.1},{:.1}", x_at(p.x), y_at(p.y))).collect();
            let _ = write!(svg, "<polyline points=\"{}\"/>", path.join(" "));
        }
        for p in &s.points {
            let (x, y) = (x_at(p.x), y_at(p.y));
            if let Some((from, to)) = p.range {
                let _ = write!(
                    svg,
                    "<line class=\"whisker\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                    y_at(from),
                    y_at(to)
                );
            }
            if s.dots {
                let shown = written(p.y, about.unit);
                let _ = write!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"><title>{shown}</title></circle>"
                );
            }
            if s.values {
                // Above the whisker, where no line runs through it.
                let above = p.range.map_or(y, |(_, to)| y_at(to).max(TOP)) - 6.0;
                let shown = written(p.y, about.unit);
                let _ = write!(
                    svg,
                    "<text class=\"value\" x=\"{x:.1}\" y=\"{above:.1}\" text-anchor=\"middle\">{shown}</text>"
                );
            }
        }
        svg.push_str("</g>");
    }
    figure(about.title, about.y_title, &legend(series), &svg, HEIGHT, &spoken(about, series))
}

/// What a screen reader says of a plot: the ends of every series.
fn spoken(about: &Plot<'_>, series: &[Series]) -> String {
    let mut text = about.title.to_owned();
    for s in series {
        if let (Some(first), Some(last)) = (s.points.first(), s.points.last()) {
            let (from, to) = (written(first.y, about.unit), written(last.y, about.unit));
            let _ = write!(text, "; {}: from {from} to {to}", s.name);
        }
    }
    text
}

/// Horizontal bars with their values; `class` picks each bar's colour.
pub(super) fn bars(title: &str, subtitle: &str, rows: &[(String, f64, &'static str)]) -> String {
    let most = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let (row_height, label, room) = (26.0, 128.0, 62.0);
    let mut svg = String::new();
    for (n, (name, value, class)) in rows.iter().enumerate() {
        let y = 6.0 + n as f64 * row_height;
        let width = (value / most * (WIDTH - label - room)).max(1.0);
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <g class=\"{class}\"><rect x=\"{label}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            label - 8.0,
            y + 13.0,
            html(name),
            y,
            label + width + 6.0,
            y + 13.0,
            number(*value)
        );
    }
    let spoken: Vec<String> =
        rows.iter().map(|(name, value, _)| format!("{name} {}", number(*value))).collect();
    let height = 12.0 + rows.len() as f64 * row_height;
    figure(title, subtitle, "", &svg, height, &format!("{title}: {}", spoken.join(", ")))
}

/// Two distributions over 0 to 1, twenty bins, as shares of their own totals.
pub(super) fn distributions(
    title: &str,
    subtitle: &str,
    x_title: &str,
    groups: [(&str, &'static str, &[f64]); 2],
) -> String {
    const BINS: usize = 20;
    let shares = groups.map(|(_, _, values)| {
        let mut bins = [0.0; BINS];
        for value in values {
            bins[((value * BINS as f64) as usize).min(BINS - 1)] += 1.0 / values.len().max(1) as f64;
        }
        bins
    });
    let most = shares.iter().flatten().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let step = (WIDTH - LEFT - RIGHT) / BINS as f64;
    let y_at = |share: f64| HEIGHT - BOTTOM - share / most * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    for tick in ticks(0.0, most) {
        let y = y_at(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 7.0,
            y + 4.0,
            written(tick, Unit::Percent)
        );
    }
    for ((_, class, _), bins) in groups.iter().zip(&shares) {
        let _ = write!(svg, "<g class=\"{class} area\">");
        for (n, share) in bins.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let (x, y) = (LEFT + n as f64 * step, y_at(*share));
            let height = HEIGHT - BOTTOM - y;
            let _ = write!(
                svg,
                "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                x + 0.5,
                step - 1.0
            );
        }
        svg.push_str("</g>");
    }
    for x in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = LEFT + x * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM + 17.0;
        let _ = write!(svg, "<text class=\"tick\" x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{x}</text>");
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
         <text class=\"title\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        html(x_title),
        y = HEIGHT - BOTTOM,
    );
    let keys: String = groups
        .iter()
        .map(|(name, class, values)| {
            format!("<span class=\"key {class}\">{} ({})</span>", html(name), values.len())
        })
        .collect();
    figure(title, subtitle, &format!("<p class=\"legend\">{keys}</p>"), &svg, HEIGHT, title)
}

fn figure(title: &str, subtitle: &str, legend: &str, svg: &str, height: f64, spoken: &str) -> String {
    format!(
        "<figure><figcaption><b>{}</b><span>{}</span></figcaption>{legend}\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">{svg}</svg></figure>\n",
        html(title),
        html(subtitle),
        html(spoken)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(-3.2, 1.4).first(), Some(&-3.0));
        assert!(ticks(5.0, 5.0).len() <= 7);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(1234.0), "1234");
        assert_eq!(number(87_410.0), "87.4k");
        assert_eq!(number(0.4567), "0.457");
        assert_eq!(number(2.5e12), "2.5T");
        assert_eq!(number(-0.5), "-0.5");
    }
}
