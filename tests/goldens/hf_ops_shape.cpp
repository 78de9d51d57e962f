// op/reduce, op/shape and op/index.
#include "tests/goldens/hf_ops.h"

namespace whence::goldens {
namespace {

Var padded(OpCase& o, Var x) {
  static const std::map<std::string, PadMode> modes{{"constant", PadMode::constant},
                                                    {"reflect", PadMode::reflect},
                                                    {"replicate", PadMode::replicate},
                                                    {"circular", PadMode::circular}};
  Ints last_first = o.config.at("pad_last_axis_first").get<Ints>(), pads(size_t(2 * x.rank()), 0);
  for (size_t i = 0; i + 1 < last_first.size(); i += 2) {
    pads[size_t(2 * x.rank()) - 2 - i] = last_first[i];
    pads[size_t(2 * x.rank()) - 1 - i] = last_first[i + 1];
  }
  return pad(x, pads, modes.at(o.config.at("mode").get<std::string>()), o.real("value", 0));
}

Window window(const OpCase& o) {
  return {o.ints("kernel", 2, 1), o.ints("stride", 2, 1), o.ints("padding", 2, 0), o.ints("dilation", 2, 1)};
}

// How many elements a mask selects is data; the positions are computed beside the graph, whose shapes are fixed.
Var selected(OpCase& o, Var x) {
  std::vector<double> mask = o.file.tensor("input.mask", f64).to(f64).to_vector<double>();
  std::vector<int64_t> at;
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i] != 0) at.push_back(int64_t(i));
  return gather(reshape(x, {x.numel()}), o.g.constant(Tensor::from(at)));
}

Outputs both(TopK r) { return {{"values", r.values}, {"indices", r.indices}}; }
int64_t axis(const OpCase& o) { return o.integer("axis", 0); }

}  // namespace

