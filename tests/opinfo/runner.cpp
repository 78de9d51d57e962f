// Builds a sample's expression, runs it with its gradients, and compares.
#include "tests/opinfo/runner.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace whence::opinfo {
namespace {

// "" when they agree.
std::string difference(const Tensor& got, const Tensor& want, const Tolerance& tolerance) {
  if (!(got.shape() == want.shape())) return "shape " + got.shape().str() + ", expected " + want.shape().str();
  if (got.dtype() != want.dtype())
    return "dtype " + std::string(name_of(got.dtype())) + ", expected " + std::string(name_of(want.dtype()));
  std::vector<double> a = got.to_vector<double>(), b = want.to_vector<double>();
  double largest = tolerance.least_scale, worst = 0;
  for (double v : b)
    if (std::isfinite(v)) largest = std::max(largest, std::fabs(v));
  size_t at = 0, count = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (equal_numbers(a[i], b[i])) continue;
    double scale = tolerance.by_element ? std::max(std::fabs(b[i]), tolerance.least_scale) : largest;
    double excess = std::fabs(a[i] - b[i]) / (scale * tolerance.relative);
    if (excess <= 1) continue;
    ++count;
    if (!(excess <= worst)) worst = excess, at = i;
  }
  if (!count) return "";
  std::ostringstream text;
  text.precision(17);
  text << count << " of " << a.size() << " differ, at " << at << " " << a[at] << ", expected " << b[at];
  return text.str();
}

// Values and gradients of a sample beside the stored ones.
std::vector<Result> results_of(const Operator& op, const Json& sample, Call& call) {
  std::string id = sample.at("id").get<std::string>() + ".";
  Outputs out = op.build(call);
  size_t wanted = sample.at("out").get<size_t>();
  if (out.size() < wanted) throw ValueError("only " + std::to_string(out.size()) + " results");
  std::vector<Result> results;
  std::vector<Var> vars;
  for (size_t i = 0; i < wanted; ++i) {
    std::string key = "out" + std::to_string(i);
    results.push_back({key, {}, op.file.tensor(id + key), {op.rtol, op.by_element}, ""});
    vars.push_back(out[i]);
  }
  double largest_cotangent = 0;
  std::vector<Var> operands, gradients;
  for (const Json& i : sample.value("grad", Json::array())) {
    std::string key = id + "in" + std::to_string(i.get<int>());
    operands.push_back(call.input(key));
    if (!operands.back().defined()) throw ValueError("operand " + key + " is not used");
  }
  for (const Json& i : sample.value("cot", Json::array())) {
    if (operands.empty()) break;
    size_t k = i.get<size_t>();
    Tensor cotangent = op.file.tensor(id + "cot" + std::to_string(k));
    for (double v : cotangent.to_vector<double>())
      if (std::isfinite(v)) largest_cotangent = std::max(largest_cotangent, std::fabs(v));
    std::vector<Var> parts = grad(out.at(k), operands, call.g.constant(cotangent));
    for (size_t n = 0; n < parts.size(); ++n)
      if (gradients.size() == n) gradients.push_back(parts[n]);
      else gradients[n] = gradients[n] + parts[n];
  }
  for (size_t n = 0; n < operands.size(); ++n) {
    std::string key = "grad" + std::to_string(sample.at("grad")[n].get<int>());
    results.push_back({key, {}, op.file.tensor(id + key), {op.rtol_grad, op.by_element, 1e-3 * largest_cotangent}, ""});
    vars.push_back(gradients.at(n));
  }
  Results ran = compile(vars).run(call.feeds());
  for (size_t i = 0; i < results.size(); ++i) {
    results[i].got = ran[i];
    results[i].difference = difference(ran[i], results[i].want, results[i].tolerance);
  }
  return results;
}

}  // namespace

std::set<std::string> words(const char* text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

bool equal_numbers(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

std::map<std::string, Builder> operators() {
  std::map<std::string, Builder> all;
  for (Table (*rows)() : {elementwise_rows, activation_rows, reduction_rows, masked_rows, norm_rows, shape_rows,
                          index_rows, linear_algebra_rows, layer_rows, loss_rows})
    for (const Row& row : rows())
      for (const std::string& name : words(row.names))
        if (!all.emplace(name, row.build).second) throw ValueError("two rows for " + name);
  return all;
}

Verdict run_sample(const Operator& op, const Json& sample) {
  Call call(op.file, sample);
  std::vector<Result> results;
  try {
    results = results_of(op, sample, call);
  } catch (const OptionMissing& e) {
    return {Outcome::missing, e.what()};
  } catch (const std::exception& e) {
    return {Outcome::fail, std::string("threw ") + e.what()};
  }
  std::string text;
  for (const Result& r : results)
    if (!r.difference.empty()) text += (text.empty() ? "" : "; ") + r.key + ": " + r.difference;
  if (text.empty()) return {};
  if (const char* reason = convention(op, call, sample, results)) return {Outcome::convention, reason};
  return {Outcome::fail, text};
}

Verdict run_refused(const Operator& op, const Json& sample) {
  Call call(op.file, sample);
  try {
    Outputs out = op.build(call);
    if (!out.empty()) compile(out).run(call.feeds());
  } catch (const OptionMissing& e) {
    return {Outcome::missing, e.what()};
  } catch (const Error&) {
    return {};
  } catch (const std::exception& e) {
    return {Outcome::fail, std::string("threw another exception: ") + e.what()};
  }
  if (const char* reason = accepted(op, sample)) return {Outcome::convention, reason};
  return {Outcome::fail, "was accepted, " + sample.at("why").get<std::string>()};
}

}  // namespace whence::opinfo
