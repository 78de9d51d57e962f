// The page of an explanation: one file, inline style and SVG, no scripts, nothing fetched.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lrp/explain.h"

namespace whence::lrp {
namespace {

template <class... V> std::string format(const char* f, V... v) {
  char text[512];
  std::snprintf(text, sizeof text, f, v...);
  return text;
}

std::string escape(const std::string& s) {
  std::string r;
  for (char c : s) switch (c) {
      case '&': r += "&amp;"; break;
      case '<': r += "&lt;"; break;
      case '>': r += "&gt;"; break;
      case '"': r += "&quot;"; break;
      default: r += c;
    }
  return r;
}

std::string number(double v) {
  if (v == 0) return "0";
  double a = std::fabs(v);
  return a >= 1000 || a < 0.001 ? format("%.2e", v) : a >= 10 ? format("%.1f", v) : format("%.3f", v);
}

std::string percent(double p) { return p > 0.9995 ? "&gt; 99.9 %" : p < 0.0005 ? "&lt; 0.1 %" : format("%.1f %%", 100 * p); }

// Red for, blue against, white for none; v in [-1, 1]. A mild gamma keeps weak evidence visible.
std::string colour(double v) {
  v = std::clamp(v, -1.0, 1.0);
  double t = std::pow(std::fabs(v), 0.7);
  const double to[2][3] = {{33, 102, 172}, {178, 24, 43}};
  const double* end = to[v > 0];
  auto mix = [&](int i) { return int(255 + (end[i] - 255) * t + 0.5); };
  return format("#%02x%02x%02x", mix(0), mix(1), mix(2));
}
const char* ink(double v) { return std::fabs(v) > 0.55 ? "#fff" : "#222"; }

const char* const kStyle = R"(
:root{--ink:#1d2733;--soft:#5b6776;--line:#e3e8ee;--card:#fff;--page:#f5f7fa;--for:#b2182b;--against:#2166ac;--leak:#c58a1a}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 "Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:26px 28px 40px}
h1{font-size:25px;margin:0;letter-spacing:-.01em}
h2{font-size:16px;margin:0 0 2px}
.sub{color:var(--soft);margin:2px 0 18px}
.note{color:var(--soft);font-size:13px;margin:0 0 12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 20px 18px;margin:0 0 16px}
.cols{display:grid;grid-template-columns:1fr 1fr;gap:16px}
.cols .card{margin:0}
.verdict{display:grid;grid-template-columns:300px 1fr;gap:26px;align-items:center}
.big{font-size:30px;font-weight:650;line-height:1.15;overflow-wrap:anywhere}
.p{font-size:17px;color:var(--soft)}
.bars{display:grid;grid-template-columns:minmax(80px,auto) 1fr 76px;gap:5px 12px;align-items:center;font-size:13.5px}
.bars .n{white-space:nowrap;overflow:hidden;text-overflow:ellipsis;max-width:230px}
.bars .v{text-align:right;font-variant-numeric:tabular-nums;color:var(--soft)}
.track{background:#eef1f5;border-radius:3px;height:13px;position:relative}
.fill{position:absolute;top:0;bottom:0;left:0;border-radius:3px}
.seq{font:14px/1 ui-monospace,"SF Mono",Menlo,Consolas,monospace}
.row{display:flex;margin:0 0 5px;align-items:flex-end}
.at{width:58px;flex:none;text-align:right;padding:0 10px 4px 0;color:var(--soft);font-size:12px}
.t{display:inline-block;text-align:center;padding:5px 0 4px}
.word .t{padding:5px 5px 4px;margin:0 2px 2px 0;border-radius:3px}
.word .row{flex-wrap:wrap}
.gap{margin-left:7px}
.legend{display:flex;align-items:center;gap:10px;font-size:12.5px;color:var(--soft);margin:2px 0 14px}
.ramp{width:220px;height:11px;border-radius:3px;border:1px solid var(--line)}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:right;font-weight:600;color:var(--soft);border-bottom:1px solid var(--line);padding:4px 8px}
td{text-align:right;padding:4px 8px;border-bottom:1px solid #f0f3f6;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left;padding-left:0}
.ok{color:#1a7f4b}.bad{color:#b2182b;font-weight:600}
pre{margin:8px 0 0;font:12px/1.45 ui-monospace,Menlo,Consolas,monospace;color:var(--soft);white-space:pre-wrap}
svg text{font:11.5px "Segoe UI",Roboto,Arial,sans-serif;fill:#5b6776}
footer{color:var(--soft);font-size:12.5px;margin-top:14px}
)";

struct Bar {
  std::string name;
  double value;  // of the track, 0..1
  std::string text, colour, title;
};

std::string bars(const std::vector<Bar>& list) {
  std::string s = "<div class=bars>";
  for (const Bar& b : list)
    s += "<div class=n title=\"" + escape(b.title.empty() ? b.name : b.title) + "\">" + escape(b.name) + "</div><div class=track><div class=fill style=\"width:" +
         format("%.2f", 100 * std::clamp(b.value, 0.0, 1.0)) + "%;background:" + b.colour + "\"></div></div><div class=v>" + b.text + "</div>";
  return s + "</div>";
}

std::string class_name(const Explanation& e, int64_t k) { return size_t(k) < e.classes.size() ? e.classes[size_t(k)] : "class " + std::to_string(k); }

std::string verdict(const Explanation& e) {
  std::vector<int64_t> order = by_relevance(e.probabilities);
  std::vector<Bar> list;
  for (size_t i = 0; i < order.size() && i < 6; ++i) {
    int64_t k = order[i];
    list.push_back({class_name(e, k), e.probabilities[size_t(k)], percent(e.probabilities[size_t(k)]), k == e.target ? "#b2182b" : "#aab4c0", ""});
  }
  std::string s = "<div class=\"card verdict\"><div><div class=p>" + std::string(e.target == e.predicted ? "The model says" : "Explained class") + "</div><div class=big>" +
                  escape(class_name(e, e.target)) + "</div><div class=p>probability " + percent(e.probabilities[size_t(e.target)]) + ", score " + number(e.scores[size_t(e.target)]) + "</div>";
  if (e.target != e.predicted) s += "<div class=p>(predicted: " + escape(class_name(e, e.predicted)) + ")</div>";
  return s + "</div><div>" + bars(list) + "</div></div>";
}

double largest(const std::vector<double>& v) {
  double m = 0;
  for (double x : v) m = std::max(m, std::fabs(x));
  return m;
}
// One outlier must not bleach the rest: the scale ends at the 99th percentile of |R|.
double scale_of(std::vector<double> v) {
  for (double& x : v) x = std::fabs(x);
  if (v.empty()) return 1;
  size_t k = std::min(v.size() - 1, size_t(double(v.size()) * 0.99));
  std::nth_element(v.begin(), v.begin() + int64_t(k), v.end());
  double s = v[k] > 0 ? v[k] : *std::max_element(v.begin(), v.end());
  return s > 0 ? s : 1;
}

std::string token_text(const Explanation& e, size_t i) { return i < e.tokens.size() ? e.tokens[i] : is_float(e.sample.dtype()) ? number(e.sample.item(int64_t(i))) : std::to_string(int64_t(e.sample.item(int64_t(i)))); }

// Signed bars along the positions, averaged to at most one per pixel.
std::string profile(const std::vector<double>& r) {
  const int W = 1160, H = 88, mid = H / 2;
  size_t n = r.size(), columns = std::min<size_t>(n, 580);
  double top = largest(r);
  if (n == 0 || top == 0) return "";
  std::vector<double> mean(columns, 0);
  for (size_t c = 0; c < columns; ++c) {
    size_t a = c * n / columns, b = std::max(a + 1, (c + 1) * n / columns);
    for (size_t i = a; i < b; ++i) mean[c] += r[i] / double(b - a);
  }
  top = largest(mean);
  if (top == 0) return "";
  std::string s = format("<svg viewBox=\"0 0 %d %d\" width=\"100%%\" role=img aria-label=\"relevance along the sequence\"><line x1=0 x2=%d y1=%d y2=%d stroke=\"#cfd6de\"/>", W, H + 16, W, mid, mid);
  double w = double(W) / double(columns);
  for (size_t c = 0; c < columns; ++c) {
    double h = mean[c] / top * (mid - 3);
    if (std::fabs(h) < 0.3) continue;
    s += format("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"/>", double(c) * w, h > 0 ? mid - h : mid, std::max(0.8, w * 0.85), std::fabs(h), h > 0 ? "#b2182b" : "#2166ac");
  }
  size_t step = 1;
  for (size_t k : {10u, 20u, 50u, 100u, 200u, 500u, 1000u, 2000u, 5000u})
    if (n / k <= 14) { step = k; break; }
  if (n <= 14) step = 1;
  for (size_t i = step; i <= n; i += step) s += format("<text x=\"%.1f\" y=\"%d\" text-anchor=middle>%zu</text>", std::min(double(W) - 12, (double(i) - 0.5) * W / double(n)), H + 13, i);
  return s + "</svg>";
}

std::string sequence(const Explanation& e) {
  const std::vector<double>& r = e.relevance.relevance;
  double scale = scale_of(r);
  bool words = false;
  for (size_t i = 0; i < r.size(); ++i) words = words || token_text(e, i).size() > 1;
  size_t per_row = words ? 16 : 80, group = 10;
  std::string s = "<div class=card><h2>Where in the input</h2><p class=note>" + escape(e.relevance.name) + ". Red speaks for <b>" + escape(class_name(e, e.target)) +
                  "</b>, blue against it. Hover for position and value.</p>";
  s += profile(r);
  s += "<div class=legend><span>against &minus;" + number(scale) + "</span><span class=ramp style=\"background:linear-gradient(90deg";
  for (double v = -1; v <= 1.001; v += 0.25) s += "," + colour(v);
  s += ")\"></span><span>+" + number(scale) + " for</span><span>&nbsp; sum " + number([&] { double t = 0; for (double v : r) t += v; return t; }()) + "</span></div>";
  s += "<div class=\"seq" + std::string(words ? " word" : "") + "\">";
  for (size_t begin = 0; begin < r.size(); begin += per_row) {
    s += "<div class=row><span class=at>" + std::to_string(begin + 1) + "</span>";
    for (size_t i = begin; i < std::min(r.size(), begin + per_row); ++i) {
      double v = r[i] / scale;
      std::string text = escape(token_text(e, i));
      s += "<span class=\"t" + std::string(!words && i > begin && (i - begin) % group == 0 ? " gap" : "") + "\" style=\"" + (words ? "" : "width:12.4px;") + "background:" + colour(v) + ";color:" + ink(v) +
           "\" title=\"position " + std::to_string(i + 1) + ": " + text + ", relevance " + number(r[i]) + "\">" + text + "</span>";
    }
    s += "</div>";
  }
  return s + "</div></div>";
}

std::string flow(const std::map<std::string, LedgerRow>& rows, size_t limit) {
  std::vector<std::pair<std::string, LedgerRow>> list(rows.begin(), rows.end());
  std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.second.arrived_abs > b.second.arrived_abs; });
  double top = 0;
  for (const auto& [name, row] : list) top = std::max(top, row.arrived_abs);
  std::vector<Bar> out;
  for (const auto& [name, row] : list) {
    if (out.size() == limit) break;
    std::string label = name.empty() ? "(no scope)" : name;
    out.push_back({label, top > 0 ? row.arrived_abs / top : 0, number(row.arrived_abs), "#7d97b5",
                   label + ": arrived " + number(row.arrived) + ", passed on " + number(row.passed) + ", absorbed " + number(row.all_absorbed())});
  }
  return bars(out);
}

std::string ledger(const Explanation& e) {
  const LedgerReport& l = e.ledger;
  double size = std::max({std::fabs(l.seed), std::fabs(l.leaves), std::fabs(l.all_absorbed()), 1e-30});
  bool ok = l.holds();
  std::string s = "<div class=card><h2>The ledger</h2><p class=note>Every unit of relevance is accounted for: it reaches the input, or is held back by something named.</p><table><tr><th>entry</th><th>relevance</th><th>share of seed</th></tr>";
  auto row = [&](const std::string& name, double v, const char* weight = "") {
    s += "<tr><td" + std::string(weight) + ">" + escape(name) + "</td><td>" + number(v) + "</td><td>" + (l.seed != 0 ? format("%.1f %%", 100 * v / l.seed) : std::string("")) + "</td></tr>";
  };
  row("seed (explained score)", l.seed);
  row("reached the input", l.leaves);
  for (const auto& [name, v] : l.absorbed) row("absorbed: " + name, v);
  s += "<tr><td class=" + std::string(ok ? "ok" : "bad") + ">" + (ok ? "conserved" : "NOT conserved") + "</td><td>" + number(l.residual()) + "</td><td>" + format("%.1e", std::fabs(l.residual()) / size) + " of total</td></tr></table>";
  auto bad = l.offenders();
  for (size_t i = 0; i < bad.size() && i < 5; ++i) s += "<p class=\"note bad\">does not add up: " + escape(bad[i]->where) + ", residual " + number(bad[i]->residual()) + "</p>";
  return s + format("<p class=note style=\"margin:10px 0 0\">%zu nodes checked one by one, tolerance %.0e.</p></div>", l.nodes.size(), l.tolerance());
}

std::string plot(const Method& m, double top) {
  const int W = 540, H = 250, L = 42, R = 12, T = 10, B = 34;
  auto x = [&](double f) { return L + f * (W - L - R); };
  auto y = [&](double v) { return T + (1 - std::clamp(v / top, 0.0, 1.0)) * (H - T - B); };
  auto points = [&](const Curve& c) {
    std::string s;
    for (size_t i = 0; i < c.score.size(); ++i) s += format("%.1f,%.1f ", x(c.fraction[i]), y(c.score[i]));
    return s;
  };
  std::string s = format("<svg viewBox=\"0 0 %d %d\" width=\"100%%\" role=img>", W, H);
  for (int k = 0; k <= 4; ++k) {
    double v = top * k / 4;
    s += format("<line x1=%d x2=%d y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e8ecf1\"/><text x=%d y=\"%.1f\" text-anchor=end>%.2g</text>", L, W - R, y(v), y(v), L - 6, y(v) + 4, v);
    s += format("<text x=\"%.1f\" y=%d text-anchor=middle>%d %%</text>", x(k / 4.0), H - 18, 25 * k);
  }
  s += format("<text x=%d y=%d text-anchor=middle>positions removed</text>", (W + L) / 2, H - 3);
  const Faithfulness& f = m.curves;
  std::string back;
  for (size_t i = f.lerf.score.size(); i-- > 0;) back += format("%.1f,%.1f ", x(f.lerf.fraction[i]), y(f.lerf.score[i]));
  s += "<polygon points=\"" + points(f.morf) + back + "\" fill=\"#b2182b\" opacity=\".09\"/>";
  s += "<polyline points=\"" + points(f.random) + "\" fill=none stroke=\"#98a2ae\" stroke-width=1.6 stroke-dasharray=\"5 4\"/>";
  s += "<polyline points=\"" + points(f.lerf) + "\" fill=none stroke=\"#2166ac\" stroke-width=2.4 />";
  s += "<polyline points=\"" + points(f.morf) + "\" fill=none stroke=\"#b2182b\" stroke-width=2.4 />";
  return s + "</svg>";
}

std::string curves(const Explanation& e) {
  std::vector<const Method*> methods;
  double top = 0;
  for (const Method* m : {&e.relevance, &e.baseline})
    if (!m->curves.morf.score.empty()) {
      methods.push_back(m);
      for (const Curve* c : {&m->curves.morf, &m->curves.lerf, &m->curves.random}) top = std::max(top, largest(c->score));
    }
  if (methods.empty()) return "";
  top = top > 0.5 ? 1 : top > 0 ? top * 1.1 : 1;
  std::string s = "<div class=card><h2>Is the explanation true to the model?</h2><p class=note>Probability of <b>" + escape(class_name(e, e.target)) +
                  "</b> while positions are removed: <b style=\"color:#b2182b\">most relevant first</b>, <b style=\"color:#2166ac\">least relevant first</b>, "
                  "<b style=\"color:#7d8792\">at random</b>. The wider the area between red and blue, the better; 0 is chance.</p><div class=cols>";
  for (const Method* m : methods)
    s += "<div><b>" + escape(m->name) + "</b> &nbsp; area between: <b>" + format("%.3f", m->curves.abpc()) + "</b>" + plot(*m, top) +
         format("<p class=note>mean score: most relevant first %.3f, random %.3f, least relevant first %.3f</p></div>", m->curves.morf.area(), m->curves.random.area(), m->curves.lerf.area());
  return s + "</div></div>";
}

}  // namespace

std::string Explanation::html() const {
  auto scopes = ledger.by_scope(2);
  std::string s = "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>" + escape(title) + "</title><style>" + kStyle + "</style></head><body><main>";
  s += "<h1>" + escape(title) + "</h1><p class=sub>" + escape(subtitle.empty() ? format("%lld positions, rules: %s", static_cast<long long>(sample.numel()), ledger.rules.c_str()) : subtitle) + "</p>";
  s += verdict(*this) + sequence(*this) + curves(*this);
  s += "<div class=cols>" + lrp::ledger(*this) + "<div class=card><h2>Through which parts of the model</h2><p class=note>Sum of |relevance| that arrived in each scope.</p>" + flow(scopes, 14) + "</div></div>";
  s += "<div class=cols style=\"margin-top:16px\"><div class=card><h2>Through which operations</h2><p class=note>Sum of |relevance| that arrived at each kind of operation.</p>" + flow(ledger.by_op(), 14) +
       "</div><div class=card><h2>Rules</h2><p class=note>What this explanation means depends on them.</p><pre>" + escape(rules) + "</pre></div></div>";
  return s + "<footer>Whence: relevance is propagated backwards through the recorded graph, one rule per operation; the ledger checks every node.</footer></main></body></html>\n";
}

}  // namespace whence::lrp
