// The curve picture of nn/metrics.h.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "whence/nn/io/atomic_file.h"
#include "whence/nn/metrics.h"
#include "whence/tensor/error.h"

namespace whence {
namespace {

// Distinguishable with the common colour blindnesses (Okabe and Ito), dark enough on white.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#555555"};

std::string text_of(std::string_view s) {
  std::string out;
  for (char c : s) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else if (uint8_t(c) >= 0x20 || c == '\t') out += c;
  }
  return out;
}

std::string number(double v, int digits = 2) {
  char text[40];
  std::snprintf(text, sizeof text, "%.*f", digits, v);
  return text;
}

// `thousands`: every tick of the axis in units of 1000.
std::string tick_text(double v, bool thousands) {
  if (v == 0) return "0";
  char text[40];
  double a = std::fabs(v);
  if (a >= 1e6 || a < 1e-4) {
    std::snprintf(text, sizeof text, "%.3g", v);
  } else if (thousands) {
    std::snprintf(text, sizeof text, "%.0fk", v / 1000);
  } else {
    std::snprintf(text, sizeof text, "%.6g", v);
  }
  return text;
}

struct Axis {
  double lo = 0, hi = 1;
  bool log = false;
  std::vector<double> ticks;
  bool thousands() const {
    bool whole = !ticks.empty() && std::fabs(ticks.back()) >= 10'000;
    for (double t : ticks) whole = whole && std::fmod(t, 1000) == 0;
    return whole;
  }
  double at(double v) const {
    return log ? (std::log10(v) - std::log10(lo)) / (std::log10(hi) - std::log10(lo)) : (v - lo) / (hi - lo);
  }
};

// Round numbers (1, 2 or 5 times a power of ten) that cover lo..hi; `widen` moves the ends out to ticks.
Axis linear_axis(double lo, double hi, int want, bool widen) {
  Axis a;
  if (!(lo < hi)) {
    double pad = lo == 0 ? 1 : std::fabs(lo) * 0.1;
    lo -= pad;
    hi += pad;
  }
  double raw = (hi - lo) / want, unit = std::pow(10, std::floor(std::log10(raw))), step = unit;
  for (double m : {1.0, 2.0, 5.0, 10.0}) {
    step = m * unit;
    if (step >= raw * 0.999) break;
  }
  double first = std::floor(lo / step + 1e-9) * step, last = std::ceil(hi / step - 1e-9) * step;
  a.lo = widen ? first : lo;
  a.hi = widen ? last : hi;
  int count = int(std::lround((last - first) / step));
  for (int i = 0; i <= count && i < 100; ++i) {
    double t = first + i * step;
    if (std::fabs(t) < step * 1e-9) t = 0;
    if (t >= a.lo - step * 1e-6 && t <= a.hi + step * 1e-6) a.ticks.push_back(t);
  }
  return a;
}

Axis log_axis(double lo, double hi) {
  Axis a;
  a.log = true;
  if (!(lo < hi)) lo /= 1.5, hi *= 1.5;
  double decades = std::log10(hi / lo);
  a.lo = std::pow(10, std::log10(lo) - 0.03 * decades);
  a.hi = std::pow(10, std::log10(hi) + 0.03 * decades);
  int every = decades > 12 ? int(decades / 6) : 1;
  for (int e = int(std::floor(std::log10(a.lo))); e <= int(std::ceil(std::log10(a.hi))); ++e)
    for (double m : {1.0, 2.0, 5.0}) {
      double t = m * std::pow(10, e);
      bool wanted = decades < 2.5 || (m == 1 && e % every == 0);
      if (wanted && t >= a.lo && t <= a.hi) a.ticks.push_back(t);
    }
  if (a.ticks.size() < 2) {
    a.ticks.clear();
    for (double t : linear_axis(a.lo, a.hi, 5, false).ticks)
      if (t > 0) a.ticks.push_back(t);
  }
  return a;
}

}  // namespace

