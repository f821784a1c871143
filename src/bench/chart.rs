//! Charts as SVG, drawn by plotters: lines over an axis that may be logarithmic, and stacked bars. Every number can be had by
//! pointing at it.
//!
//! Invariant: pure text, no font file and nothing from elsewhere. Colours are variables of CSS, so that a page, or the style
//! that a file of its own carries, decides for light and dark.

use std::ops::Range;

use minijinja::{Environment, Value, context};
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::data::fitting_range;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::json;

/// Lines over a common axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// Quantity and unit of the horizontal axis.
    pub x: String,
    /// Whether equal ratios are equal distances on it.
    pub logarithmic: bool,
    /// Quantity and unit of the vertical axis.
    pub y: String,
    /// Whether it begins at nothing.
    pub from_zero: bool,
    /// The lines, in the order of the legend.
    pub lines: Vec<Line>,
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

/// Where a chart ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In a page, as an `svg` element with the page's colours and tips.
    Inline,
    /// In a file of its own.
    File,
}

/// How many colours there are: variables `--c0`, `--c1` and so on.
pub const COLOURS: usize = 8;

/// Patterns of lines in tenths of a unit: solid, dashed, dotted, dash-dotted, long dashes.
pub const DASHES: [&str; 5] = ["", "60 40", "20 30", "90 30 20 30", "120 30"];

impl LineChart {
    /// As SVG.
    #[must_use]
    pub fn draw(&self, kind: Kind) -> String {
        let entry = |line: &Line| (line.name.clone(), colour(line.colour, line.dash).stroke_width(20));
        let legend = self.lines.iter().map(entry).collect();
        let frame = Frame { kind, title: &self.title, legend, height: PLOT_HEIGHT + BOTTOM };
        frame.svg(|area| {
            let mut chart = ChartBuilder::on(area);
            chart.margin_left(60).margin_right(RIGHT).x_label_area_size(BOTTOM).y_label_area_size(LEFT);
            let points = || self.lines.iter().flat_map(|line| &line.points);
            let (x, y) = (extent(points().map(|point| point.0)), extent(points().map(|point| point.1)));
            let room = ((y.end - y.start) * 0.06).max(y.end.abs() * 1e-3);
            let y = if self.from_zero { 0.0 } else { y.start - room }..y.end + room;
            if self.logarithmic {
                let x = x.start.max(1e-9) / 1.12..x.end.max(1e-9) * 1.12;
                let ticks = logarithmic_ticks(&x);
                self.plot(chart.build_cartesian_2d(x.log_scale().with_key_points(ticks), y)?, &short)
            } else {
                self.plot(chart.build_cartesian_2d(x.clone(), y)?, &linear(x))
            }
        })
    }

    fn plot<X>(&self, mut chart: Chart<'_, '_, X, RangedCoordf64>, number: &dyn Fn(&f64) -> String) -> Drawn<Value>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let y_number = linear(chart.y_range());
        let mut mesh = mesh(&mut chart);
        mesh.x_desc(&self.x).x_label_formatter(&number).y_desc(&self.y).y_label_formatter(&y_number).draw()?;
        let mut spots = Vec::new();
        for line in &self.lines {
            let ink = colour(line.colour, line.dash).stroke_width(20);
            chart.draw_series(LineSeries::new(line.points.iter().map(|(x, y, _)| (*x, *y)), ink))?;
            for (x, y, tip) in &line.points {
                let Some(tip) = tip else { continue };
                let dot = colour(line.colour, 0).filled();
                chart.draw_series([(48, PAPER.filled()), (33, dot)].map(|(r, ink)| Circle::new((*x, *y), r, ink)))?;
                let (x, y) = chart.backend_coord(&(*x, *y));
                spots.push(context! { x => x - 110, y => y - 110, width => 220, height => 220, tip });
            }
        }
        Ok(context! { spots, hover => self.hover(&chart) })
    }

    /// What a page's script needs to read all lines at one place; only for lines of many points.
    fn hover<X: Ranged<ValueType = f64>>(&self, chart: &Chart<'_, '_, X, RangedCoordf64>) -> Option<String> {
        let dense = |line: &&Line| line.points.iter().all(|point| point.2.is_none()) && !line.points.is_empty();
        let read = |line: &Line| {
            let points = line.points.iter().map(|(x, y, _)| (rounded(*x, 3), rounded(*y, 4)));
            json!({ "name": line.name, "points": points.collect::<Vec<_>>() })
        };
        let lines: Vec<serde_json::Value> = self.lines.iter().filter(dense).map(read).collect();
        let (domain, area) = (chart.x_range(), chart.plotting_area());
        let (x, y) = (area.get_x_axis_pixel_range(), area.get_y_axis_pixel_range());
        let data = json!({
            "lines": lines, "x": [domain.start, domain.end], "label": self.x,
            "left": x.start, "right": x.end, "top": y.start, "bottom": y.end,
        });
        (!lines.is_empty()).then(|| data.to_string())
    }
}

