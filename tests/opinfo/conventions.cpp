// Where this engine does otherwise than the reference on purpose. Each check says what may differ, and nothing else
// may: docs/numerics.md has the reasons.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {
namespace {

bool has_flag(const Json& sample, const char* flag) {
  for (const Json& f : sample.value("flags", Json::array()))
    if (f == flag) return true;
  return false;
}

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

// An infinity or NaN is expected, or met, or the function has no value there. \p nan  or a gradient is NaN
bool limits(const Call& call, const Json& sample, const std::vector<Result>& results, bool nan) {
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
                 (value.size() == got.size() && std::isnan(value[i])) || (nan && !x.empty() && std::isnan(got[i]));
      if (!met && std::fabs(got[i] - want[i]) > 1e-9 * std::max(1.0, std::fabs(want[i]))) return false;
      if (!met && std::isnan(got[i])) return false;
    }
  }
  return true;
}

bool limits_only(const Operator&, const Call& call, const Json& sample, const std::vector<Result>& results) {
  return limits(call, sample, results, false);
}
bool limits_or_nan(const Operator&, const Call& call, const Json& sample, const std::vector<Result>& results) {
  return limits(call, sample, results, true);
}

// Of the first operand's zeros the angle may have the other sign; 0 and pi meet where both operands are 0.
bool zeros_without_sign(const Operator&, const Call& call, const Json& sample, const std::vector<Result>& results) {
  std::string id = sample.at("id").get<std::string>() + ".";
  std::vector<double> y = call.fed(id + "in0").to_vector<double>(), x = call.fed(id + "in1").to_vector<double>();
  std::vector<double> got = results[0].got.to_vector<double>(), want = results[0].want.to_vector<double>();
  if (x.size() != got.size() || y.size() != got.size()) return false;
  for (size_t i = 0; i < got.size(); ++i)
    if (std::fabs(got[i] - want[i]) > 1e-9 * std::fabs(want[i]))
      if (y[i] != 0 || (x[i] != 0 && std::fabs(got[i]) != std::fabs(want[i]))) return false;
  for (size_t k = 1; k < results.size(); ++k)
    if (!results[k].difference.empty()) return false;
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
     "masked.prod masked.norm linalg.norm linalg.vector_norm norm dist cdist",
     limits_only, "a line of functions has no gradient where it has no value, and none of infinity"},
    {"logaddexp logcumsumexp prod cumprod atan2", limits_or_nan,
     "of infinite operands a share of the gradient, none, or NaN"},
    {"atan2", zeros_without_sign, "zeros have no sign: angles lie in (-pi, pi], and that of the origin is 0"},
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

bool names(const char* list, const std::string& op) { return !*list || words(list).contains(op); }

}  // namespace

const char* convention(const Operator& op, const Call& call, const Json& sample, const std::vector<Result>& results) {
  for (const Convention& c : kConventions)
    if (names(c.names, op.name) && c.holds(op, call, sample, results)) return c.reason;
  return nullptr;
}

const char* accepted(const Operator& op, const Json& call) {
  for (const Accepted& a : kAccepted)
    if (names(a.names, op.name) && call.at("why") == a.why && call.dump().find(a.argument) != std::string::npos)
      return a.reason;
  return nullptr;
}

}  // namespace whence::opinfo