const Table& shape_cases() {
  static const Table t{
      {"reduce/sum_all", of_x([](OpCase&, Var x) { return sum(x); })},
      {"reduce/sum_axes02", of_x([](OpCase&, Var x) {
         return sum(x, {0, 2});
       })},
      {"reduce/sum_axis1_keep", of_x([](OpCase&, Var x) { return sum(x, {1}, true); })},
      {"reduce/mean_last", of_x([](OpCase&, Var x) { return mean(x, {-1}); })},
      {"reduce/var_biased", of_x([](OpCase&, Var x) {
         return variance(x, {1, 2}, false, 0);
       })},
      {"reduce/var_unbiased", of_x([](OpCase&, Var x) { return variance(x, {-1}, false, 1); })},
      {"reduce/std_unbiased", of_x([](OpCase&, Var x) { return standard_deviation(x, {1}); })},
      {"reduce/standardize",
       of_x([](OpCase&, Var x) { return (x - mean(x, {-1}, true)) / standard_deviation(x, {-1}, true); })},
      {"reduce/norm1_all", of_x([](OpCase&, Var x) { return norm1(x); })},
      {"reduce/norm2_last", of_x([](OpCase&, Var x) { return norm2(x, {-1}); })},
      {"reduce/l2_normalize", of_x([](OpCase&, Var x) { return l2_normalize(x); })},
      {"reduce/prod_axis1", of_x([](OpCase&, Var x) { return prod(x, 1); })},
      {"reduce/logsumexp_last", of_x([](OpCase&, Var x) { return logsumexp(x, {-1}); })},
      {"reduce/logsumexp_axes01", of_x([](OpCase&, Var x) {
         return logsumexp(x, {0, 1});
       })},
      {"reduce/softmax_last", of_x([](OpCase&, Var x) { return softmax(x); })},
      {"reduce/softmax_axis1", of_x([](OpCase&, Var x) { return softmax(x, 1); })},
      {"reduce/softmin", of_x([](OpCase&, Var x) { return softmin(x); })},
      {"reduce/log_softmax_last", of_x([](OpCase&, Var x) { return log_softmax(x); })},
      {"reduce/cumsum_last", of_x([](OpCase&, Var x) { return cumsum(x, -1); })},
      {"reduce/cumsum_axis1", of_x([](OpCase&, Var x) { return cumsum(x, 1); })},
      {"reduce/cumsum_reverse", of_x([](OpCase&, Var x) { return cumsum(x, -1, true); })},
      {"reduce/cumprod_last", of_x([](OpCase&, Var x) { return cumprod(x, -1); })},
      {"reduce/logcumsumexp", of_x([](OpCase&, Var x) { return logcumsumexp(x, 1); })},
      {"reduce/argmax",
       [](OpCase& o) {
         return Outputs{{"last", argmax(o("x"))}, {"all", argmax(reshape(o("x"), {-1}))}};
       }},
      {"reduce/max_values_indices",
       [](OpCase& o) {
         return both({max(o("x"), {o.integer("axis", -1)}), argmax(o("x"), o.integer("axis", -1))});
       }},
      {"reduce/min_values_indices",
       [](OpCase& o) {
         return both({min(o("x"), {o.integer("axis", -1)}), argmin(o("x"), o.integer("axis", -1))});
       }},
      {"reduce/topk", [](OpCase& o) { return both(topk(o("x"), o.integer("k", 1), o.integer("axis", -1))); }},
      {"reduce/topk_smallest",
       [](OpCase& o) { return both(bottomk(o("x"), o.integer("k", 1), o.integer("axis", -1))); }},
      {"reduce/sort",
       [](OpCase& o) { return both(sort(o("x"), o.integer("axis", -1), o.config.value("descending", false))); }},
      {"reduce/permute", of_x([](OpCase&, Var x) {
         return permute(x, {2, 0, 1}) * 1.5;
       })},
      {"reduce/flip", of_x([](OpCase&, Var x) {
         return flip(x, {0, 2});
       })},
      {"reduce/roll", of_x([](OpCase&, Var x) {
         return roll(x, {2, -1}, {2, 1});
       })},
      {"reduce/tile", of_x([](OpCase&, Var x) {
         return repeat(x, {2, 1, 3});
       })},
      {"reduce/repeat_interleave", of_x([](OpCase&, Var x) { return repeat_interleave(x, 3, 1); })},
      {"reduce/slice_step", of_x([](OpCase&, Var x) { return slice(slice(x, 1, 1, INT64_MAX, 2), 2, 0, -1); })},
      {"reduce/diff", of_x([](OpCase&, Var x) { return diff(x); })},
      {"reduce/tril", of_x([](OpCase&, Var x) { return tril(x, -1); })},
      {"reduce/triu", of_x([](OpCase&, Var x) { return triu(x, 1); })},
      {"reduce/diagonal", of_x([](OpCase&, Var x) { return diagonal(x); })},
      {"reduce/unfold1d", of_x([](OpCase&, Var x) { return unfold(x, 2, 3, 2); })},

      {"shape/cat", just([](OpCase& o) {
         return concat({o("a"), o("b"), o("c")}, axis(o));
       })},
      {"shape/stack", just([](OpCase& o) {
         return stack({o("a"), o("b")}, axis(o));
       })},
      {"shape/split",
       [](OpCase& o) {
         auto p = split(o("x"), o.config.at("sizes").get<Ints>(), axis(o));
         return Outputs{{"a", p[0]}, {"b", p[1]}, {"c", p[2]}};
       }},
      {"shape/pixel_shuffle", of_x([](OpCase& o, Var x) { return pixel_shuffle(x, o.integer("upscale", 2)); })},
      {"shape/pixel_unshuffle", of_x([](OpCase& o, Var x) { return pixel_unshuffle(x, o.integer("downscale", 2)); })},
      {"shape/pad_*", of_x(padded)},
      {"shape/im2col", of_x([](OpCase& o, Var x) { return im2col(x, window(o)); })},
      {"shape/col2im", of_x([](OpCase& o, Var x) {
         Ints to = o.ints("output", 2, 1);
         return col2im(x, to[0], to[1], window(o));
       })},

      {"index/embedding", just([](OpCase& o) { return embedding(o("ids"), o("weight")); })},
      {"index/embedding_padding_idx",
       just([](OpCase& o) { return embedding(o("ids"), o("weight"), o.integer("padding_idx", -1)); })},
      {"index/gather", of_x([](OpCase& o, Var x) { return take_along_axis(x, o("index"), axis(o)); })},
      {"index/index_select", of_x([](OpCase& o, Var x) { return gather(x, o("index"), axis(o)); })},
      {"index/scatter_add", of_x([](OpCase& o, Var x) { return scatter_add(x, o("index"), o("src"), axis(o)); })},
      {"index/scatter_distinct",
       of_x([](OpCase& o, Var x) { return put_along_axis(x, o("index"), o("src"), axis(o)); })},
      {"index/index_add", of_x([](OpCase& o, Var x) { return index_add(x, o("index"), o("src"), axis(o)); })},
      {"index/masked_fill", of_x([](OpCase& o, Var x) { return masked_fill(x, o("mask"), o.real("value", 0)); })},
      {"index/masked_select", of_x(selected)},
      {"index/one_hot_matmul",
       just([](OpCase& o) { return matmul(one_hot(o("ids"), o("weight").shape()[0], o.dtype), o("weight")); })},
      {"index/segment_mean",
       of_x([](OpCase& o, Var x) { return segment_mean(x, o("seg"), 0, o.file.tensor("output.y", f64).shape()[0]); })},
  };
  return t;
}

}  // namespace whence::goldens
