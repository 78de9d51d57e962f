// Several targets in one sweep: one pass, and the numbers of a sweep per target.
#include "tests/lrp/net.h"

using namespace whence;

namespace {

std::map<std::string, int> ops_from(const Graph& g, size_t begin) {
  std::map<std::string, int> count;
  for (size_t i = begin; i < g.node_count(); ++i) ++count[g.node(NodeId(i)).op->name];
  return count;
}

struct Case {
  std::string name;
  std::function<Var(Net&, Var)> f;
  Shape x;
};

Var scores(Net& n, Var h, uint64_t seed) {
  Var flat = reshape(h, {h.shape()[0], h.numel() / h.shape()[0]});
  return linear(flat, n.weight("head", randn({7, flat.shape()[1]}, seed)));
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"conv",
       [](Net& n, Var x) {
         return conv(x, n.weight("w", randn({6, 2, 3, 3}, 1)), Arg(n.weight("b", randn({6}, 2))),
                     {.stride = {2}, .padding = {1}, .groups = 2});
       },
       {2, 4, 5, 6}},
      {"conv_transpose",
       [](Net& n, Var x) {
         return conv_transpose(x, n.weight("w", randn({4, 3, 3}, 3)), Arg(n.weight("b", randn({6}, 4))),
                               {.stride = {2}, .padding = {1}, .groups = 2, .output_padding = {1}});
       },
       {2, 4, 5}},
      {"avg_pool",
       [](Net&, Var x) { return avg_pool(x, {.kernel = {3}, .stride = {2}, .padding = {1}}) * 2.0; },
       {2, 3, 6, 5}},
      {"adaptive_avg_pool",
       [](Net&, Var x) {
         return adaptive_avg_pool(x, {2, 3});
       },
       {2, 3, 5, 7}},
      {"attention", [](Net&, Var x) { return attention(x, tanh(x), x, {.causal = true}); }, {2, 2, 4, 3}},
      {"convolution of data",  // a kernel that depends on the sample
       [](Net&, Var x) {
         return conv(reshape(x, {1, 2, 6}), reshape(tanh(x), {4, 1, 3}), {}, {.groups = 2});
       },
       {1, 12}},
  };
  return all;
}

TEST(Targets, OnePassWithTheNumbersOfMany) {
  for (const Case& c : cases())
    for (const char* variant : {"", "gamma", "zplus", "abs"}) {
      lrp::RuleSet rules = lrp::attn();
      bool pool = c.name.ends_with("pool"), product = c.name == "attention" || c.name.ends_with("data");
      if (pool) rules.set("avg_pool", {.variant = std::string(variant) == "abs" ? "abs" : ""});
      else if (!product) rules.set("*conv*", {.variant = std::string(variant) == "abs" ? "" : variant});
      Net n;
      Var x = n.data("x", randn(c.x, 5)), y = scores(n, c.f(n, x), 6);
      Ints classes{4, 0, 6};
      size_t begin = n.g.node_count();
      std::vector<Var> wanted{
          relevance(y, x, rules, lrp::seeds_for_classes(y, classes), {.targets = int64_t(classes.size())})};
      auto together = ops_from(n.g, begin);
      begin = n.g.node_count();
      for (int64_t k : classes) wanted.push_back(relevance(y, x, rules, lrp::seed(y, k)));
      auto apart = ops_from(n.g, begin);
      Results r = n.run(wanted);
      for (size_t k = 0; k < classes.size(); ++k) {
        Tensor row = r[0].slice(0, int64_t(k), int64_t(k) + 1).reshaped(c.x);
        double scale = std::max(1.0, max_abs_diff(row, Tensor::zeros(c.x, f64)));
        EXPECT_LT(max_abs_diff(row, r[k + 1]), 1e-12 * scale) << c.name << " " << variant;
      }
      // One application of each costly adjoint, where a sweep per target has three.
      for (const char* op : {"conv", "conv_transpose", "conv_weight", "avg_pool_adjoint", "attention_backward"})
        EXPECT_EQ(3 * together[op], apart[op]) << c.name << " " << variant << ": " << op;
    }
}

TEST(Targets, GradientsOfKernelsToo) {
  for (bool transposed : {false, true})
    for (int64_t groups : {1, 3}) {
      Net n;
      Var x = n.data("x", randn({2, 6, 5, 4}, 7)), b = n.weight("b", randn({6}, 9)),
          w = n.weight("w", randn({6, 6 / groups, 2, 3}, 8));
      ConvOptions o{.stride = {2, 1}, .padding = {1, 0}, .dilation = {1, 1}, .groups = groups};
      Var y = transposed ? conv_transpose(x, w, Arg(b), o) : conv(x, w, Arg(b), o);
      Shape s = y.shape();
      s.insert(0, 4);
      Var seeds = n.g.constant(randn(s, 10));
      std::vector<Var> wrt{x, w, b}, wanted = sweep({&y, 1}, {&seeds, 1}, wrt, {.targets = 4});
      for (int64_t k = 0; k < 4; ++k)
        for (Var v : grad(y, wrt, select(seeds, 0, k))) wanted.push_back(v);
      Results r = n.run(wanted);
      for (size_t k = 0; k < 4; ++k)
        for (size_t i = 0; i < 3; ++i)
          EXPECT_LT(max_abs_diff(r[i].slice(0, int64_t(k), int64_t(k) + 1).reshaped(wrt[i].shape()), r[3 + 3 * k + i]),
                    1e-12)
              << transposed << groups << " operand " << i;
    }
}

TEST(Targets, TheLedgerOfAConvolutionalNetCloses) {
  Net n;
  Var x = n.data("x", randn({2, 2, 6, 6}, 11));
  Var h = relu(conv(x, n.weight("k", randn({4, 2, 3, 3}, 12)), Arg(n.weight("kb", randn({4}, 13))), {.padding = {1}}));
  Var y = scores(n, avg_pool(h, {.kernel = {2}}), 14);
  lrp::Ledger ledger(lrp::epsilon_plus());
  Var r = ledger.relevance(y, x, lrp::seeds_for_classes(y, {1, 2, 5, 6}), {.targets = 4});
  std::vector<Var> wanted{r};
  wanted.insert(wanted.end(), ledger.outputs().begin(), ledger.outputs().end());
  Results out = n.run(wanted);
  EXPECT_TRUE(ledger.read(out).holds()) << ledger.read(out).text();
  EXPECT_EQ(out[0].shape(), Shape({4, 2, 2, 6, 6}));
}

}  // namespace
