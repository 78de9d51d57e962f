#include "whence/nn/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace whence {

std::string format_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  long s = std::lround(seconds);
  char text[48];
  if (s >= 86400) std::snprintf(text, sizeof text, "%ldd %02ldh", s / 86400, s / 3600 % 24);
  else if (s >= 3600) std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  else std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  return text;
}

std::string format_count(double value) {
  if (!std::isfinite(value)) return "?";
  const char* units[] = {"", "k", "M", "G", "T"};
  int u = 0;
  while (std::fabs(value) >= 999.5 && u < 4) value /= 1000, ++u;
  char text[32];
  double a = std::fabs(value);
  bool whole = u == 0 && value == std::floor(value);
  std::snprintf(text, sizeof text, "%.*f%s", whole || a >= 99.95 ? 0 : a >= 9.995 ? 1 : 2, value, units[u]);
  return text;
}

struct Progress::Impl {
  using Clock = std::chrono::steady_clock;
  ProgressOptions options;
  std::string label, suffix;
  int64_t total = 0, done = 0, first = -1;
  Clock::time_point start = Clock::now(), drawn{}, mark = start;
  int64_t mark_done = 0;
  double rate = 0;  // per second, averaged over about the last ten seconds
  bool tty = false, finished = false, on_line = false;

  static double between(Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double>(b - a).count();
  }

  void write(std::string text) const {
    for (size_t at = 0; at < text.size();) {
      ssize_t n = ::write(options.fd, text.data() + at, text.size() - at);
      if (n <= 0) return;
      at += size_t(n);
    }
  }

  void measure(Clock::time_point now) {
    double dt = between(mark, now);
    if (dt < 0.5 && rate > 0) return;
    if (dt <= 0 || done <= mark_done) return;
    double fresh = double(done - mark_done) / dt, weight = rate > 0 ? 1 - std::exp(-dt / 10) : 1;
    rate += weight * (fresh - rate);
    mark = now;
    mark_done = done;
  }

  std::string numbers(Clock::time_point now) const {
    double elapsed = between(start, now);
    std::string out = total > 0 ? std::to_string(done) + "/" + std::to_string(total) : std::to_string(done);
    double overall = elapsed > 0 && first >= 0 ? double(done - first) / elapsed : 0;
    double shown = finished ? overall : rate > 0 ? rate : overall;
    if (shown > 0) out += "  " + format_count(shown) + "/s";
    out += "  " + format_duration(elapsed);
    if (total > 0 && !finished && shown > 0)
      out += " < " + format_duration(double(std::max<int64_t>(total - done, 0)) / shown);
    if (!suffix.empty()) out += "  " + suffix;
    return out;
  }

  void draw(bool force) {
    auto now = Clock::now();
    measure(now);
    if (!force && drawn != Clock::time_point{} &&
        between(drawn, now) < (tty ? options.redraw_seconds : options.line_seconds))
      return;
    drawn = now;
    double part = total > 0 ? std::clamp(double(done) / double(total), 0.0, 1.0) : 0;
    char percent[16] = "";
    if (total > 0) std::snprintf(percent, sizeof percent, "%3.0f%% ", std::floor(100 * part));
    std::string head = label.empty() ? "" : label + " ", tail = numbers(now);
    if (!tty) {
      write(head + percent + tail + "\n");
      return;
    }
    int width = options.width;
    if (width <= 0) {
      winsize w{};
      width = ::ioctl(options.fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
    }
    std::string line = head + percent;
    int room = width - 1 - int(line.size() + tail.size()) - 3;
    if (total > 0 && room >= 10) {
      int cells = std::min(room, 40), full = int(part * cells);
      line += "[" + std::string(size_t(full), '=') + (full < cells ? ">" : "") +
              std::string(size_t(std::max(0, cells - full - 1)), ' ') + "] ";
    }
    line += tail;
    if (int(line.size()) > width - 1) line.resize(size_t(std::max(0, width - 1)));
    write("\r" + line + "\x1b[K");
    on_line = true;
  }
};

Progress::Progress(int64_t total, std::string label, ProgressOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = options;
  impl_->total = std::max<int64_t>(total, 0);
  impl_->label = std::move(label);
  impl_->tty = options.tty < 0 ? ::isatty(options.fd) == 1 : options.tty > 0;
}

Progress::~Progress() { finish(); }

void Progress::update(int64_t done, std::string_view suffix) {
  Impl& m = *impl_;
  if (m.finished) return;
  if (m.first < 0) {  // a resumed loop starts counting its rate here
    m.first = m.mark_done = m.done == 0 && done > 1 ? done : 0;
  }
  m.done = done;
  m.suffix = suffix;
  m.draw(m.total > 0 && done == m.total && m.tty);
}

void Progress::advance(int64_t by, std::string_view suffix) {
  if (impl_->first < 0) impl_->first = impl_->mark_done = 0;
  update(impl_->done + by, suffix);
}

void Progress::finish() {
  Impl& m = *impl_;
  if (m.finished) return;
  m.finished = true;
  if (m.first < 0) return;  // nothing happened
  m.draw(true);
  if (m.on_line) m.write("\n");
}

void Progress::message(std::string_view text) {
  Impl& m = *impl_;
  m.write((m.on_line && !m.finished ? "\r\x1b[K" : "") + std::string(text) + "\n");
  if (m.on_line && !m.finished) m.draw(true);
}

}  // namespace whence
