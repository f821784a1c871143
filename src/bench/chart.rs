//! Charts as SVG: lines over an axis that may be logarithmic, and stacked bars. Every number can be had by pointing at it.
//!
//! Invariant: pure text, no font file and nothing from elsewhere. Colours are classes, so that a page, or the style that a
//! file of its own carries, decides for light and dark.

use std::fmt::Write;

/// Lines over a common axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub lines: Vec<Line>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Quantity and unit.
    pub label: String,
    /// Whether equal ratios are equal distances.
    pub logarithmic: bool,
    /// Whether it begins at nothing.
    pub from_zero: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Which of the [`COLOURS`].
    pub colour: usize,
    /// Which of the [`DASHES`].
    pub dash: usize,
    /// Its points from left to right, each with what is said when it is pointed at. Lines of many points say nothing here;
    /// pointing at the chart reads all of them at one place.
    pub points: Vec<(f64, f64, Option<String>)>,
}

/// Horizontal bars, each of parts.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Quantity and unit.
    pub label: String,
    /// Names of the parts, in the order of the legend.
    pub parts: Vec<String>,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
    /// Where a line is drawn across all bars, for instance at 1.
    pub mark: Option<f64>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its parts from left to right.
    pub parts: Vec<f64>,
    /// What is said when it is pointed at.
    pub tip: String,
}

/// How many colours there are: classes `c0`, `c1` and so on.
pub const COLOURS: usize = 8;

/// Patterns of lines: solid, dashed, dotted, dash-dotted.
pub const DASHES: [&str; 5] = ["", "6 4", "2 3", "9 3 2 3", "12 3"];

impl LineChart {
    /// As SVG.
    #[must_use]
    pub fn draw(&self, kind: Kind) -> String {
        let legend = legend_rows(self.lines.iter().map(|line| line.name.as_str()));
        let top = TITLE + LEGEND_ROW * (legend.iter().map(|(_, row, _)| row + 1).max().unwrap_or(0)) as f64 + 8.0;
        let height = top + PLOT_HEIGHT + BOTTOM;
        let all = |of: fn(&(f64, f64, Option<String>)) -> f64| self.lines.iter().flat_map(|line| &line.points).map(of);
        let plot = Plot {
            x: Scale::of(all(|point| point.0), &self.x, LEFT, WIDTH - RIGHT, true),
            y: Scale::of(all(|point| point.1), &self.y, top + PLOT_HEIGHT, top, false),
            top,
        };
        let mut svg = opened(kind, height, &self.title, &self.hover_data(&plot));
        plot.grid(&mut svg, &self.x.label, &self.y.label);
        for (line, (x, row, _)) in self.lines.iter().zip(&legend) {
            legend_entry(&mut svg, line, *x, TITLE + LEGEND_ROW * (*row as f64 + 0.5));
        }
        for line in &self.lines {
            plot.line(&mut svg, line, kind);
        }
        svg.push_str("<line class='cross' y1='0' y2='0' x1='0' x2='0' visibility='hidden'/></svg>");
        svg
    }

    /// What a page's script needs to read all lines at one place; only for lines of many points.
    fn hover_data(&self, plot: &Plot) -> String {
        let dense = |line: &&Line| line.points.iter().all(|point| point.2.is_none()) && !line.points.is_empty();
        let lines: Vec<serde_json::Value> = self
            .lines
            .iter()
            .filter(dense)
            .map(|line| {
                let points: Vec<(f64, f64)> =
                    line.points.iter().map(|(x, y, _)| (rounded(*x, 3), rounded(*y, 4))).collect();
                serde_json::json!({ "name": line.name, "colour": line.colour % COLOURS, "points": points })
            })
            .collect();
        if lines.is_empty() {
            return String::new();
        }
        let (low, high) = plot.x.domain;
        let data = serde_json::json!({
            "lines": lines, "x": [low, high], "left": LEFT, "right": WIDTH - RIGHT, "top": plot.top,
            "bottom": plot.top + PLOT_HEIGHT, "label": self.x.label,
        });
        format!(" data-hover='{}'", escaped(&data.to_string()))
    }
}

