#include "whence/lrp/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace whence::lrp {
namespace {

std::string escape(const std::string& s) {
  std::string out;
  for (char c : s) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

const char* kStyle = R"css(
:root{--ink:#1d2733;--soft:#5d6b7a;--line:#e2e7ec;--pos:#c8442f;--neg:#2f6fb3;--grey:#9aa5b1;--card:#fff}
*{box-sizing:border-box}
body{margin:0;background:#f4f6f8;color:var(--ink);
 font:15px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:27px;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:34px 0 10px}
h3{font-size:13px;margin:0 0 8px;color:var(--soft);font-weight:600}
p{margin:0 0 10px}.soft{color:var(--soft)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:0 0 18px}
.facts{display:flex;gap:14px;flex-wrap:wrap;margin:16px 0 0}
.fact{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 16px;min-width:130px}
.fact b{display:block;font-size:22px;line-height:1.25}.fact span{color:var(--soft);font-size:13px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:18px}.three{display:grid;grid-template-columns:1fr 1fr 1fr;
 gap:26px;margin-top:16px}
.head{display:flex;justify-content:space-between;gap:20px;align-items:baseline;flex-wrap:wrap;margin-bottom:10px}
.head b{font-size:17px}.ok{color:#1d7a46}.bad{color:#b3261e}
.seq{font:13px/1.75 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;border-collapse:collapse}
.seq td{padding:0;white-space:nowrap}.seq td.n{color:var(--grey);padding-right:10px;text-align:right;font-size:11px;
 user-select:none}
.seq span{padding:2px 0;border-right:1px solid #fff}
.bars{width:100%;border-collapse:collapse;font-size:13px}.bars td{padding:2px 0;vertical-align:middle}
.bars td.k{color:var(--ink);white-space:nowrap;padding-right:10px;width:1%}.bars td.v{text-align:right;
 white-space:nowrap;padding-left:8px;width:1%;font-variant-numeric:tabular-nums;color:var(--soft)}
.track{position:relative;height:11px;background:#f0f3f6;border-radius:3px}
.track i{position:absolute;top:0;bottom:0;border-radius:3px}
.legend{display:flex;align-items:center;gap:8px;font-size:12px;color:var(--soft)}
.scale{width:150px;height:10px;border-radius:3px;background:linear-gradient(90deg,#2f6fb3,#fff,#c8442f);
 border:1px solid var(--line)}
.total td{border-top:1px solid var(--line);font-weight:600}
.pictures{display:flex;gap:18px;margin:6px 0 14px}.pictures svg{border:1px solid var(--line)}
svg text{font:12px system-ui,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
@media(max-width:900px){.two,.three{grid-template-columns:1fr}}
)css";

// White at zero, red for relevance that speaks for the class, blue for what speaks against it.
std::string colour(double share) {
  double t = std::clamp(share, -1.0, 1.0), a = std::pow(std::fabs(t), 0.7);
  int r = t > 0 ? 200 : 47, g = t > 0 ? 68 : 111, b = t > 0 ? 47 : 179;
  auto mix = [&](int c) { return int(std::lround(255 + (c - 255) * a)); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(r), mix(g), mix(b));
}

std::string signed_number(double v) { return fmt::format("{:+.3f}", v == 0 ? 0.0 : v); }

// Horizontal bars around zero.
std::string bars(const std::vector<Bar>& list, bool percent = false) {
  double most = 1e-12, least = 0;
  for (const Bar& b : list) most = std::max(most, b.value), least = std::min(least, b.value);
  double span = most - least, zero = -least / span * 100;
  std::string s = "<table class=bars>";
  for (const Bar& b : list) {
    double width = std::fabs(b.value) / span * 100, left = b.value < 0 ? zero - width : zero;
    s += fmt::format(
        "<tr><td class=k>{}</td><td><div class=track><i "
        "style=\"left:{:.2f}%;width:{:.2f}%;background:{}\"></i></div></td><td class=v>{}</td></tr>",
        escape(b.name), left, width,
        b.value < 0 ? "var(--neg)"
        : percent   ? "#3c5a78"
                    : "var(--pos)",
        percent ? fmt::format("{:.1f} %", 100 * b.value) : signed_number(b.value));
  }
  return s + "</table>";
}

// The 98th percentile of the sizes: one outlier must not wash out the rest.
double most_of(std::vector<double> values) {
  if (values.empty()) return 1e-12;
  for (double& v : values) v = std::fabs(v);
  std::sort(values.begin(), values.end());
  return std::max(1e-12, values[size_t(double(values.size() - 1) * 0.98)]);
}

std::string sequence(const ReportSample& x) {
  std::vector<double> sizes;
  for (const Piece& p : x.pieces) sizes.push_back(p.relevance);
  const double most = most_of(sizes);
  std::string s = "<table class=seq>";
  constexpr size_t kRow = 100;
  size_t at = 0, in_row = 0;
  for (const Piece& p : x.pieces) {
    if (p.text.empty()) continue;
    if (in_row == 0) s += fmt::format("<tr><td class=n>{}</td><td>", at + 1);
    s += fmt::format("<span style=\"background:{}\" title=\"{}\">{}</span>", colour(p.relevance / most), escape(p.note),
                     escape(p.text));
    at += p.text.size();
    in_row += p.text.size();
    if (in_row >= kRow) {
      s += "</td></tr>";
      in_row = 0;
    }
  }
  if (in_row) s += "</td></tr>";
  return s + "</table>";
}

// Pixels as rectangles, equal neighbours of a row as one.
std::string pixels(const Picture& p, const std::vector<std::string>& colours) {
  std::string s =
      fmt::format("<svg viewBox=\"0 0 {} {}\" width=240 shape-rendering=crispEdges role=img>", p.width, p.height);
  for (int64_t y = 0; y < p.height; ++y)
    for (int64_t x = 0, end; x < p.width; x = end) {
      const std::string& c = colours[size_t(y * p.width + x)];
      for (end = x + 1; end < p.width && colours[size_t(y * p.width + end)] == c;) ++end;
      s += fmt::format("<rect x={} y={} width={} height=1 fill=\"{}\"/>", x, y, end - x, c);
    }
  return s + "</svg>";
}

std::string picture(const Picture& p) {
  auto [low, high] = std::minmax_element(p.grey.begin(), p.grey.end());
  const double most = most_of(p.relevance);
  std::vector<std::string> grey, heat;
  for (size_t i = 0; i < p.grey.size(); ++i) {
    const int v = *high > *low ? int(std::lround(255 * (p.grey[i] - *low) / (*high - *low))) : 0;
    grey.push_back(fmt::format("#{0:02x}{0:02x}{0:02x}", v));
    heat.push_back(colour(p.relevance[i] / most));
  }
  return "<div class=pictures>" + pixels(p, grey) + pixels(p, heat) + "</div>";
}

std::string ledger(const ReportSample& x) {
  auto row = [](const std::string& name, double v, const char* css = "") {
    return fmt::format("<tr{}><td class=k>{}</td><td></td><td class=v>{}</td></tr>", css, escape(name),
                       signed_number(v));
  };
  std::string s = "<table class=bars>" + row("to the input", x.inputs);
  for (const Bar& b : x.absorbed) s += row("absorbed: " + b.name, b.value);
  s += row("unexplained", x.residual) + row("= explained score", x.seed, " class=total");
  return s + "</table>";
}

std::string points(const Curve& c, auto&& px, auto&& py, bool backwards = false) {
  std::string s;
  for (size_t i = 0; i < c.score.size(); ++i) {
    size_t k = backwards ? c.score.size() - 1 - i : i;
    s += fmt::format("{:.1f},{:.1f} ", px(c.fraction[k]), py(c.score[k]));
  }
  return s;
}

std::string plot(const ReportCurves& r) {
  const double W = 520, H = 280, L = 44, R = 12, T = 10, B = 40;
  auto px = [&](double v) { return L + v * (W - L - R); };
  auto py = [&](double v) { return H - B - v * (H - T - B); };
  std::string s = fmt::format("<svg viewBox=\"0 0 {} {}\" width=\"100%\" role=img>", W, H);
  for (double v : {0.0, 0.25, 0.5, 0.75, 1.0})
    s += fmt::format(
        "<line x1={:.1f} x2={:.1f} y1={:.1f} y2={:.1f} stroke=\"#e2e7ec\"/><text x={:.1f} y={:.1f} "
        "text-anchor=end>{:.0f} %</text>",
        L, W - R, py(v), py(v), L - 6, py(v) + 4, 100 * v);
  for (double v : {0.0, 0.5, 1.0})
    s += fmt::format("<text x={:.1f} y={:.1f} text-anchor={}>{:.0f} % hidden</text>", px(v), H - B + 18,
                     v == 0   ? "start"
                     : v == 1 ? "end"
                              : "middle",
                     100 * v);
  s += fmt::format("<polygon points=\"{}{}\" fill=\"#f2d9c4\" opacity=.6 />", points(r.lerf, px, py),
                   points(r.morf, px, py, true));
  auto line = [&](const Curve& c, const char* colour, const char* dash) {
    if (!c.score.empty())
      s += fmt::format("<polyline points=\"{}\" fill=none stroke=\"{}\" stroke-width=2.4 stroke-dasharray=\"{}\"/>",
                       points(c, px, py), colour, dash);
  };
  line(r.random, "#9aa5b1", "5 4");
  line(r.lerf, "#2f6fb3", "");
  line(r.morf, "#c8442f", "");
  double y = H - 6, x = L;
  for (auto [name, colour, dash, width] :
       {std::tuple("most relevant first", "#c8442f", "", 150.0),
        std::tuple("least relevant first", "#2f6fb3", "", 152.0), std::tuple("random", "#9aa5b1", "5 4", 80.0)}) {
    s += fmt::format(
        "<line x1={:.0f} x2={:.0f} y1={:.0f} y2={:.0f} stroke=\"{}\" stroke-width=2.4 stroke-dasharray=\"{}\"/><text "
        "x={:.0f} y={:.0f}>{}</text>",
        x, x + 22, y - 4, y - 4, colour, dash, x + 28, y, name);
    x += width + 6;
  }
  return s + "</svg>";
}

}  // namespace

std::string html(const Report& r) {
  std::string s = fmt::format(
      "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{}</style><main>",
      escape(r.title), kStyle);
  s += fmt::format("<h1>{}</h1><p class=soft>{}</p>", escape(r.title), escape(r.subtitle));
  if (!r.facts.empty()) {
    s += "<div class=facts>";
    for (const Bar& f : r.facts)
      s += fmt::format("<div class=fact><b>{}</b><span>{}</span></div>",
                       f.value == std::floor(f.value) ? fmt::format("{:.0f}", f.value) : fmt::format("{:.3f}", f.value),
                       escape(f.name));
    s += "</div>";
  }
  if (!r.curves.empty()) {
    s += "<h2>Does the explanation point at what the model uses?</h2><p class=soft>" + escape(r.curve_note) +
         "</p><div class=two>";
    for (const ReportCurves& c : r.curves)
      s += fmt::format(
          "<div class=card><div class=head><b>{}</b><span>area between the curves <b>{:.3f}</b></span></div>{}</div>",
          escape(c.name), c.area(), plot(c));
    s += "</div>";
  }
  s += "<h2>Single predictions</h2><div class=head><p class=soft>" + escape(r.method) +
       "</p><div class=legend>against <div class=scale></div> for the predicted class</div></div>";
  for (const ReportSample& x : r.samples) {
    bool right = x.truth.empty() || x.truth == x.predicted;
    s += fmt::format("<section class=card><div class=head><b>{}</b><span>predicted <b class={}>{}</b>{}</span></div>",
                     escape(x.title), right ? "ok" : "bad", escape(x.predicted),
                     x.truth.empty() ? ""
                     : right         ? " (correct)"
                                     : ", true class <b>" + escape(x.truth) + "</b>");
    s += (x.picture.grey.empty() ? sequence(x) : picture(x.picture)) + "<div class=three>";
    s += "<div><h3>Leading classes</h3>" + bars(x.probabilities, true) + "<h3 style=\"margin-top:14px\">Ledger</h3>" +
         ledger(x) + "</div>";
    s += "<div><h3>" + escape(r.layers_caption) + "</h3>" + bars(x.layers) + "</div>";
    s += "<div><h3>" + escape(r.ops_caption) + "</h3>" + bars(x.ops) + "</div></div></section>";
  }
  return s + "</main></html>\n";
}

}  // namespace whence::lrp
