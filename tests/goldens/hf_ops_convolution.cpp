// op/conv*, op/conv_transpose*, op/pool and op/resize.
#include "whence/ops/conv.h"

#include "whence/ops/resize.h"
#include "tests/goldens/hf_ops.h"

namespace whence::goldens {
namespace {

Var convolution(OpCase& o) {
  size_t space = size_t(o("x").rank() - 2);
  ConvOptions c{o.ints("stride", space, 1), o.ints("padding", space, 0), o.ints("dilation", space, 1),
                o.integer("groups", 1), o.ints("output_padding", space, 0)};
  bool transposed = o.name.find("transpose") != o.name.npos;
  return transposed ? conv_transpose(o("x"), o("weight"), o.maybe("bias"), c)
                    : conv(o("x"), o("weight"), o.maybe("bias"), c);
}

Outputs causal_conv(OpCase& o) {
  bool blc = o.name.ends_with("_blc");
  Var x = blc ? o("x") : transpose(o("x"), 1, 2),
      w = reshape(o("weight"), {o("weight").shape()[0], o("weight").shape()[2]});
  std::optional<Arg> state;
  Outputs out;
  int64_t K = w.shape()[1];
  if (o.has("state")) {  // the last K inputs, oldest first; the convolution needs K - 1 of them
    Var s = transpose(o("state"), 1, 2);
    state = slice(s, 1, 1, K);
    Var all = concat({s, x}, 1);
    out["state_after"] = transpose(slice(all, 1, all.shape()[1] - K), 1, 2);
  }
  Var v = causal_conv1d(x, w, o.maybe("bias"), state);
  if (o.name.ends_with("_silu")) v = silu(v);
  out["y"] = blc ? v : transpose(v, 1, 2);
  return out;
}

// Four filters per channel (sums, differences of rows, of columns, of both), and back: the filters are orthonormal.
Outputs haar(OpCase& o) {
  Var x = o("x");
  int64_t C = x.shape()[1];
  std::vector<double> w;
  for (int64_t c = 0; c < C; ++c)
    for (double column : {1, -1})
      for (double row : {1, -1})
        for (double sign : {1.0, column, row, row * column}) w.push_back(0.5 * sign);
  Var filters = o.g.constant(Tensor::from(w, {4 * C, 1, 2, 2}).to(o.dtype));
  ConvOptions halve{.stride = {2}, .groups = C};
  Var sub = conv(x, filters, {}, halve);
  return {{"sub", sub}, {"back", conv_transpose(sub, filters, {}, halve)}};
}

PoolOptions pool(const OpCase& o) {
  size_t space = o.file.tensor("input.x", f64).shape().rank() - 2;
  PoolOptions p{.kernel = o.ints("kernel_size", space, 1), .padding = o.ints("padding", space, 0)};
  if (o.given("stride")) p.stride = o.ints("stride", space, 1);
  if (o.given("dilation")) p.dilation = o.ints("dilation", space, 1);
  p.count_include_pad = o.config.value("count_include_pad", true);
  p.ceil = o.config.value("ceil_mode", false);
  p.divisor = o.real("divisor_override", 0);
  return p;
}
Ints extents(OpCase& o) { return o.ints("output", size_t(o("x").rank() - 2), 1); }

Outputs maxima(Var values, Var indices) { return {{"y", values}, {"values", values}, {"indices", indices}}; }

Var unpooled(OpCase& o, Var x) {
  const Shape& s = x.shape();
  return max_unpool(max_pool(x, pool(o)), max_pool_indices(x, pool(o)), Ints(s.begin() + 2, s.end()));
}

Var resized(OpCase& o, Var x) {
  static const std::map<std::string, Resize> modes{
      {"nearest", Resize::nearest},  {"nearest-exact", Resize::nearest_exact},
      {"linear", Resize::linear},    {"bilinear", Resize::linear},
      {"trilinear", Resize::linear}, {"bicubic", Resize::cubic},
      {"area", Resize::area}};
  size_t space = size_t(x.rank() - 2);
  Resize mode = modes.at(o.config.value("mode", "linear"));
  bool align = o.config.value("align_corners", false);
  if (o.given("size")) return resize(x, o.ints("size", space, 1), mode, align);
  const Json& factor = o.config.at("scale_factor");
  return resize_by(
      x, factor.is_array() ? factor.get<std::vector<double>>() : std::vector<double>(space, factor.get<double>()), mode,
      align);
}

}  // namespace

const Table& convolution_cases() {
  static const Table t{
      {"conv*", just(convolution)},
      {"conv1d/causal_*", causal_conv},
      {"conv2d/haar_analysis_synthesis", haar},
      {"pool/avg*", of_x([](OpCase& o, Var x) { return avg_pool(x, pool(o)); })},
      {"pool/max*", [](OpCase& o) { return maxima(max_pool(o("x"), pool(o)), max_pool_indices(o("x"), pool(o))); }},
      {"pool/lp*", of_x([](OpCase& o, Var x) { return lp_pool(abs(x) + 0.1, o.real("p", 2), pool(o)); })},
      {"pool/adaptive_avg*", of_x([](OpCase& o, Var x) { return adaptive_avg_pool(x, extents(o)); })},
      {"pool/adaptive_max*",
       [](OpCase& o) {
         return maxima(adaptive_max_pool(o("x"), extents(o)), adaptive_max_pool_indices(o("x"), extents(o)));
       }},
      {"pool/max_unpool*", of_x(unpooled)},
      {"resize/*", of_x(resized)},
      {"resize/grid_sample", of_x([](OpCase& o, Var x) { return grid_sample(x, o("grid")); })},
  };
  return t;
}

}  // namespace whence::goldens