impl BarChart {
    /// As SVG.
    #[must_use]
    pub fn draw(&self, kind: Kind) -> String {
        let entry = |(number, name): (usize, &String)| (name.clone(), colour(number, 0).stroke_width(100));
        let legend = self.parts.iter().enumerate().map(entry).collect();
        let rows = BAR_ROW * self.bars.len() as i32;
        let frame = Frame { kind, title: &self.title, legend, height: rows as u32 + BOTTOM };
        frame.svg(|area| {
            let ends = self.bars.iter().map(|bar| bar.parts.iter().sum()).chain(self.mark).chain([0.0]);
            let middles: Vec<i32> = (0..rows).step_by(BAR_ROW as usize).map(|row| row + BAR_ROW / 2).collect();
            let labels = self.bars.iter().map(|bar| width(&bar.label) + 160).max().unwrap_or(0);
            let x = 0.0..extent(ends).end * 1.06;
            let mut chart = ChartBuilder::on(area)
                .margin_right(RIGHT + 400)
                .x_label_area_size(BOTTOM)
                .y_label_area_size(labels.clamp(LEFT, WIDTH / 2))
                .build_cartesian_2d(x.clone(), (rows..0).with_key_points(middles))?;
            let (number, label) = (linear(x), |middle: &i32| self.bars[(middle / BAR_ROW) as usize].label.clone());
            let mut mesh = mesh(&mut chart);
            mesh.disable_y_mesh().y_label_style(words(120.0, INK)).y_label_formatter(&label);
            mesh.x_desc(&self.label).x_label_formatter(&number).draw()?;
            let bars = || (0..).step_by(BAR_ROW as usize).zip(&self.bars);
            bars().try_for_each(|(row, bar)| bar.draw(&chart, row))?;
            if let Some(mark) = self.mark {
                let dashed = RGBColor(0, 1, SOFT.2).stroke_width(10);
                chart.plotting_area().draw(&PathElement::new([(mark, 0), (mark, rows)], dashed))?;
            }
            let spots = bars().map(|(row, bar)| bar.tell(&chart, row)).collect::<Drawn<Vec<_>>>()?;
            Ok(context! { spots })
        })
    }
}

impl Bar {
    fn draw<Y: Ranged<ValueType = i32>>(&self, chart: &Chart<'_, '_, RangedCoordf64, Y>, row: i32) -> Drawn<()> {
        let mut from = 0.0;
        for (number, part) in self.parts.iter().enumerate() {
            let corners = [(from, row + 40), (from + part, row + BAR_ROW - 40)];
            chart.plotting_area().draw(&Rectangle::new(corners, colour(number, 0).filled()))?;
            from += part;
        }
        Ok(())
    }

    fn tell<Y: Ranged<ValueType = i32>>(&self, chart: &Chart<'_, '_, RangedCoordf64, Y>, row: i32) -> Drawn<Value> {
        let total = self.parts.iter().sum();
        let number = Text::new(format!("{total:.2}"), (60, 0), words(115.0, SOFT).pos(LEFT_MIDDLE));
        chart.plotting_area().draw(&(EmptyElement::at((total, row + BAR_ROW / 2)) + number))?;
        let ((x, y), (end, below)) = (chart.backend_coord(&(0.0, row)), chart.backend_coord(&(total, row + BAR_ROW)));
        Ok(context! { x, y, width => end - x, height => below - y, tip => self.tip.clone() })
    }
}

