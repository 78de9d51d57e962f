// Convolutions, pools, padding, normalisation, resizing, attention.
#include <algorithm>
#include <cmath>

#include "tests/opinfo/runner.h"

namespace whence::opinfo {

Var per_channel(Arg v, int rank) {
  if (rank < 2) return v;
  Shape shape = Shape::filled(rank, 1);
  shape[1] = v.var.numel();
  return reshape(v, shape);
}

namespace {

constexpr int kKeyword = Call::kKeyword;

// Layers over `axes` axes of space take x without its batch, too.
template <class F> Builder over_space(int axes, F f) {
  return [=](Call& call) {
    Var x = call.var(0);
    bool single = x.rank() == axes + 1;
    if (!single && x.rank() != axes + 2)
      throw ShapeError("x has not " + std::to_string(axes) + " axes of space: " + x.shape().str());
    Outputs out = f(call, single ? unsqueeze(x, 0) : x);
    if (single)
      for (Var& v : out) v = squeeze(v, 0);
    return out;
  };
}

// ---- convolutions --------------------------------------------------------------------------------------------------
Ints each(Ints list, size_t axes) { return list.size() == 1 ? Ints(axes, list[0]) : list; }

Outputs convolution(Call& call, Var x) {
  size_t axes = size_t(x.rank()) - 2;
  Var weight = call.var(1, "weight");
  ConvOptions options{call.ints(3, "stride"), {}, call.ints(5, "dilation"), call.integer(6, "groups", 1), {}};
  if (!call.is_word(4, "padding")) {
    options.padding = call.ints(4, "padding");
  } else if (std::string how = call.word(4, "padding", ""); how == "same") {
    if (weight.rank() != x.rank()) throw ShapeError("conv: weight " + weight.shape().str());
    for (int64_t s : options.stride)
      if (s != 1) throw ValueError("conv: 'same' needs stride 1");
    Ints pads(4, 0), dilation = options.dilation.empty() ? Ints(axes, 1) : each(options.dilation, axes);
    for (size_t i = 0; i < axes; ++i) {
      int64_t all = dilation.at(i) * (weight.shape()[int(i) + 2] - 1);
      pads.push_back(all / 2), pads.push_back(all - all / 2);
    }
    x = pad(x, pads);
  } else if (how != "valid") {
    throw ValueError("conv: unknown padding '" + how + "'");
  }
  return conv(x, weight, call.maybe(2, "bias"), options);
}

Outputs transposed_convolution(Call& call, Var x) {
  ConvOptions options{call.ints(3, "stride"), call.ints(4, "padding"), call.ints(7, "dilation"),
                      call.integer(6, "groups", 1), call.ints(5, "output_padding")};
  return conv_transpose(x, call.var(1, "weight"), call.maybe(2, "bias"), options);
}

// ---- pools ---------------------------------------------------------------------------------------------------------
Outputs average_pool(Call& call, Var x) {
  PoolOptions options;
  options.kernel = call.ints(1, "kernel_size");
  options.stride = call.ints(2, "stride");
  options.padding = call.ints(3, "padding");
  options.ceil = call.flag(4, "ceil_mode", false);
  options.count_include_pad = call.flag(5, "count_include_pad", true);
  options.divisor = call.real(6, "divisor_override", 0);
  if (call.given(6, "divisor_override") && options.divisor == 0) throw ValueError("avg_pool: divisor 0");
  return avg_pool(x, options);
}

Outputs maximum_pool(Call& call, Var x) {
  PoolOptions options;
  options.kernel = call.ints(1, "kernel_size");
  options.stride = call.ints(2, "stride");
  options.padding = call.ints(3, "padding");
  options.dilation = call.ints(4, "dilation");
  options.ceil = call.flag(5, "ceil_mode", false);
  return {max_pool(x, options), max_pool_indices(x, options)};
}

// None keeps an extent.
Ints output_size(const Call& call, Var x) {
  size_t axes = size_t(x.rank()) - 2;
  Ints size;
  for (std::optional<int64_t> n : call.open_ints(1, "output_size"))
    size.push_back(n ? *n : x.shape()[int(size.size()) + 2]);
  if (size.empty()) throw ShapeError("adaptive pool: no size");
  bool one = size.size() == 1 && !call.is_list(1, "output_size");
  return one ? Ints(axes, size[0]) : size;
}

Outputs adaptive_average(Call& call, Var x) { return adaptive_avg_pool(x, output_size(call, x)); }
Outputs adaptive_maximum(Call& call, Var x) {
  Ints size = output_size(call, x);
  return {adaptive_max_pool(x, size), adaptive_max_pool_indices(x, size)};
}

Outputs unpool(Call& call, Var x) {
  size_t axes = size_t(x.rank()) - 2;
  Var indices = call.var(1, "indices");
  if (indices.rank() == x.rank() - 1) indices = unsqueeze(indices, 0);
  for (int64_t s : call.ints(3, "stride"))
    if (s < 1) throw ValueError("max_unpool: stride " + std::to_string(s));
  Ints space = call.ints(kKeyword, "output_size");
  if (space.size() > axes) space.erase(space.begin(), space.end() - int64_t(axes));
  if (space.empty()) {
    Ints kernel = each(call.ints(2, "kernel_size"), axes), stride = each(call.ints(3, "stride", kernel), axes);
    Ints padding = each(call.ints(4, "padding", {0}), axes);
    for (size_t i = 0; i < axes; ++i)
      space.push_back((x.shape()[int(i) + 2] - 1) * stride.at(i) - 2 * padding.at(i) + kernel.at(i));
  }
  return max_unpool(x, indices, space);
}

// ---- padding -------------------------------------------------------------------------------------------------------
// {last axis before, after, last but one before, ..}
Var padded(Call& call, int mode_at) {
  Var x = call.var(0);
  Ints given = call.ints(1, "pad"), pads(2 * size_t(x.rank()), 0);
  if (given.size() % 2 || given.size() > pads.size())
    throw ValueError("pad: " + std::to_string(given.size()) + " pads");
  for (size_t i = 0; i < given.size(); i += 2) {
    pads[pads.size() - 2 - i] = given[i];
    pads[pads.size() - 1 - i] = given[i + 1];
  }
  std::string mode = mode_at < 0 ? "constant" : call.word(mode_at, "mode", "constant");
  for (auto [name, m] : {std::pair{"constant", PadMode::constant},
                         {"reflect", PadMode::reflect},
                         {"replicate", PadMode::replicate},
                         {"circular", PadMode::circular}})
    if (mode == name) return pad(x, pads, m, call.real(mode_at + 1 + (mode_at < 0 ? 2 : 0), "value", 0));
  throw ValueError("pad: unknown mode '" + mode + "'");
}

// ---- normalisation -------------------------------------------------------------------------------------------------
Var scaled(Var x, std::optional<Arg> weight, std::optional<Arg> bias) {
  for (const std::optional<Arg>& v : {weight, bias})
    if (v && (v->rank() != 1 || (x.rank() > 1 && v->shape()[0] != x.shape()[1])))
      throw ShapeError("norm: weight or bias " + v->shape().str() + " is not one value per channel");
  if (weight) x = x * per_channel(*weight, x.rank());
  return bias ? x + per_channel(*bias, x.rank()) : x;
}

struct Normalised {
  Var y, mean, rstd;  // the moments keep the axes they were taken over
};
Normalised normalised(Var x, const Ints& axes, double eps) {
  Var m = mean(x, axes, true), r = rsqrt(variance(x, axes, true) + eps);
  return {(x - m) * r, m, r};
}

Outputs batch_norm(Call& call, int weight, int running, bool training, double eps) {
  Var x = call.var(0);
  std::optional<Arg> scale = call.maybe(weight, "weight"), shift = call.maybe(weight + 1, "bias");
  std::optional<Arg> means = call.maybe(running, "running_mean"), variances = call.maybe(running + 1, "running_var");
  if (!training) {
    Var r = rsqrt(*variances + eps);
    Var none = full(call.g, {0}, 0, x.dtype());  // no moments were taken
    return {scaled((x - per_channel(*means, x.rank())) * per_channel(r, x.rank()), scale, shift), none, none};
  }
  Ints axes{0};
  for (int axis = 2; axis < x.rank(); ++axis) axes.push_back(axis);
  Normalised n = normalised(x, axes, eps);
  return {scaled(n.y, scale, shift), reshape(n.mean, {-1}), reshape(n.rstd, {-1})};
}

Outputs group_norm(Call& call, int64_t groups, int weight, double eps) {
  Var x = call.var(0);
  if (x.rank() < 2 || x.shape()[1] == 0 || groups < 1 || x.shape()[1] % groups)
    throw ShapeError("group_norm: " + std::to_string(groups) + " groups of " + x.shape().str());
  int64_t batch = x.shape()[0], per_group = x.shape()[1] / groups;
  for (int axis = 2; axis < x.rank(); ++axis) per_group *= x.shape()[axis];
  if (per_group == 0) throw ShapeError("group_norm: x has no cells: " + x.shape().str());
  Normalised n = normalised(reshape(x, {batch, groups, per_group}), {2}, eps);
  return {scaled(reshape(n.y, x.shape()), call.maybe(weight, "weight"), call.maybe(weight + 1, "bias")),
          reshape(n.mean, {batch, groups}), reshape(n.rstd, {batch, groups})};
}

// The axes of normalized_shape, which end x, as one: [.., C].
struct Rows {
  Var x;
  std::optional<Arg> weight, bias;
  Shape kept;  ///< x's shape, extents of 1 where it was flattened
};
Rows rows_of(Call& call, int weight, bool has_bias) {
  Var x = call.var(0);
  Ints last = call.ints(1, "normalized_shape");
  int64_t size = 1;
  int ahead = x.rank() - int(last.size());
  if (last.empty() || ahead < 0) throw ShapeError("norm: no axes, or more than x has");
  Shape flat, kept = x.shape();
  for (int axis = 0; axis < ahead; ++axis) flat.push_back(x.shape()[axis]);
  for (int axis = ahead; axis < x.rank(); ++axis) {
    if (x.shape()[axis] != last[size_t(axis - ahead)]) throw ShapeError("norm: x does not end in normalized_shape");
    size *= x.shape()[axis];
    kept[axis] = 1;
  }
  flat.push_back(size);
  auto flattened = [&](int place, const char* name) -> std::optional<Arg> {
    if (!call.given(place, name)) return {};
    Var v = call.var(place, name);
    if (!(v.shape() == Shape(last))) throw ShapeError(std::string("norm: ") + name + " has not normalized_shape");
    return Arg(reshape(v, {size}));
  };
  return {reshape(x, flat), flattened(weight, "weight"), has_bias ? flattened(weight + 1, "bias") : std::nullopt, kept};
}

Outputs native_layer_norm(Call& call) {
  Rows r = rows_of(call, 2, true);
  double eps = call.real(4, "eps", 1e-5);
  Var y = layer_norm(r.x, r.weight, r.bias, eps);
  return {reshape(y, call.var(0).shape()), reshape(mean(r.x, {-1}), r.kept),
          reshape(rsqrt(variance(r.x, {-1}) + eps), r.kept)};
}

Var response_norm(Call& call) {
  Var x = call.var(0);
  int64_t size = call.integer(1, "size", 1);
  Ints pads(2 * size_t(x.rank()), 0);
  pads[2] = size / 2, pads[3] = (size - 1) / 2;
  Var around = mean(unfold(pad(square(x), pads), 1, size), {-1});
  return x / pow(around * call.real(2, "alpha", 1e-4) + call.real(4, "k", 1), call.real(3, "beta", 0.75));
}

// ---- other sizes ---------------------------------------------------------------------------------------------------
Var resized(Call& call, const std::string& mode, bool align_corners, bool recompute) {
  static const std::map<std::string, Resize> modes{
      {"nearest", Resize::nearest}, {"nearest-exact", Resize::nearest_exact},
      {"area", Resize::area},       {"linear", Resize::linear},
      {"bilinear", Resize::linear}, {"trilinear", Resize::linear},
      {"bicubic", Resize::cubic},
  };
  auto known = modes.find(mode);
  if (known == modes.end()) throw ValueError("interpolate: unknown mode '" + mode + "'");
  if (call.flag(kKeyword, "antialias", false)) throw OptionMissing("antialias");
  Var x = call.var(0);
  size_t axes = size_t(x.rank()) - 2;
  if (call.given(1, "size")) return resize(x, each(call.ints(1, "size"), axes), known->second, align_corners);
  std::vector<double> factors = call.reals(2, "scale_factor");
  if (factors.size() == 1) factors.resize(axes, factors[0]);
  if (!recompute) return resize_by(x, factors, known->second, align_corners);
  Ints size;
  for (size_t i = 0; i < axes; ++i) size.push_back(int64_t(std::floor(double(x.shape()[int(i) + 2]) * factors.at(i))));
  return resize(x, size, known->second, align_corners);
}

Var interpolated(Call& call) {
  return resized(call, call.word(3, "mode", "nearest"), call.flag(4, "align_corners", false),
                 call.flag(5, "recompute_scale_factor", false));
}

Var sampled(Call& call, bool named) {
  std::string mode = named ? call.word(2, "mode", "bilinear") : "bilinear";
  std::string padding = named ? call.word(3, "padding_mode", "zeros") : "zeros";
  if (!named && call.integer(2, "", 0)) mode = "another mode";
  if (!named && call.integer(3, "", 0)) padding = "another padding";
  if (mode != "bilinear") throw OptionMissing(mode);
  if (padding != "zeros") throw OptionMissing(padding);
  return grid_sample(call.var(0), call.var(1), call.flag(4, "align_corners", false));
}

// ---- attention -----------------------------------------------------------------------------------------------------
// [.., T, D] -> [B, H, T, D]
Var four_axes(Var x) {
  Shape s = x.shape(), shape{1, 1, s[-2], s[-1]};
  if (s.rank() > 2) shape[1] = s[-3];
  for (int i = 0; i < s.rank() - 3; ++i) shape[0] *= s[i];
  return reshape(x, shape);
}

// Scores are biased rather than hidden: the reference counts from the upper left corner. Also log sum exp of them.
Outputs attended(Call& call, int causal_at, int mask_at) {
  Var q = call.var(0), k = call.var(1), v = call.var(2);
  if (call.real(causal_at - 1, "dropout_p", 0) != 0) throw OptionMissing("dropout draws");
  Shape outer = q.rank() >= std::max(k.rank(), v.rank()) ? q.shape() : k.shape();  // the axes in front of T and D
  int64_t T = q.shape()[-2], S = k.shape()[-2];
  AttentionOptions options;
  options.scale = call.real(kKeyword, "scale", 1 / std::sqrt(double(q.shape()[-1])));
  if (call.flag(causal_at, "is_causal", false))
    options.bias = where(less(unsqueeze(arange(call.g, T), 1), unsqueeze(arange(call.g, S), 0)), -INFINITY,
                         full(call.g, {1, 1, T, S}, 0, q.dtype()));
  if (call.given(mask_at, "attn_mask")) {
    Var mask = call.var(mask_at, "attn_mask");
    if (mask.dtype() == boolean) mask = where(mask, full(call.g, {1}, 0, q.dtype()), -INFINITY);
    Shape lead = q.shape();
    lead[-1] = S;
    options.bias = four_axes(broadcast_to(mask, lead));
  }
  q = four_axes(q), k = four_axes(k), v = four_axes(v);
  int64_t batch = std::max({q.shape()[0], k.shape()[0], v.shape()[0]});
  for (Var* x : {&q, &k, &v}) *x = broadcast_to(*x, {batch, x->shape()[1], x->shape()[2], x->shape()[3]});
  Var y = attention(q, k, v, options);
  if (outer.rank() > 2) outer[-3] = q.shape()[1];
  outer[-2] = T;
  outer[-1] = v.shape()[-1];
  Outputs out{reshape(y, outer)};
  if (q.shape()[1] != k.shape()[1]) return out;  // shared heads: only the result
  Var scores = matmul(q, transpose(k)) * options.scale;
  if (options.bias) scores = scores + *options.bias;
  outer.erase(outer.rank() - 1);
  out.push_back(reshape(logsumexp(scores, {-1}), outer));
  return out;
}

// ---- windows -------------------------------------------------------------------------------------------------------
Outputs windows(Call& call, Var x) {
  Window w{each(call.ints(1, "kernel_size"), 2), each(call.ints(4, "stride", {1}), 2),
           each(call.ints(3, "padding", {0}), 2), each(call.ints(2, "dilation", {1}), 2)};
  return im2col(x, w);
}

Var shuffled(Call& call) {
  Var x = call.var(0);
  int64_t groups = call.integer(1, "groups", 1);
  Shape apart = x.shape();
  apart.insert(1, groups);
  apart[2] = x.shape()[1] / groups;
  return reshape(transpose(reshape(x, apart), 1, 2), x.shape());
}

}  // namespace

Table layer_rows() {
  auto norm = [](auto f) { return [f](Call& call) { return reshape(f(call), call.var(0).shape()); }; };
  return {
      {"nn.functional.conv1d", over_space(1, convolution)},
      {"nn.functional.conv2d", over_space(2, convolution)},
      {"nn.functional.conv3d", over_space(3, convolution)},
      {"nn.functional.conv_transpose1d", over_space(1, transposed_convolution)},
      {"nn.functional.conv_transpose2d", over_space(2, transposed_convolution)},
      {"nn.functional.conv_transpose3d", over_space(3, transposed_convolution)},

      {"nn.functional.avg_pool1d", over_space(1, average_pool)},
      {"nn.functional.avg_pool2d", over_space(2, average_pool)},
      {"nn.functional.avg_pool3d", over_space(3, average_pool)},
      {"nn.functional.max_pool1d", over_space(1, maximum_pool)},
      {"nn.functional.max_pool2d", over_space(2, maximum_pool)},
      {"nn.functional.max_pool3d", over_space(3, maximum_pool)},
      {"nn.functional.adaptive_avg_pool1d", over_space(1, adaptive_average)},
      {"nn.functional.adaptive_avg_pool2d", over_space(2, adaptive_average)},
      {"nn.functional.adaptive_avg_pool3d", over_space(3, adaptive_average)},
      {"nn.functional.adaptive_max_pool1d", over_space(1, adaptive_maximum)},
      {"nn.functional.adaptive_max_pool2d", over_space(2, adaptive_maximum)},
      {"nn.functional.adaptive_max_pool3d", over_space(3, adaptive_maximum)},
      {"nn.functional.max_unpool1d nn.functional.max_unpool1d.grad", over_space(1, unpool)},
      {"nn.functional.max_unpool2d nn.functional.max_unpool2d.grad", over_space(2, unpool)},
      {"nn.functional.max_unpool3d nn.functional.max_unpool3d.grad", over_space(3, unpool)},

      {"constant_pad_nd", [](Call& call) { return padded(call, -1); }},
      {"nn.functional.pad.constant nn.functional.pad.reflect nn.functional.pad.replicate nn.functional.pad.circular "
       "nn.functional.pad.replicate_negative",
       [](Call& call) { return padded(call, 2); }},

      {"nn.functional.batch_norm",
       [](Call& call) { return batch_norm(call, 3, 1, call.flag(5, "training", false), call.real(7, "eps", 1e-5)); }},
      {"native_batch_norm",
       [](Call& call) { return batch_norm(call, 1, 3, call.flag(5, "training", false), call.real(7, "eps", 1e-5)); }},
      {"nn.functional.group_norm",
       [](Call& call) { return group_norm(call, call.integer(1, "num_groups", 1), 2, call.real(4, "eps", 1e-5)); }},
      {"native_group_norm",
       [](Call& call) { return group_norm(call, call.integer(6, "group", 1), 1, call.real(7, "eps", 1e-5)); }},
      {"nn.functional.instance_norm",
       [](Call& call) {
         double eps = call.real(7, "eps", 1e-5);
         if (call.flag(5, "use_input_stats", true)) return group_norm(call, call.var(0).size(1), 3, eps);
         return batch_norm(call, 3, 1, false, eps);
       }},
      {"nn.functional.layer_norm", norm([](Call& call) {
         Rows r = rows_of(call, 2, true);
         return layer_norm(r.x, r.weight, r.bias, call.real(4, "eps", 1e-5));
       })},
      {"native_layer_norm", native_layer_norm},
      {"nn.functional.rms_norm", norm([](Call& call) {
         Rows r = rows_of(call, 2, false);
         return rms_norm(r.x, r.weight, call.real(3, "eps", 2.220446049250313e-16));
       })},
      {"nn.functional.local_response_norm", response_norm},

      {"nn.functional.interpolate.area nn.functional.interpolate.bicubic nn.functional.interpolate.bilinear "
       "nn.functional.interpolate.linear nn.functional.interpolate.nearest nn.functional.interpolate.nearest-exact "
       "nn.functional.interpolate.trilinear",
       interpolated},
      {"nn.functional.upsample_nearest", [](Call& call) { return resized(call, "nearest", false, false); }},
      {"nn.functional.upsample_bilinear", [](Call& call) { return resized(call, "bilinear", true, false); }},
      {"nn.functional.grid_sample", [](Call& call) { return sampled(call, true); }},
      {"grid_sampler_2d", [](Call& call) { return sampled(call, false); }},

      {"nn.functional.scaled_dot_product_attention", [](Call& call) { return attended(call, 5, 3); }},
      {"torch.ops.aten._scaled_dot_product_flash_attention_for_cpu",
       [](Call& call) { return attended(call, 4, kKeyword); }},

      {"nn.functional.unfold", over_space(2, windows)},
      {"nn.functional.channel_shuffle", shuffled},
      {"nn.functional.pixel_shuffle",
       [](Call& call) { return pixel_shuffle(call.var(0), call.integer(1, "upscale_factor", 1)); }},
      {"nn.functional.pixel_unshuffle",
       [](Call& call) { return pixel_unshuffle(call.var(0), call.integer(1, "downscale_factor", 1)); }},
  };
}

}  // namespace whence::opinfo
