#include "tests/goldens/runner.h"

#include <cmath>
#include <filesystem>
#include <random>

namespace whence::goldens {

File::File(const std::string& p)
    : path(p), name(std::filesystem::path(p).stem().string()), data(Safetensors::open(p)) {}

const std::string& File::meta(const std::string& key) const {
  static const std::string none;
  auto it = data.metadata().find(key);
  return it == data.metadata().end() ? none : it->second;
}

Json File::json(const std::string& key) const {
  const std::string& text = meta(key);
  return text.empty() ? Json() : Json::parse(text);
}

Tensor File::tensor(const std::string& key, DType dtype) const {
  Tensor t = data.tensor(key);
  if (!is_float(t.dtype())) return t.contiguous_tensor();
  t = t.to(dtype).contiguous_tensor();
  if (nudge) {
    t = t.contiguous_copy();
    std::mt19937_64 random(nudge ^ std::hash<std::string>()(key));
    std::uniform_real_distribution<double> unit(-1, 1);
    for (int64_t i = 0; i < t.numel(); ++i) t.data<double>()[i] *= 1 + std::ldexp(unit(random), -24);
  }
  return t;
}

void Check::compare(const std::string& key, const Tensor& got, const Tensor& want, double tolerance, double scale) {
  ++compared;
  double error = 0, largest = 0;
  if (!(got.shape() == want.shape())) {
    error = INFINITY;
  } else {
    Tensor a = got.to(f64).contiguous_tensor(), b = want.to(f64).contiguous_tensor();
    const double *x = a.data<double>(), *y = b.data<double>();
    for (int64_t i = 0; i < a.numel(); ++i) {
      if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) {
        if (std::isfinite(y[i])) largest = std::max(largest, std::fabs(y[i]));
        continue;
      }
      double d = std::fabs(x[i] - y[i]);
      error = std::isfinite(d) ? std::max(error, d) : INFINITY;
      if (std::isfinite(y[i])) largest = std::max(largest, std::fabs(y[i]));
    }
  }
  if (scale < 0) scale = largest > 0 ? largest : 1;
  double relative = error / scale, ratio = relative / tolerance;
  if (tolerance == 0) ratio = relative == 0 ? 0 : INFINITY;
  if (ratio > worst_ratio || worst_key.empty()) {
    worst_ratio = ratio;
    worst_error = relative;
    worst_tolerance = tolerance;
    worst_key = key;
  }
  if (!(ratio <= 1) && ++failed <= 4)
    failures +=
        (failures.empty() ? "" : ", ") + key +
        (got.shape() == want.shape() ? "" : " (shape " + got.shape().str() + ", expected " + want.shape().str() + ")");
}

Report run_case(const File& file, DType dtype, const std::function<void(Check&)>& body) {
  Report r;
  Check check;
  char text[512];
  std::string head = file.name + " " + std::string(name_of(dtype));
  try {
    body(check);
    std::snprintf(text, sizeof text, "  largest error %.2e at %s, tolerance %.0e, %d tensors", check.worst_error,
                  check.worst_key.c_str(), check.worst_tolerance, check.compared);
    r.outcome = check.passed() ? Outcome::pass : Outcome::fail;
    r.line = (check.passed() ? "pass " : "FAIL ") + head + text;
    if (!check.passed())
      r.line += check.compared ? "; " + std::to_string(check.failed) + " outside: " + check.failures
                               : "; nothing was compared";
  } catch (const OpsMissing& e) {
    r.outcome = Outcome::missing;
    r.line = "ops missing: " + std::string(e.what()) + "  " + head;
  } catch (const MissingRule& e) {
    r.outcome = Outcome::fail;
    r.line = "FAIL " + head + "  " + e.what();
  } catch (const std::exception& e) {
    r.outcome = Outcome::fail;
    r.line = "FAIL " + head + "  threw: " + e.what();
  }
  return r;
}

}  // namespace whence::goldens
