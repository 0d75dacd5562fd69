//! How do they compare, at a glance? Horizontal bars as SVG, legible on light and dark pages.

use std::fmt::Write;

use super::machine::Spread;

/// Widths and heights, in pixels.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 220.0;
const VALUES: f64 = 150.0;
const LINE: f64 = 22.0;
const BAR: f64 = 14.0;

/// Colours that follow the page that shows the picture.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.bar{fill:#8c959f}\
.ours{fill:#0969da}.whisker{stroke:#57606a;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.ours{fill:#58a6ff}\
.whisker{stroke:#b1bac4}}";

/// Bars that share a scale.
pub struct Panel {
    pub title: String,
    pub decimals: usize,
    pub bars: Vec<Bar>,
}

/// A measurement with its spread.
pub struct Bar {
    pub name: String,
    pub spread: Spread,
    /// Drawn in another colour.
    pub is_ours: bool,
}

/// The panels below each other.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let lines: usize = panels.iter().map(|panel| panel.bars.len() + 2).sum();
    let height = LINE * (lines + 2) as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{0}</title>\n\
         <style>{STYLE}</style>\n<text class=\"title\" x=\"8\" y=\"20\">{0}</text>\n",
        escape(title)
    );
    let mut y = LINE * 2.5;
    for panel in panels {
        panel.draw(&mut text, &mut y).expect("writing to memory");
        y += LINE;
    }
    text + "</svg>\n"
}

impl Panel {
    fn draw(&self, text: &mut String, y: &mut f64) -> std::fmt::Result {
        writeln!(text, "<text class=\"title\" x=\"8\" y=\"{y}\">{}</text>", escape(&self.title))?;
        *y += LINE;
        let longest = self.bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - NAMES - VALUES) / longest;
        for bar in &self.bars {
            self.draw_bar(bar, text, *y, scale)?;
            *y += LINE;
        }
        Ok(())
    }

    fn draw_bar(&self, bar: &Bar, text: &mut String, y: f64, scale: f64) -> std::fmt::Result {
        let Spread { median, min, max } = bar.spread;
        let class = if bar.is_ours { "ours" } else { "bar" };
        let (top, middle) = (y - BAR + 2.0, y - BAR / 2.0 + 2.0);
        let at = |value: f64| NAMES + value * scale;
        let (right, decimals) = (at(max) + 6.0, self.decimals);
        let name_end = NAMES - 8.0;
        writeln!(
            text,
            "<text x=\"{name_end}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
            escape(&bar.name)
        )?;
        writeln!(
            text,
            "<rect class=\"{class}\" x=\"{NAMES}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>",
            median * scale
        )?;
        writeln!(
            text,
            "<line class=\"whisker\" x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\"/>",
            at(min),
            at(max)
        )?;
        writeln!(text, "<text x=\"{right:.1}\" y=\"{y}\">{median:.decimals$}</text>")
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
