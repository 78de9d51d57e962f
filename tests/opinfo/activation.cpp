// Activations.
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {
namespace {

template <class F> Builder unary(F f) {
  return [f](Call& call) { return Outputs(f(call.var(0))); };
}

// As the reference asks: NaN is not negative, so it passes as it is.
Var exponential_unit(Var x, double negative, double steepness, double scale) {
  Var low = less_equal(x, 0);
  return where(low, expm1(where(low, x, 0) * steepness) * (negative * scale), x * scale);
}

}  // namespace

Table activation_rows() {
  return {
      {"nn.functional.celu",
       [](Call& call) {
         double alpha = call.real(1, "alpha", 1);
         return exponential_unit(call.var(0), alpha, 1 / alpha, 1);
       }},
      {"nn.functional.elu", [](Call& call) { return elu(call.var(0), call.real(1, "alpha", 1)); }},
      {"nn.functional.selu",
       unary([](Var x) { return exponential_unit(x, 1.6732632423543772, 1, 1.0507009873554805); })},
      {"nn.functional.gelu",
       [](Call& call) {
         std::string how = call.word(Call::kKeyword, "approximate", "none");
         if (how != "none" && how != "tanh") throw ValueError("gelu: no approximation '" + how + "'");
         return how == "tanh" ? gelu_tanh(call.var(0)) : gelu(call.var(0));
       }},
      {"nn.functional.glu", [](Call& call) { return glu(call.var(0), call.integer(1, "dim", -1)); }},
      {"nn.functional.hardshrink",
       [](Call& call) {
         Var x = call.var(0);
         return where(greater(abs(x), call.real(1, "lambd", 0.5)), x, stop_gradient(x * 0));
       }},
      {"nn.functional.hardsigmoid", unary(hardsigmoid)},
      {"nn.functional.hardswish", unary(hardswish)},
      {"nn.functional.hardtanh",
       [](Call& call) {
         Var x = call.var(0);
         double low = call.real(1, "min_val", -1), high = call.real(2, "max_val", 1);
         Var held = clamp(stop_gradient(x), low, high);
         return where(logical_or(less_equal(x, low), greater_equal(x, high)), held, x);
       }},
      {"nn.functional.leaky_relu",
       [](Call& call) { return leaky_relu(call.var(0), call.real(1, "negative_slope", 0.01)); }},
      {"nn.functional.logsigmoid", unary(log_sigmoid)},
      {"nn.functional.mish", unary(mish)},
      {"nn.functional.prelu",
       [](Call& call) {
         Var x = call.var(0), weight = call.var(1, "weight");
         if (weight.rank() == 1 && weight.numel() == 1) weight = reshape(weight, {});  // one for all channels
         return prelu(x, weight, x.rank() < 2 ? 0 : 1);
       }},
      {"nn.functional.relu", unary(relu)},
      {"nn.functional.relu6", unary(relu6)},
      {"nn.functional.rrelu",
       [](Call& call) {
         double lower = call.real(1, "lower", 1.0 / 8), upper = call.real(2, "upper", 1.0 / 3);
         if (lower > upper) throw ValueError("rrelu: lower is above upper");
         if (call.flag(3, "training", false)) throw OptionMissing("training draws the slope");
         return leaky_relu(call.var(0), (lower + upper) / 2);
       }},
      {"nn.functional.silu", unary(silu)},
      {"nn.functional.softplus",
       [](Call& call) {
         Var x = call.var(0);
         double beta = call.real(1, "beta", 1), threshold = call.real(2, "threshold", 20);
         return where(greater(x * beta, threshold), x, softplus(x, beta));
       }},
      {"nn.functional.softshrink", [](Call& call) { return softshrink(call.var(0), call.real(1, "lambd", 0.5)); }},
      {"nn.functional.softsign", unary(softsign)},
      {"nn.functional.tanhshrink", unary([](Var x) { return x - tanh(x); })},
      {"nn.functional.threshold",
       [](Call& call) {
         Var x = call.var(0);
         return where(less_equal(x, call.real(1, "threshold", 0)), call.real(2, "value", 0), x);
       }},
  };
}

}  // namespace whence::opinfo