impl BarChart {
    /// As SVG.
    #[must_use]
    pub fn draw(&self, kind: Kind) -> String {
        let legend = legend_rows(self.parts.iter().map(String::as_str));
        let top = TITLE + LEGEND_ROW + 8.0;
        let bottom = top + BAR_ROW * self.bars.len() as f64;
        let longest = self.bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0);
        let left = (longest as f64 * LETTER + 16.0).clamp(LEFT, WIDTH / 2.0);
        let axis = Axis { label: self.label.clone(), logarithmic: false, from_zero: true };
        let totals = self.bars.iter().map(|bar| bar.parts.iter().sum::<f64>());
        let scale = Scale::of(totals.chain(self.mark), &axis, left, WIDTH - RIGHT - 40.0, false);
        let mut svg = opened(kind, bottom + BOTTOM, &self.title, "");
        for (number, (part, (x, row, _))) in self.parts.iter().zip(&legend).enumerate() {
            let y = TITLE + LEGEND_ROW * (*row as f64 + 0.5);
            let _ =
                write!(svg, "<rect class='f{number}' x='{x:.1}' y='{:.1}' width='14' height='10' rx='2'/>", y - 6.0);
            text(&mut svg, x + 20.0, y + 4.0, "start", "t", part);
        }
        for tick in scale.ticks() {
            let x = scale.at(tick);
            let _ = write!(svg, "<line class='grid' x1='{x:.1}' x2='{x:.1}' y1='{top:.1}' y2='{bottom:.1}'/>");
            text(&mut svg, x, bottom + 18.0, "middle", "m", &scale.label(tick));
        }
        text(&mut svg, (left + WIDTH - RIGHT) / 2.0, bottom + 36.0, "middle", "m", &self.label);
        for (number, bar) in self.bars.iter().enumerate() {
            draw_bar(&mut svg, bar, &scale, top + BAR_ROW * number as f64, left, kind);
        }
        if let Some(mark) = self.mark {
            let x = scale.at(mark);
            let _ = write!(svg, "<line class='mark' x1='{x:.1}' x2='{x:.1}' y1='{top:.1}' y2='{bottom:.1}'/>");
        }
        svg.push_str("</svg>");
        svg
    }
}

fn draw_bar(svg: &mut String, bar: &Bar, scale: &Scale, y: f64, left: f64, kind: Kind) {
    text(svg, left - 8.0, y + BAR_ROW / 2.0 + 4.0, "end", "t", &bar.label);
    let _ = write!(svg, "<g{}>{}", kind.tip(&bar.tip), kind.title(&bar.tip));
    let mut from = 0.0;
    for (number, part) in bar.parts.iter().enumerate() {
        let (x, end) = (scale.at(from), scale.at(from + part));
        let _ = write!(
            svg,
            "<rect class='f{number}' x='{x:.1}' y='{:.1}' width='{:.1}' height='{:.1}'/>",
            y + 4.0,
            (end - x).max(0.5),
            BAR_ROW - 8.0
        );
        from += part;
    }
    text(svg, scale.at(from) + 6.0, y + BAR_ROW / 2.0 + 4.0, "start", "m", &format!("{from:.2}"));
    svg.push_str("</g>");
}

/// Where a chart ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In a page, as an `svg` element with the page's colours and tips.
    Inline,
    /// In a file of its own.
    File,
}

impl Kind {
    /// A page shows tips by script.
    fn tip(self, tip: &str) -> String {
        if self == Kind::Inline {
            format!(" class='tip' tabindex='0' data-tip='{}'", escaped(tip))
        } else {
            String::new()
        }
    }

    /// A file lets the viewer show them.
    fn title(self, tip: &str) -> String {
        if self == Kind::File { format!("<title>{}</title>", escaped(tip)) } else { String::new() }
    }
}