std::string curve_svg(const std::vector<CurveSeries>& series, const CurveOptions& o) {
  if (!(o.smoothing >= 0 && o.smoothing < 1))
    throw ValueError("curve_svg: smoothing must lie in [0, 1), got " + std::to_string(o.smoothing));
  if (o.width < 200 || o.height < 120) throw ValueError("curve_svg: the picture must be at least 200 by 120");
  auto shown = [&](double x, double y) { return std::isfinite(x) && std::isfinite(y) && (!o.log_y || y > 0); };
  constexpr double inf = std::numeric_limits<double>::infinity();
  double x0 = inf, x1 = -inf, y0 = inf, y1 = -inf;
  for (const auto& s : series) {
    if (s.x.size() != s.y.size())
      throw ValueError("curve_svg: series '" + s.name + "' has " + std::to_string(s.x.size()) + " x and " +
                       std::to_string(s.y.size()) + " y");
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!shown(s.x[i], s.y[i])) continue;
      x0 = std::min(x0, s.x[i]);
      x1 = std::max(x1, s.x[i]);
      y0 = std::min(y0, s.y[i]);
      y1 = std::max(y1, s.y[i]);
    }
  }
  bool any = x0 <= x1;
  if (!any) x0 = 0, x1 = 1, y0 = o.log_y ? 0.1 : 0, y1 = 1;
  const double left = 70, right = 20, top = o.title.empty() ? 18 : 40, bottom = 50;
  const double w = o.width - left - right, h = o.height - top - bottom;
  Axis ax = linear_axis(x0, x1, std::max(3, int(w / 95)), false);
  Axis ay = o.log_y ? log_axis(y0, y1) : linear_axis(y0, y1, std::max(3, int(h / 55)), true);
  auto px = [&](double x) { return left + w * ax.at(x); };
  auto py = [&](double y) { return top + h * (1 - ay.at(y)); };

  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + std::to_string(o.width) + "\" height=\"" +
                    std::to_string(o.height) + "\" viewBox=\"0 0 " + std::to_string(o.width) + " " +
                    std::to_string(o.height) +
                    "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" "
                    "fill=\"#333333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  if (!o.title.empty())
    out += "<text x=\"" + number(left) + "\" y=\"24\" font-size=\"15\" font-weight=\"600\">" + text_of(o.title) +
           "</text>\n";
  out += "<g stroke=\"#e6e6e6\" stroke-width=\"1\">\n";
  for (double t : ay.ticks)
    out += "<line x1=\"" + number(left) + "\" x2=\"" + number(left + w) + "\" y1=\"" + number(py(t)) + "\" y2=\"" +
           number(py(t)) + "\"/>\n";
  out += "</g>\n<g stroke=\"#888888\" stroke-width=\"1\">\n";
  for (double t : ax.ticks)
    out += "<line x1=\"" + number(px(t)) + "\" x2=\"" + number(px(t)) + "\" y1=\"" + number(top + h) + "\" y2=\"" +
           number(top + h + 5) + "\"/>\n";
  out += "<path fill=\"none\" d=\"M" + number(left) + " " + number(top) + "V" + number(top + h) + "H" +
         number(left + w) + "\"/>\n</g>\n";
  for (double t : ay.ticks)
    out += "<text x=\"" + number(left - 8) + "\" y=\"" + number(py(t) + 4) + "\" text-anchor=\"end\">" +
           tick_text(t, ay.thousands()) + "</text>\n";
  for (double t : ax.ticks)
    out += "<text x=\"" + number(px(t)) + "\" y=\"" + number(top + h + 19) + "\" text-anchor=\"middle\">" +
           tick_text(t, ax.thousands()) + "</text>\n";
  if (!o.x_label.empty())
    out += "<text x=\"" + number(left + w / 2) + "\" y=\"" + number(top + h + 40) + "\" text-anchor=\"middle\">" +
           text_of(o.x_label) + "</text>\n";
  if (!o.y_label.empty())
    out += "<text transform=\"translate(16 " + number(top + h / 2) + ") rotate(-90)\" text-anchor=\"middle\">" +
           text_of(o.y_label) + "</text>\n";

  auto path = [&](const std::vector<double>& x, const std::vector<double>& y, const char* colour, const char* style) {
    std::string d;
    bool pen = false;
    size_t points = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (!shown(x[i], y[i])) {
        pen = false;
        continue;
      }
      d += (pen ? "L" : "M") + number(px(x[i]), 1) + " " + number(py(y[i]), 1);
      pen = true;
      ++points;
    }
    if (points == 1) {
      size_t i = 0;
      while (!shown(x[i], y[i])) ++i;
      out += "<circle cx=\"" + number(px(x[i]), 1) + "\" cy=\"" + number(py(y[i]), 1) + "\" r=\"3\" fill=\"" + colour +
             "\"/>\n";
    } else if (points > 1) {
      out += std::string("<path fill=\"none\" stroke=\"") + colour + "\" stroke-linejoin=\"round\" " + style + " d=\"" +
             d + "\"/>\n";
    }
  };
  for (size_t s = 0; s < series.size(); ++s) {
    const char* colour = kColours[s % std::size(kColours)];
    const auto& v = series[s];
    if (o.smoothing == 0) {
      path(v.x, v.y, colour, "stroke-width=\"1.8\"");
      continue;
    }
    path(v.x, v.y, colour, "stroke-width=\"1\" stroke-opacity=\"0.28\"");
    // Average without the pull of its start value; over logarithms where the axis is one.
    std::vector<double> smooth(v.y.size(), std::numeric_limits<double>::quiet_NaN());
    double sum = 0, weight = 0;
    for (size_t i = 0; i < v.y.size(); ++i) {
      if (!shown(v.x[i], v.y[i])) continue;
      sum = o.smoothing * sum + (1 - o.smoothing) * (o.log_y ? std::log(v.y[i]) : v.y[i]);
      weight = o.smoothing * weight + (1 - o.smoothing);
      smooth[i] = o.log_y ? std::exp(sum / weight) : sum / weight;
    }
    path(v.x, smooth, colour, "stroke-width=\"2\"");
  }

  // Legend, upper right: losses fall, so that corner is free.
  size_t longest = 0, named = 0;
  for (const auto& s : series)
    if (!s.name.empty()) longest = std::max(longest, s.name.size()), ++named;
  if (named > 0) {
    double box = std::min(w, 44 + 7.0 * double(longest)), x = left + w - box, y = top + 4;
    out += "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(box) + "\" height=\"" +
           number(10 + 18 * double(named)) + "\" rx=\"3\" fill=\"#ffffff\" fill-opacity=\"0.85\"/>\n";
    double row = y + 14;
    for (size_t s = 0; s < series.size(); ++s) {
      if (series[s].name.empty()) continue;
      out += "<line x1=\"" + number(x + 8) + "\" x2=\"" + number(x + 28) + "\" y1=\"" + number(row) + "\" y2=\"" +
             number(row) + "\" stroke=\"" + kColours[s % std::size(kColours)] + "\" stroke-width=\"2\"/>\n";
      out +=
          "<text x=\"" + number(x + 34) + "\" y=\"" + number(row + 4) + "\">" + text_of(series[s].name) + "</text>\n";
      row += 18;
    }
  }
  if (!any)
    out += "<text x=\"" + number(left + w / 2) + "\" y=\"" + number(top + h / 2) +
           "\" text-anchor=\"middle\" fill=\"#888888\">no data</text>\n";
  return out + "</svg>\n";
}

void save_curves(const std::string& path, const std::vector<CurveSeries>& series, const CurveOptions& options) {
  write_file_atomically(path, curve_svg(series, options));
}

}  // namespace whence