type Sheet<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Chart<'a, 's, X, Y> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<X, Y>>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// What is around the axes of a chart.
struct Frame<'c> {
    kind: Kind,
    title: &'c str,
    /// Names, with a sample of each.
    legend: Vec<(String, ShapeStyle)>,
    /// Of what is below the legend.
    height: u32,
}

impl Frame<'_> {
    /// The whole chart. `axes` draws what is inside and says what is pointed at, which is no matter of plotters.
    fn svg(&self, axes: impl FnOnce(&Sheet<'_>) -> Drawn<Value>) -> String {
        let height = self.head() + self.height;
        let mut drawing = String::new();
        let pointed = self.draw(&SVGBackend::with_string(&mut drawing, (WIDTH, height)).into_drawing_area(), axes);
        let drawing = themed(drawing);
        let view = context! {
            width => WIDTH, height,
            title => self.title,
            // The template has an element of its own.
            drawing => drawing.split_once('>').map(|(_, drawing)| drawing.trim_end_matches("</svg>\n")),
            style => (self.kind == Kind::File).then_some(include_str!("chart.css")),
            ..pointed.expect("a string takes every drawing")
        };
        let template = include_str!("chart.html");
        Environment::new().render_named_str("chart.html", template, view).expect("a template that fits")
    }

    fn draw(&self, sheet: &Sheet<'_>, axes: impl FnOnce(&Sheet<'_>) -> Drawn<Value>) -> Drawn<Value> {
        if self.kind == Kind::File {
            sheet.fill(&PAPER)?;
        }
        let (head, body) = sheet.split_vertically(self.head());
        let title = words(140.0, INK);
        head.draw_text(self.title, &TextStyle { font: title.font.style(FontStyle::Bold), ..title }, (80, 90))?;
        let entries = head.margin(TITLE, 80, 100, 0).split_evenly(self.legend_grid());
        let middle = LEGEND_ROW as i32 / 2;
        for (area, (name, sample)) in entries.iter().zip(&self.legend) {
            area.draw(&PathElement::new([(0, middle), (260, middle)], *sample))?;
            area.draw_text(name, &words(120.0, INK).pos(LEFT_MIDDLE), (320, middle))?;
        }
        let pointed = axes(&body)?;
        sheet.present()?;
        Ok(pointed)
    }

    /// Rows and columns.
    fn legend_grid(&self) -> (usize, usize) {
        let widest = self.legend.iter().map(|(name, _)| width(name)).max().unwrap_or(0) + 460;
        let columns = (WIDTH / widest).max(1) as usize;
        (self.legend.len().div_ceil(columns), columns)
    }

    fn head(&self) -> u32 {
        TITLE + LEGEND_ROW * self.legend_grid().0 as u32 + 80
    }
}

/// Plotters writes literal colours. Here green stands for the pattern and blue for the variable.
fn themed(mut drawing: String) -> String {
    for (number, dash) in DASHES.iter().enumerate().skip(1) {
        let dashed = format!("stroke-dasharray=\"{dash}\" stroke=\"#0000");
        drawing = drawing.replace(&format!("stroke=\"#00{number:02X}"), &dashed);
    }
    for (number, name) in VARIABLES.iter().enumerate() {
        drawing = drawing.replace(&format!("\"#0000{number:02X}\""), &format!("\"var(--{name})\""));
    }
    drawing
}

/// Grid and labels, which are the same in all charts.
fn mesh<'a, 'c, 's, X, Y>(chart: &'c mut Chart<'a, 's, X, Y>) -> MeshStyle<'a, 'c, X, Y, SVGBackend<'s>>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    let mut mesh = chart.configure_mesh();
    mesh.bold_line_style(GRID.stroke_width(10)).light_line_style(TRANSPARENT).axis_style(TRANSPARENT);
    mesh.label_style(words(115.0, SOFT)).set_all_tick_mark_size(30).x_labels(TICKS).y_labels(TICKS);
    mesh
}

fn words(size: f64, ink: RGBColor) -> TextStyle<'static> {
    // Plotters writes 1 / 1.24 of the size (plotters-svg, svg.rs).
    ("sans-serif", size * 1.24).into_font().color(&ink)
}

