// Functions of each element: one operand, two, comparisons, casts.
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {
namespace {

constexpr double kPi = 3.14159265358979323846, kLn2 = 0.69314718055994530942, kLn10 = 2.30258509299404568402;

template <class F> Builder unary(F f) {
  return [f](Call& call) { return Outputs(f(call.var(0))); };
}
// A number takes the dtype of the tensor beside it; two of them are f32.
template <class F> Builder binary(F f) {
  return [f](Call& call) {
    if (!call.is_tensor(0) && !call.is_tensor(1)) return Outputs(f(Arg(call.var(0, "", f32)), call.arg(1)));
    return Outputs(f(call.arg(0), call.arg(1)));
  };
}
// Numbers are refused.
template <class F> Builder of_tensors(F f) {
  return [f](Call& call) {
    if (!call.is_tensor(0) || !call.is_tensor(1)) throw ValueError("an operand is no tensor");
    return Outputs(f(call.var(0), call.var(1)));
  };
}
Builder swapped(Var (*f)(Arg, Arg)) {
  return binary([f](Arg a, Arg b) { return f(b, a); });
}
// a and alpha b.
Builder with_alpha(Var (*f)(Arg, Arg), bool reversed = false) {
  return [f, reversed](Call& call) {
    Arg b = call.arg(1);
    Var a = call.var(0, "", b.is_number() ? f32 : b.dtype());
    double alpha = call.real(Call::kKeyword, "alpha", 1);
    Var left = reversed && alpha != 1 ? a * alpha : a;
    if (!reversed && alpha != 1) b = b.is_number() ? Arg(b.number * alpha) : Arg(b * alpha);
    return Outputs(reversed ? f(b, left) : f(left, b));
  };
}
Builder compared(Var (*f)(Arg, Arg)) { return binary(f); }
Builder casts_to(DType dtype) {
  return unary([dtype](Var x) { return cast(x, dtype); });
}

Var truncated(Var x) { return sign(x) * floor(abs(x)); }
Var ceiling(Var x) { return -floor(-x); }
Var is_nan(Arg x) { return not_equal(x, x); }
Var is_infinite(Arg x) { return equal(abs(x), INFINITY); }

Var as_var(Arg a, Arg beside) {
  if (a.is_number() && beside.is_number()) throw ValueError("both operands are numbers");
  return a.is_number() ? beside.var.graph().constant(a.number, beside.dtype()) : a.var;
}

// Squares of what is divided by the larger stay in range; an infinity beside NaN is one.
Var hypotenuse(Arg left, Arg right) {
  Var a = as_var(left, right), b = as_var(right, left), far = logical_or(is_infinite(a), is_infinite(b));
  Var larger = stop_gradient(maximum(abs(a), abs(b))), scale = where(logical_or(far, equal(larger, 0)), 1, larger);
  return where(far, INFINITY, sqrt(square(a / scale) + square(b / scale)) * scale);
}

// The reference takes the remainder first: none of an infinite dividend, and of an infinite divisor the dividend.
Var floored_quotient(Arg left, Arg right) {
  Var a = as_var(left, right), b = as_var(right, left);
  Var opposite = logical_and(logical_or(logical_and(less(a, 0), greater(b, 0)), logical_and(greater(a, 0), less(b, 0))),
                             less(abs(a), INFINITY));
  Var q = where(is_infinite(b), where(opposite, -1.0, stop_gradient(a * 0)), floor(a / b));
  return where(logical_and(is_infinite(a), not_equal(b, 0)), NAN, q);
}

// a log(b), 0 where a is 0 unless b is NaN. \p harmless  what stands for b there
Builder times_log(Var (*logarithm)(Arg), double harmless) {
  return [=](Call& call) {
    Arg first = call.arg(0), second = call.arg(1);
    Var a = as_var(first, second), b = as_var(second, first);
    Var nothing = logical_and(equal(a, 0), logical_not(is_nan(b)));
    return Outputs(where(nothing, 0, a * logarithm(where(nothing, harmless, b))));
  };
}

Var ignoring_nan(Arg a, Arg b, Var (*f)(Arg, Arg)) {
  Var none_a = is_nan(a), none_b = is_nan(b);
  return where(none_a, b, where(none_b, a, f(a, b)));
}

Var clamped(Var x, std::optional<Arg> low, std::optional<Arg> high) {
  if (low && high && low->is_number() && high->is_number()) return clamp(x, low->number, high->number);
  if (low) x = maximum(x, *low);
  return high ? minimum(x, *high) : x;
}

Var close(Call& call) {
  Var a = call.var(0), b = call.var(1);
  double rtol = call.real(2, "rtol", 1e-5), atol = call.real(3, "atol", 1e-8);
  if (rtol < 0 || atol < 0) throw ValueError("isclose: a tolerance is negative");
  Var d = abs(a - b),
      near = logical_or(equal(a, b), logical_and(less(d, INFINITY), less_equal(d, abs(b) * rtol + atol)));
  return call.flag(4, "equal_nan", false) ? logical_or(near, logical_and(is_nan(a), is_nan(b))) : near;
}

Var rounded(Call& call) {
  Var x = call.var(0);
  int64_t decimals = call.integer(Call::kKeyword, "decimals", 0);
  if (decimals == 0) return round(x);
  double scale = std::pow(10.0, double(std::abs(decimals)));
  return decimals > 0 ? round(x * scale) / scale : round(x / scale) * scale;
}

// x outside (-bound, bound) as it is.
Var inverse_sine(Var x) { return atan2(x, sqrt((1 - x) * (x + 1))); }

}  // namespace

Table elementwise_rows() {
  return {
      {"abs", unary(abs)},
      {"acos", unary([](Var x) { return atan2(sqrt((1 - x) * (x + 1)), x); })},
      {"acosh", unary([](Var x) {
         Var far = greater(x, 1e9), near = where(far, 2, x);  // there the square is all
         return where(far, log(where(far, x, 1)) + kLn2, log(near + sqrt(near - 1) * sqrt(near + 1)));
       })},
      {"asin", unary(inverse_sine)},
      {"asinh", unary([](Var x) {
         auto positive = [](Var z) {
           Var far = greater(z, 1e9), near = where(far, 2, z);
           return where(far, log(where(far, z, 1)) + kLn2, log1p(near + near * near / (sqrt(near * near + 1) + 1)));
         };
         Var below = less(x, 0), y = positive(where(below, -x, x));
         return where(below, -y, y);
       })},
      {"atan", unary(atan)},
      {"atanh", unary([](Var x) { return (log1p(x) - log1p(-x)) * 0.5; })},
      {"ceil", unary(ceiling)},
      {"cos", unary(cos)},
      {"cosh", unary([](Var x) { return (exp(x) + exp(-x)) * 0.5; })},
      {"deg2rad", unary([](Var x) { return x * (kPi / 180); })},
      {"erf", unary(erf)},
      {"erfc", unary([](Var x) { return 1 - erf(x); })},
      {"exp", unary(exp)},
      {"exp2", unary([](Var x) { return exp(x * kLn2); })},
      {"expm1", unary(expm1)},
      {"floor", unary(floor)},
      {"frac", unary([](Var x) { return x - truncated(x); })},
      {"isfinite", unary([](Var x) { return less(abs(x), INFINITY); })},
      {"isinf", unary(is_infinite)},
      {"isnan", unary(is_nan)},
      {"isneginf", unary([](Var x) { return equal(x, -INFINITY); })},
      {"isposinf", unary([](Var x) { return equal(x, INFINITY); })},
      {"log", unary(log)},
      {"log10", unary([](Var x) { return log(x) * (1 / kLn10); })},
      {"log1p", unary(log1p)},
      {"log2", unary([](Var x) { return log(x) * (1 / kLn2); })},
      {"logit",
       [](Call& call) {
         Var x = call.var(0);
         if (!call.given(1, "eps")) return logit(x);
         double eps = call.real(1, "eps", 0);
         return logit(clamp(x, eps, 1 - eps));
       }},
      {"nan_to_num",
       [](Call& call) {
         Var x = call.var(0);
         constexpr double largest = 1.7976931348623157e308;
         Var low =
             where(equal(x, -INFINITY), call.real(3, "neginf", -largest), where(is_nan(x), call.real(1, "nan", 0), x));
         return where(equal(x, INFINITY), call.real(2, "posinf", largest), low);
       }},
      {"neg", unary(neg)},
      {"rad2deg", unary([](Var x) { return x * (180 / kPi); })},
      {"reciprocal", unary(reciprocal)},
      {"round round.decimals_0 round.decimals_3 round.decimals_neg_3", rounded},
      {"rsqrt", unary(rsqrt)},
      {"sigmoid", unary(sigmoid)},
      {"sgn sign", unary(sign)},
      {"sin", unary(sin)},
      {"sinc", unary([](Var x) {
         Var zero = equal(x, 0), z = where(zero, 1, x) * kPi;
         return where(zero, 1, sin(z) / z);
       })},
      {"sinh", unary([](Var x) { return (expm1(x) - expm1(-x)) * 0.5; })},
      {"special.entr", unary([](Var x) {
         Var zero = equal(x, 0);
         return where(less(x, 0), -INFINITY, where(zero, 0, -x * log(where(zero, 1, x))));
       })},
      {"special.ndtr", unary([](Var x) { return (erf(x * std::sqrt(0.5)) + 1) * 0.5; })},
      {"sqrt", unary(sqrt)},
      {"square", unary(square)},
      {"tan", unary([](Var x) { return sin(x) / cos(x); })},
      {"tanh", unary(tanh)},
      {"trunc", unary(truncated)},

      {"bfloat16", casts_to(bf16)},
      {"bool", casts_to(boolean)},
      {"byte", casts_to(u8)},
      {"float", casts_to(f32)},
      {"half", casts_to(f16)},
      {"int", casts_to(i32)},
      {"long", casts_to(i64)},

      {"add", with_alpha(add)},
      {"sub", with_alpha(sub)},
      {"rsub", with_alpha(sub, true)},
      {"mul", binary(mul)},
      {"div.no_rounding_mode true_divide", binary(div)},
      {"div.floor_rounding floor_divide", binary(floored_quotient)},
      {"div.trunc_rounding", binary([](Arg a, Arg b) { return truncated(a / b); })},
      {"__radd__", swapped(add)},
      {"__rsub__", swapped(sub)},
      {"__rmul__", swapped(mul)},
      {"__rdiv__", swapped(div)},
      {"__rpow__", swapped(pow)},
      {"pow float_power", binary(pow)},
      {"atan2", binary(atan2)},
      {"hypot", binary(hypotenuse)},
      {"ldexp", binary([](Arg a, Arg b) { return a * pow(2, b); })},
      {"logaddexp", binary(logaddexp)},
      {"logaddexp2", binary([](Arg a, Arg b) { return logaddexp(a * kLn2, b * kLn2) * (1 / kLn2); })},
      {"maximum max.binary clamp_min", binary(maximum)},
      {"minimum min.binary clamp_max", binary(minimum)},
      {"fmax", binary([](Arg a, Arg b) { return ignoring_nan(a, b, maximum); })},
      {"fmin", binary([](Arg a, Arg b) { return ignoring_nan(a, b, minimum); })},
      {"clamp",
       [](Call& call) {
         std::optional<Arg> low = call.maybe(1, "min"), high = call.maybe(2, "max");
         return clamped(call.var(0), low, high);
       }},
      {"heaviside", of_tensors([](Var a, Var b) { return where(equal(a, 0), b, cast(greater(a, 0), a.dtype())); })},
      {"xlogy", times_log(log, 1)},
      {"special.xlog1py", times_log(log1p, 0)},
      {"lerp",
       [](Call& call) {
         Var a = call.var(0), b = call.var(1);
         return a + (b - a) * call.arg(2, "weight");
       }},
      {"addcmul",
       [](Call& call) { return call.var(0) + call.var(1) * call.var(2) * call.real(Call::kKeyword, "value", 1); }},
      {"addcdiv",
       [](Call& call) { return call.var(0) + call.var(1) / call.var(2) * call.real(Call::kKeyword, "value", 1); }},
      {"isclose", close},

      {"eq", compared(equal)},
      {"ne", compared(not_equal)},
      {"lt", compared(less)},
      {"le", compared(less_equal)},
      {"gt", compared(greater)},
      {"ge", compared(greater_equal)},
      {"logical_and", of_tensors([](Var a, Var b) { return logical_and(cast(a, boolean), cast(b, boolean)); })},
      {"logical_or", of_tensors([](Var a, Var b) { return logical_or(cast(a, boolean), cast(b, boolean)); })},
      {"logical_xor", of_tensors([](Var a, Var b) { return not_equal(cast(a, boolean), cast(b, boolean)); })},
      {"logical_not", unary([](Var x) { return logical_not(cast(x, boolean)); })},

      {"where", [](Call& call) { return where(call.var(1), call.arg(0), call.arg(2)); }},
      {"masked_fill",
       [](Call& call) {
         Arg value = call.arg(2, "value");
         if (!value.is_number() && value.rank() != 0) throw ShapeError("masked_fill: the value is no scalar");
         Var x = call.var(0);
         return value.is_number() ? masked_fill(x, call.var(1), value.number) : where(call.var(1), value, x);
       }},
  };
}

}  // namespace whence::opinfo