fn opened(kind: Kind, height: f64, title: &str, data: &str) -> String {
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' class='plot' viewBox='0 0 {WIDTH} {height:.0}' role='img' \
         aria-label='{}'{data}>",
        escaped(title)
    );
    if kind == Kind::File {
        let _ =
            write!(svg, "<style>{}</style><rect class='paper' width='100%' height='100%'/>", include_str!("chart.css"));
    }
    text(&mut svg, 8.0, 20.0, "start", "h", title);
    svg
}

/// Axes and the place of every value.
struct Plot {
    x: Scale,
    y: Scale,
    top: f64,
}

impl Plot {
    fn grid(&self, svg: &mut String, x_label: &str, y_label: &str) {
        let bottom = self.top + PLOT_HEIGHT;
        for tick in self.y.ticks() {
            let y = self.y.at(tick);
            let _ = write!(svg, "<line class='grid' x1='{LEFT}' x2='{}' y1='{y:.1}' y2='{y:.1}'/>", WIDTH - RIGHT);
            text(svg, LEFT - 6.0, y + 4.0, "end", "m", &self.y.label(tick));
        }
        for tick in self.x.ticks() {
            let x = self.x.at(tick);
            let _ = write!(svg, "<line class='grid' x1='{x:.1}' x2='{x:.1}' y1='{:.1}' y2='{bottom:.1}'/>", self.top);
            text(svg, x, bottom + 18.0, "middle", "m", &self.x.label(tick));
        }
        text(svg, (LEFT + WIDTH - RIGHT) / 2.0, bottom + 36.0, "middle", "m", x_label);
        let (x, y) = (14.0, self.top + PLOT_HEIGHT / 2.0);
        let _ = write!(
            svg,
            "<text class='m' text-anchor='middle' transform='translate({x},{y:.1}) rotate(-90)'>{}</text>",
            escaped(y_label)
        );
    }

    fn line(&self, svg: &mut String, line: &Line, kind: Kind) {
        let place = |x: f64, y: f64| (self.x.at(x), self.y.at(y));
        let points: Vec<String> =
            line.points.iter().map(|(x, y, _)| place(*x, *y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (colour, dash) = (line.colour % COLOURS, DASHES[line.dash % DASHES.len()]);
        let _ = write!(svg, "<polyline class='l c{colour}' stroke-dasharray='{dash}' points='{}'/>", points.join(" "));
        for (x, y, tip) in &line.points {
            let Some(tip) = tip else { continue };
            let (x, y) = place(*x, *y);
            let _ = write!(
                svg,
                "<g{}>{}<circle class='halo' cx='{x:.1}' cy='{y:.1}' r='11'/>\
                 <circle class='dot d{colour}' cx='{x:.1}' cy='{y:.1}' r='4'/></g>",
                kind.tip(tip),
                kind.title(tip)
            );
        }
    }
}

/// One axis in numbers.
struct Scale {
    domain: (f64, f64),
    range: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    /// Around these values, from one end of the drawing to the other; `tight` leaves no room at the ends.
    fn of(values: impl Iterator<Item = f64>, axis: &Axis, from: f64, to: f64, tight: bool) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let domain = if axis.logarithmic {
            (low.max(1e-9) / 1.12, high.max(1e-9) * 1.12)
        } else {
            let room = if tight { 0.0 } else { ((high - low) * 0.06).max(high.abs() * 1e-3) };
            let low = if axis.from_zero { 0.0 } else { low - room };
            (low, (high + room).max(low + 1e-9))
        };
        Scale { domain, range: (from, to), logarithmic: axis.logarithmic }
    }

    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| if self.logarithmic { value.max(1e-9).ln() } else { value };
        let (low, high) = (place(self.domain.0), place(self.domain.1));
        self.range.0 + (self.range.1 - self.range.0) * (place(value) - low) / (high - low)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let step = nice((self.domain.1 - self.domain.0) / TICKS);
        let first = (self.domain.0 / step).ceil() as i64;
        let last = (self.domain.1 / step).floor() as i64;
        (first..=last).map(|number| number as f64 * step).collect()
    }

