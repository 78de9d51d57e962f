// What a training run measures: one JSON object per line, and a picture of the curves.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace whence {

using MetricValue = std::variant<double, int64_t, bool, std::string>;
using Metrics = std::map<std::string, MetricValue>;

/// Appends lines such as {"step":10,"loss":1.25}. Each line reaches the file in one write, so a crash can cut
/// off the last line at most, which readers ignore; opening the file again removes such a rest. NaN and
/// infinities are written as null and read back as NaN.
class MetricsWriter {
 public:
  /// Creates or continues `path`. \throws IoError, for a folder or a pipe too.
  explicit MetricsWriter(std::string path);
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;
  ~MetricsWriter();
  /// Keys come out in the order given. \throws IoError, for example when the disk is full.
  void write(std::initializer_list<std::pair<std::string_view, MetricValue>> values);
  void write(const Metrics& values);
  const std::string& path() const { return path_; }

 private:
  void append(const std::vector<std::pair<std::string_view, const MetricValue*>>& values);
  std::string path_;
  int fd_ = -1;
};

/// All lines. A last line without its line break is ignored. \throws IoError naming the line for any other
/// damage.
std::vector<Metrics> read_metrics(const std::string& path);
/// Removes lines whose number `key` is above `last`, in one atomic step: after resuming at a checkpoint, what
/// the lost steps wrote. A missing file is no error.
void rewind_metrics(const std::string& path, std::string_view key, double last);
/// (x, y) of the lines that hold both keys as numbers.
std::pair<std::vector<double>, std::vector<double>> metric_series(const std::vector<Metrics>& lines,
                                                                  const std::string& x, const std::string& y);

// ---- pictures ---------------------------------------------------------------------------------------------------

struct CurveSeries {
  std::string name;
  std::vector<double> x, y;
};

struct CurveOptions {
  std::string title{}, x_label = "step", y_label{};
  bool log_y = false;    ///< values that are not positive are left out
  double smoothing = 0;  ///< 0 to 1: weight of the past in an exponential average, drawn over the pale raw
                         ///< line; 0 draws it plain
  int width = 720, height = 420;
};

/// An SVG picture: axes, ticks, a legend, one colour per series. NaN and infinite points break the line.
/// \throws ValueError when x and y of a series differ in length, or smoothing is outside [0, 1).
std::string curve_svg(const std::vector<CurveSeries>& series, const CurveOptions& options = {});
/// The same into a file, in one atomic step. \throws IoError.
void save_curves(const std::string& path, const std::vector<CurveSeries>& series, const CurveOptions& options = {});

}  // namespace whence
