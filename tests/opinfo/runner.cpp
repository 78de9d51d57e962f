// Builds a sample's expression, runs it with its gradients, and compares. What differs on purpose stands in a table.
#include "tests/opinfo/runner.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace whence::opinfo {
namespace {

struct Tolerance {
  double relative;
  bool by_element;
  double least_scale = 0;
};

bool equal_numbers(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

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

struct Result {
  std::string key;
  Tensor got, want;
  Tolerance tolerance;
  std::string difference;
};

// Values and gradients of a sample beside the stored ones.
std::vector<Result> results_of(const Operator& op, const Json& sample, Call& call) {
  std::string id = sample.at("id").get<std::string>() + ".";
  Outputs out = op.build(call);
  size_t wanted = sample.at("out").get<size_t>();
  if (out.size() < wanted) throw OptionMissing("only " + std::to_string(out.size()) + " results");
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
    if (!operands.back().defined()) throw OptionMissing("operand " + key + " is not used");
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

bool has_flag(const Json& sample, const char* flag) {
  for (const Json& f : sample.value("flags", Json::array()))
    if (f == flag) return true;
  return false;
}

// ---- where this engine does otherwise, on purpose ------------------------------------------------------------------

// Equal values share or take a gradient as they like, but <x, gradient> over all operands is what it is.
double along_operands(const Call& call, const std::string& id, const std::vector<Result>& results, bool got) {
  double sum = 0;
  for (const Result& r : results) {
    if (!r.key.starts_with("grad")) continue;
    std::vector<double> x = call.fed(id + "in" + r.key.substr(4)).to_vector<double>();
    std::vector<double> d = (got ? r.got : r.want).to_vector<double>();
    for (size_t i = 0; i < x.size(); ++i)
      if (d[i] != 0) sum += x[i] * d[i];
  }
  return sum;
}

// Do two positions along an axis of x show equal elements? They may differ where these repeat.
bool show_the_same(const Operator& op, const Call& call, const std::string& id, const Result& r) {
  if (r.want.dtype() != i64 || (r.key == "out0" && !op.name.starts_with("arg"))) return false;
  Graph now(Graph::Mode::immediate);
  Var x = now.constant(call.fed(id + "in0"));
  int64_t axis = call.integer(op.name == "kthvalue" ? 2 : 1, "dim", -1);
  auto shown = [&](const Tensor& positions) {
    Var at = now.constant(positions);
    return take_along_axis(x, at.rank() < x.rank() ? unsqueeze(at, axis) : at, axis).value();
  };
  return bitwise_equal(shown(r.got), shown(r.want));
}

bool ties_only(const Operator& op, const Call& call, const Json& sample, const std::vector<Result>& results) {
  if (!has_flag(sample, "ties")) return false;
  std::string id = sample.at("id").get<std::string>() + ".";
  for (const Result& r : results)
    if (r.key.starts_with("out") && !r.difference.empty())
      if (!show_the_same(op, call, id, r)) return false;
  double got = along_operands(call, id, results, true), want = along_operands(call, id, results, false);
  return equal_numbers(got, want) || std::fabs(got - want) <= 1e-9 * std::max(1.0, std::fabs(want));
}

// An infinity or NaN is expected, or met, or the function has no value there.
bool limits_only(const Operator&, const Call& call, const Json& sample, const std::vector<Result>& results) {
  if (!has_flag(sample, "nonfinite_in") && !has_flag(sample, "nonfinite_out") && !has_flag(sample, "nonfinite_grad"))
    return false;
  std::string id = sample.at("id").get<std::string>() + ".";
  std::vector<double> value = results[0].want.to_vector<double>();
  for (const Result& r : results) {
    if (r.difference.empty()) continue;
    if (!(r.got.shape() == r.want.shape()) || r.got.dtype() != r.want.dtype()) return false;
    std::vector<double> got = r.got.to_vector<double>(), want = r.want.to_vector<double>();
    std::vector<double> x;
    if (r.key.starts_with("grad")) x = call.fed(id + "in" + r.key.substr(4)).to_vector<double>();
    for (size_t i = 0; i < got.size(); ++i) {
      bool met = !std::isfinite(want[i]) || (i < x.size() && !std::isfinite(x[i])) ||
                 (value.size() == got.size() && std::isnan(value[i]));
      if (!met && std::fabs(got[i] - want[i]) > 1e-9 * std::max(1.0, std::fabs(want[i]))) return false;
      if (!met && std::isnan(got[i])) return false;
    }
  }
  return true;
}

// floor(a / b) is at most one beside the quotient that the remainder leaves.
bool neighbours(const Operator&, const Call&, const Json& sample, const std::vector<Result>& results) {
  if (!has_flag(sample, "rounding")) return false;
  std::vector<double> got = results[0].got.to_vector<double>(), want = results[0].want.to_vector<double>();
  for (size_t i = 0; i < got.size(); ++i)
    if (!equal_numbers(got[i], want[i]) && !(std::fabs(got[i] - want[i]) <= 1)) return false;
  for (size_t i = 1; i < results.size(); ++i)
    if (!results[i].difference.empty()) return false;
  return true;
}

struct Convention {
  const char* names;  ///< operators; "" is all
  bool (*holds)(const Operator&, const Call&, const Json& sample, const std::vector<Result>&);
  const char* reason;
};
const Convention kConventions[] = {
    {"", ties_only, "of equal values the first takes the gradient, and is the one that is found"},
    {"div.floor_rounding floor_divide", neighbours, "a quotient is rounded before its floor is taken"},
    {"acos acosh asin asinh atanh erfc hypot ldexp logaddexp2 logit sinc special.entr special.xlog1py tan xlogy "
     "std std.unbiased std_mean std_mean.unbiased var var.unbiased var_mean var_mean.unbiased masked.std masked.var "
     "logcumsumexp prod cumprod masked.prod masked.norm linalg.norm linalg.vector_norm norm dist cdist",
     limits_only, "a line of functions has no gradient where it has no value, and none of infinity"},
    {"nn.functional.hardtanh nn.functional.hardshrink nn.functional.relu6 nn.functional.softshrink", limits_only,
     "at NaN the reference's vector loops give no gradient, its remainder loops the cotangent"},
    {"amax amin aminmax masked.amax masked.amin clamp", limits_only,
     "NaN is the largest and the smallest: the first one takes the gradient"},
};

// Calls that the reference refuses and this engine takes.
struct Accepted {
  const char* names;
  const char* why;       ///< of the sample
  const char* argument;  ///< what its arguments hold
  const char* reason;
};
const Accepted kAccepted[] = {
    {"gather scatter scatter_add take_along_dim index_select index_add", "dtype", "\"i32\"", "positions may be i32"},
    {"cov", "argument", "aweights", "that weights are not negative is not looked at"},
    {"nn.functional.max_pool1d nn.functional.max_pool2d nn.functional.max_pool3d", "shape", "[0,",
     "nothing is pooled of no channels"},
};

// Faults that are being mended.
constexpr const char* kToMend =
    "abs atan2 cumprod prod diff linalg.norm.subgradients_at_zero logaddexp mean "
    "nn.functional.adaptive_avg_pool2d nn.functional.adaptive_avg_pool3d nn.functional.adaptive_max_pool2d "
    "nn.functional.adaptive_max_pool3d nn.functional.elu nn.functional.hardtanh nn.functional.relu "
    "nn.functional.softshrink sgn sign";

std::set<std::string> words(const char* text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}
bool names(const char* list, const std::string& op) { return !*list || words(list).contains(op); }

}  // namespace

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
    return {names(kToMend, op.name) ? Outcome::to_mend : Outcome::fail, std::string("threw ") + e.what()};
  }
  std::string text;
  for (const Result& r : results)
    if (!r.difference.empty()) text += (text.empty() ? "" : "; ") + r.key + ": " + r.difference;
  if (text.empty()) return {};
  for (const Convention& c : kConventions)
    if (names(c.names, op.name) && c.holds(op, call, sample, results)) return {Outcome::convention, c.reason};
  return {names(kToMend, op.name) ? Outcome::to_mend : Outcome::fail, text};
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
  for (const Accepted& a : kAccepted)
    if (names(a.names, op.name) && sample.at("why") == a.why && sample.dump().find(a.argument) != std::string::npos)
      return {Outcome::convention, a.reason};
  return {names(kToMend, op.name) ? Outcome::to_mend : Outcome::fail,
          "was accepted, " + sample.at("why").get<std::string>()};
}

}  // namespace whence::opinfo