    /// One, two and five of every decade; all of them where that leaves too few.
    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.domain.0.log10().floor() as i32..=self.domain.1.log10().ceil() as i32;
        let of = |digits: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
            all.filter(|tick| (self.domain.0..=self.domain.1).contains(tick)).collect()
        };
        let few = of(&[1.0, 2.0, 5.0]);
        if few.len() >= 3 { few } else { of(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0]) }
    }

    fn label(&self, tick: f64) -> String {
        if self.logarithmic {
            return short(tick);
        }
        let step = nice((self.domain.1 - self.domain.0) / TICKS);
        let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        if step >= 1000.0 { short(tick) } else { format!("{tick:.decimals$}") }
    }
}

/// The next step of one, two or five and a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= step * 0.999).unwrap_or(10.0);
    digit * power
}

/// A number with `k` or `M`.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{unit}", rounded(value, 2))
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let power = 10f64.powi(decimals);
    (value * power).round() / power
}

/// Where each entry of a legend begins, and in which row; and its width.
fn legend_rows<'n>(names: impl Iterator<Item = &'n str>) -> Vec<(f64, usize, f64)> {
    let (mut x, mut row) = (LEGEND_LEFT, 0);
    names
        .map(|name| {
            let width = name.chars().count() as f64 * LETTER + 46.0;
            if x > LEGEND_LEFT && x + width > WIDTH - RIGHT {
                (x, row) = (LEGEND_LEFT, row + 1);
            }
            let place = (x, row, width);
            x += width;
            place
        })
        .collect()
}

fn legend_entry(svg: &mut String, line: &Line, x: f64, y: f64) {
    let (colour, dash) = (line.colour % COLOURS, DASHES[line.dash % DASHES.len()]);
    let _ = write!(
        svg,
        "<line class='l c{colour}' stroke-dasharray='{dash}' x1='{x:.1}' x2='{:.1}' y1='{y:.1}' y2='{y:.1}'/>",
        x + 26.0
    );
    text(svg, x + 32.0, y + 4.0, "start", "t", &line.name);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
    let _ = write!(svg, "<text class='{class}' x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{}</text>", escaped(words));
}

/// Text inside markup, and inside its attributes.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// The drawing's measures, in its own units.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const PLOT_HEIGHT: f64 = 260.0;
const BOTTOM: f64 = 46.0;
const TITLE: f64 = 34.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_LEFT: f64 = 10.0;
const BAR_ROW: f64 = 30.0;
/// Mean width of a letter at 12 units.
const LETTER: f64 = 6.6;
/// At most as many as there is room for.
const TICKS: f64 = 9.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(logarithmic: bool) -> Axis {
        Axis { label: "x".to_owned(), logarithmic, from_zero: false }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::of([31.2, 44.8].into_iter(), &axis(false), 0.0, 100.0, false);
        assert_eq!(scale.ticks(), [32.0, 34.0, 36.0, 38.0, 40.0, 42.0, 44.0]);
        let scale = Scale::of([1e6, 8e6].into_iter(), &axis(true), 0.0, 100.0, false);
        assert_eq!(scale.ticks().iter().map(|tick| scale.label(*tick)).collect::<Vec<_>>(), ["1M", "2M", "5M"]);
        assert!((scale.at(1e6 / 1.12)).abs() < 1e-9 && (scale.at(8e6 * 1.12) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn one_value_makes_a_chart_too() {
        let line =
            Line { name: "<a>".to_owned(), colour: 9, dash: 7, points: vec![(1.0, 5.0, Some("\"tip\"".to_owned()))] };
        let chart = LineChart { title: "t & u".to_owned(), x: axis(true), y: axis(false), lines: vec![line] };
        let svg = chart.draw(Kind::File);
        assert!(
            svg.contains("t &amp; u") && svg.contains("&lt;a&gt;") && svg.contains("<title>&quot;tip&quot;</title>")
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(chart.draw(Kind::Inline).contains("data-tip='&quot;tip&quot;'"));
    }
}