fn colour(number: usize, dash: usize) -> RGBColor {
    RGBColor(0, (dash % DASHES.len()) as u8, (VARIABLES.len() - COLOURS + number % COLOURS) as u8)
}

/// How wide a text is, more or less.
fn width(text: &str) -> u32 {
    text.chars().count() as u32 * LETTER
}

/// From the least to the greatest; never of no length.
fn extent(values: impl Iterator<Item = f64>) -> Range<f64> {
    let finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let Range { start, end } = fitting_range(&finite);
    start..end.max(start + 1e-3)
}

/// One, two and five of every decade; more where that leaves too few. Plotters has powers of ten, or all linear steps.
fn logarithmic_ticks(range: &Range<f64>) -> Vec<f64> {
    let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let of = |digits: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
        all.filter(|tick| range.contains(tick)).collect()
    };
    let few = of(&[1.0, 2.0, 5.0]);
    if few.len() >= 3 { few } else { of(&[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0]) }
}

/// Numbers with as many decimals as the ticks of a range need.
fn linear(range: Range<f64>) -> impl Fn(&f64) -> String {
    let decimals = |tick: &f64| rounded(*tick, 6).to_string().split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let most = RangedCoordf64::from(range).key_points(TICKS).iter().map(decimals).max().unwrap_or(0);
    move |value| format!("{value:.most$}")
}

/// A number with `k` or `M`.
fn short(value: &f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (*value, ""),
    };
    format!("{}{unit}", rounded(value, 2))
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let power = 10f64.powi(decimals);
    (value * power).round() / power
}

