// How far a long loop has come.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace whence {

struct ProgressOptions {
  int fd = 2;                   ///< where to write; standard error
  double line_seconds = 10;     ///< between lines when the output is no terminal
  double redraw_seconds = 0.1;  ///< between redraws when it is
  int width = 0;                ///< columns; 0 asks the terminal
  int tty = -1;                 ///< 1: treat as a terminal, 0: not, -1: ask isatty
};

/// On a terminal one line that is redrawn: label, bar, count, rate, time left, suffix. Elsewhere (a log file,
/// a pipe) a plain line every few seconds. Never throws; a closed output is ignored. One thread at a time.
///
/// \code
///   Progress bar(steps, "train");
///   for (...) bar.advance(1, "loss 1.234");
/// \endcode
class Progress {
 public:
  /// \p total 0: unknown; no bar and no time left are shown.
  explicit Progress(int64_t total, std::string label = "", ProgressOptions options = {});
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  ///< finishes

  /// `done` of the total are done; for resumed loops, call it once with the start before the first step.
  void update(int64_t done, std::string_view suffix = {});
  void advance(int64_t by = 1, std::string_view suffix = {});
  /// Draws the final state and ends the line. Later calls do nothing.
  void finish();
  /// Writes a line of text without tearing the bar.
  void message(std::string_view text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "0:07", "12:34", "3:04:05", "2d 03h".
std::string format_duration(double seconds);
/// "950", "12.3k", "4.56M": three digits.
std::string format_count(double value);

}  // namespace whence