/// The variables of chart.css, by the number that stands for them.
const VARIABLES: [&str; 12] = ["paper", "ink", "soft", "grid", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
const PAPER: RGBColor = RGBColor(0, 0, 0);
const INK: RGBColor = RGBColor(0, 0, 1);
const SOFT: RGBColor = RGBColor(0, 0, 2);
const GRID: RGBColor = RGBColor(0, 0, 3);

const LEFT_MIDDLE: Pos = Pos { h_pos: HPos::Left, v_pos: VPos::Center };

/// The drawing's measures in tenths of a unit, for plotters has whole numbers only.
const WIDTH: u32 = 7200;
const LEFT: u32 = 580;
const RIGHT: u32 = 160;
const PLOT_HEIGHT: u32 = 2600;
const BOTTOM: u32 = 430;
const TITLE: u32 = 340;
const LEGEND_ROW: u32 = 200;
const BAR_ROW: i32 = 300;
/// Mean width of a letter.
const LETTER: u32 = 66;
/// At most as many as there is room for.
const TICKS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: Vec<(f64, f64, Option<String>)>) -> Line {
        Line { name: name.to_owned(), colour: 9, dash: 7, points }
    }

    fn chart(logarithmic: bool, lines: Vec<Line>) -> LineChart {
        let (x, y) = ("x".to_owned(), "y".to_owned());
        LineChart { title: "t & u".to_owned(), x, logarithmic, y, from_zero: false, lines }
    }

    /// What is between a mark and the next, as often as it is there.
    fn between<'s>(svg: &'s str, from: &'s str, to: &'s str) -> impl Iterator<Item = &'s str> {
        svg.split(from).skip(1).filter_map(move |rest| Some(rest.split_once(to)?.0.trim()))
    }

    fn ticks(svg: &str) -> Vec<&str> {
        let texts = between(svg, "<text", "</text>").filter_map(|text| Some(text.split_once('>')?.1.trim()));
        texts.filter(|text| text.starts_with(|first: char| first.is_ascii_digit())).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let points = vec![(1e6, 31.2, None), (8e6, 44.8, None)];
        let svg = chart(true, vec![line("a", points)]).draw(Kind::Inline);
        assert_eq!(ticks(&svg), ["32", "34", "36", "38", "40", "42", "44", "1M", "2M", "5M"]);
        let svg = chart(false, vec![line("a", vec![(0.0, 0.88, None), (2.0, 1.0, None)])]).draw(Kind::Inline);
        assert_eq!(ticks(&svg)[..3], ["0.88", "0.90", "0.92"]);
    }

    #[test]
    fn equal_ratios_are_equal_distances_on_a_logarithmic_axis() {
        let points = [1e6, 2e6, 8e6].map(|x| (x, 1.0, None)).to_vec();
        let svg = chart(true, vec![line("a", points)]).draw(Kind::Inline);
        let places = between(&svg, "points=\"", "\"").last().unwrap().split(' ');
        let x: Vec<f64> = places.map(|place| place.split_once(',').unwrap().0.parse().unwrap()).collect();
        assert!(((x[2] - x[1]) / (x[1] - x[0]) - 2.0).abs() < 0.01, "{x:?}");
        let (left, right) = (f64::from(LEFT + 60), f64::from(WIDTH - RIGHT));
        // Room for a ratio of 1.12 is left on both sides.
        let room = (right - left) * 1.12f64.ln() / (8f64 * 1.12 * 1.12).ln();
        assert!((x[0] - left - room).abs() < 2.0 && (right - x[2] - room).abs() < 2.0, "{x:?}");
    }

    #[test]
    fn one_value_makes_a_chart_too() {
        let chart = chart(true, vec![line("<a>", vec![(1.0, 5.0, Some("\"tip\"".to_owned()))])]);
        let svg = chart.draw(Kind::File);
        assert!(
            svg.contains("t &amp; u") && svg.contains("&lt;a&gt;") && svg.contains("<title>&quot;tip&quot;</title>")
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("stroke-dasharray=\"20 30\" stroke=\"var(--c1)\""), "{svg}");
        assert!(chart.draw(Kind::Inline).contains("data-tip=\"&quot;tip&quot;\""));
    }

    #[test]
    fn charts_of_nothing_are_drawn() {
        let lines = chart(true, Vec::new()).draw(Kind::Inline);
        let (title, label) = (String::new(), String::new());
        let bars = BarChart { title, label, parts: Vec::new(), bars: Vec::new(), mark: None }.draw(Kind::Inline);
        assert!(lines.ends_with("</svg>") && bars.ends_with("</svg>"), "{lines}\n{bars}");
    }

    #[test]
    fn only_what_plotters_wrote_is_taken_for_a_colour() {
        let name = r##"stroke="#000204" fill="#000003" ></svg>"##;
        let tip = Some(name.to_owned());
        let svg = chart(false, vec![line(name, vec![(0.0, 1.0, tip)])]).draw(Kind::File);
        assert!(svg.contains("#000204&quot; fill=&quot;#000003&quot; &gt;&lt;/svg&gt;"), "{svg}");
        assert!(!svg.contains("\"#") && svg.matches("</svg>").count() == 1, "{svg}");
    }

    #[test]
    fn bars_are_drawn_from_part_to_part() {
        let bar = Bar { label: "a < b".to_owned(), parts: vec![1.0, 0.5], tip: "'tip'".to_owned() };
        let parts = vec!["one".to_owned(), "two".to_owned()];
        let chart = BarChart { title: String::new(), label: String::new(), parts, bars: vec![bar], mark: Some(1.0) };
        let svg = chart.draw(Kind::Inline);
        let number = |rect: &str, name: &str| between(rect, name, "\"").next().unwrap().parse::<f64>().unwrap();
        let rects: Vec<&str> = between(&svg, "<rect", ">").filter(|rect| rect.contains("fill=\"var(--c")).collect();
        let (x, width) = (number(rects[0], "x=\""), number(rects[0], "width=\""));
        assert!((number(rects[1], "x=\"") - x - width).abs() < 2.0 && rects[1].contains("var(--c1)"), "{rects:?}");
        assert!((width / number(rects[1], "width=\"") - 2.0).abs() < 0.01, "{rects:?}");
        let mark = between(&svg, "stroke=\"var(--soft)\" stroke-width=\"10\" points=\"", ",").next().unwrap();
        assert!((mark.parse::<f64>().unwrap() - x - width).abs() < 2.0, "{mark}: {rects:?}");
        assert!(svg.contains("a &lt; b") && svg.contains("1.50") && svg.contains("data-tip=\"&#x27;tip&#x27;\""));
    }
}
