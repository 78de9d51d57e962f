// Things that relevance engines get wrong, one test each (D1..D36).
#include "tests/lrp/net.h"

using namespace whence;

namespace {

TEST(Defects, D1_AConstantOperandHasItsShareBooked) {
  for (auto rules : {lrp::attn(), lrp::dynamic()}) {
    Net n;
    Var x = n.data("x", randn({6}, 1, 3));
    double seen = sum_of(n.relevance(x - 1.0, {x}, rules)[0]), absorbed = n.report.all_absorbed();
    EXPECT_NEAR(seen + absorbed, 6, 1e-9) << rules.name();
    EXPECT_GT(std::fabs(n.report.absorbed.at("bias")), 0.5) << rules.name();
  }
}

TEST(Defects, D2_SumsOverEveryAxis) {
  for (Ints axes : {Ints{}, Ints{0}, Ints{1}, Ints{-1}, Ints{0, 2}})
    for (bool keep : {false, true})
      for (bool average : {false, true}) {
        Net n;
        Var x = n.data("x", randn({2, 3, 4}, 2));
        Var y = average ? mean(x, axes, keep) : sum(x, axes, keep);
        EXPECT_NEAR(sum_of(n.relevance(y, {x}, lrp::dynamic())[0]), double(y.numel()), 1e-9);
      }
}

TEST(Defects, D3_D4_PartsOfASplitMayGoUnused) {
  Net n;
  Var x = n.data("x", randn({2, 7}, 3));
  auto parts = split(x, {1, 4, 2}, 1);
  Var y = slice(parts[1], 1, 0, 2) + parts[2];
  Tensor r = n.relevance(y, {x}, lrp::dynamic())[0];
  EXPECT_NEAR(sum_of(r), 4, 1e-9);
  EXPECT_EQ(r.item(0), 0);
  EXPECT_NE(r.item(5), 0);
}

TEST(Defects, D5_AConstantFactorOnEitherSide) {
  Net n;
  Var x = n.data("x", randn({5}, 4));
  Tensor a = n.relevance(x * 3.0, {x}, lrp::dynamic())[0];
  Tensor b = n.relevance(3.0 * x, {x}, lrp::dynamic())[0];
  EXPECT_TRUE(bitwise_equal(a, b));
  EXPECT_NEAR(sum_of(a), 5, 1e-12);
}

TEST(Defects, D6_ParameterRelevanceIsSeparate) {
  Net n;
  Var x = n.data("x", randn({3, 5}, 5)), w = n.weight("w", randn({4, 5}, 6));
  auto r = n.relevance(linear(x, w), {x, w}, exact());
  EXPECT_NEAR(sum_of(r[0]), 12, 1e-9);
  EXPECT_NEAR(sum_of(r[1]), 12, 1e-9);
  EXPECT_NEAR(n.report.leaves, 12, 1e-9) << "parameters never count as data";
}

TEST(Defects, D7_ZPlusOnMixedSigns) {
  Net n;
  Tensor xt = randn({2, 4}, 7), wt = randn({3, 4}, 8);
  Var x = n.data("x", xt), w = n.weight("w", wt);
  lrp::RuleSet rules("zplus", {.variant = "zplus", .eps = 0, .stab = lrp::Stab::sign});
  Tensor r = n.relevance(linear(x, w), {x}, rules)[0];
  for (int b = 0; b < 2; ++b)
    for (int i = 0; i < 4; ++i) {
      double want = 0;
      for (int o = 0; o < 3; ++o) {
        double z = 0;
        for (int j = 0; j < 4; ++j) z += std::max(0.0, xt.item(b * 4 + j) * wt.item(o * 4 + j));
        want += std::max(0.0, xt.item(b * 4 + i) * wt.item(o * 4 + i)) / z;
      }
      EXPECT_NEAR(r.item(b * 4 + i), want, 1e-12);
    }
}

TEST(Defects, D8_D25_HalvesOnlyBetweenDataTensors) {
  Net n;
  Var a = n.data("a", randn({2, 3, 4}, 9)), b = n.data("b", randn({2, 4, 5}, 10));
  auto r = n.relevance(matmul(a, b), {a, b}, exact());
  EXPECT_NEAR(sum_of(r[0]), 15, 1e-9);
  EXPECT_NEAR(sum_of(r[1]), 15, 1e-9);
  for (auto rules : {exact(), lrp::dynamic()}) {
    Net m;
    Var h = m.data("x", randn({2, 4}, 11));
    Var x = h;
    for (uint64_t i = 0; i < 3; ++i) h = linear(h, m.weight("w" + std::to_string(i), randn({4, 4}, 12 + i)));
    EXPECT_NEAR(sum_of(m.relevance(h, {x}, rules)[0]), 8, 1e-6) << rules.name();
  }
}

TEST(Defects, D9_TheBiasShareIsExplicit) {
  Net n;
  Var x = n.data("x", Tensor::from<double>({1, 2}, {1, 2})), w = n.weight("w", Tensor::from<double>({1, 1}, {1, 2})),
      b = n.weight("b", Tensor::from<double>({-0.5}));
  EXPECT_NEAR(sum_of(n.relevance(linear(x, w, Arg(b)), {x}, exact())[0]), 3 / 2.5, 1e-12);
  EXPECT_NEAR(n.report.absorbed.at("bias"), -0.5 / 2.5, 1e-12);
  EXPECT_NEAR(sum_of(n.relevance(linear(x, w, Arg(b)), {x}, lrp::dynamic())[0]), 3 / 3.5, 1e-9);  // |z| / (|z| + |b|)
  EXPECT_NEAR(n.report.absorbed.at("bias"), 0.5 / 3.5, 1e-9);
}

TEST(Defects, D10_D11_ConvolutionsOfEveryStride) {
  struct Case {
    Shape x, w;
    ConvOptions o;
    bool transposed;
  };
  for (const Case& c : {Case{{1, 2, 6, 6}, {3, 2, 3, 3}, {.stride = {2}, .padding = {1}}, false},
                        Case{{1, 2, 6, 6}, {3, 2, 1, 1}, {.stride = {2}}, false},
                        Case{{1, 2, 5}, {2, 3, 3}, {.stride = {2}, .padding = {1}, .output_padding = {1}}, true}})
    for (const char* variant : {"", "zplus", "gamma"}) {
      Net n;
      Var x = n.data("x", randn(c.x, 60)), w = n.weight("w", randn(c.w, 61));
      Var y = c.transposed ? conv_transpose(x, w, {}, c.o) : conv(x, w, {}, c.o);
      Tensor r = n.relevance(y, {x}, lrp::RuleSet("conv", {.variant = variant, .eps = 0, .stab = lrp::Stab::sign}))[0];
      // Under z+, cells with negative contributions only have nobody to pass to: the ledger says how many.
      EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), double(y.numel()), 1e-6) << variant;
      if (std::string(variant) != "zplus") {
        EXPECT_NEAR(sum_of(r), double(y.numel()), 1e-6) << variant;
      }
    }
}

TEST(Defects, D19_D20_PoolsFeedSumsAndHaveOneRule) {
  for (auto rules : {exact(), lrp::dynamic()})
    for (int64_t out : {1, 2, 3}) {
      Net n;
      Var x = n.data("x", randn({1, 2, 6, 6}, 62));
      Var y = adaptive_avg_pool(max_pool(x, {.kernel = {2}}) + avg_pool(x, {.kernel = {2}}), {out, out});
      EXPECT_NEAR(sum_of(n.relevance(y, {x}, rules)[0]), double(y.numel()), 1e-6) << rules.name() << " " << out;
    }
}

TEST(Defects, D12_SumOfAProductAndATensor) {
  Net n;
  Var a = n.data("a", randn({2, 3, 4}, 20)), b = n.data("b", randn({2, 4, 5}, 21)),
      c = n.data("c", randn({2, 3, 5}, 22));
  auto r = n.relevance(c + matmul(a, b), {a, b, c}, exact());
  EXPECT_NEAR(sum_of(r[0]) + sum_of(r[1]) + sum_of(r[2]), 30, 1e-7);
}

TEST(Defects, D13_D29_ARepeatedPlanEqualsAFreshOne) {
  Tensor w1 = randn({6, 4}, 23), w2 = randn({3, 6}, 24);
  auto record = [&](Graph& g) {
    Var x = g.input("x", {2, 4}, f64);
    Var y = linear(gelu(linear(x, g.parameter("w1", w1))) * 2.0, g.parameter("w2", w2));
    return relevance(y, x, lrp::attn());
  };
  Graph g;
  Plan plan = compile({record(g)});
  for (uint64_t k = 0; k < 3; ++k) {
    Graph fresh;
    Tensor x = randn({2, 4}, 30 + k);
    Tensor again = plan.run({{"x", x}})[0], once = compile({record(fresh)}).run({{"x", x}})[0];
    EXPECT_TRUE(bitwise_equal(again, once)) << "run " << k;
  }
  EXPECT_THROW(plan.run({{"x", randn({3, 4}, 1)}}), Error) << "another batch size needs another plan";
}

TEST(Defects, D14_VarianceCumsumWhere) {
  for (auto rules : {exact(), lrp::dynamic()})
    for (bool reverse : {false, true}) {
      Net c;
      Var x = c.data("x", Tensor::from<double>({1, -3, 4}));
      Tensor r = c.relevance(cumsum(x, 0, reverse), {x}, rules)[0];
      bool signs = rules.name() == "exact";  // prefixes 1, -2, 2 and 4, 1, 2; by size 1, 4, 8 and 4, 7, 8
      EXPECT_NEAR(r.item(reverse ? 2 : 0),
                  reverse ? (signs ? 4 / 4. + 4 / 1. + 4 / 2. : 4 / 4. + 4 / 7. + 4 / 8.)
                          : (signs ? 1 / 1. + 1 / -2. + 1 / 2. : 1 / 1. + 1 / 4. + 1 / 8.),
                  1e-9);
      EXPECT_NEAR(sum_of(r), 3, 1e-9);
    }
  Net n;
  Var x = n.data("x", randn({3, 16}, 25));
  EXPECT_NEAR(sum_of(n.relevance(variance(x, {1}), {x}, lrp::dynamic())[0]), 3, 1e-8);
  Tensor mask = Tensor::zeros({2, 3}, boolean);
  mask.data<bool>()[1] = mask.data<bool>()[5] = true;
  Net m;
  Var a = m.data("a", randn({2, 3}, 26)), b = m.data("b", randn({2, 3}, 27));
  auto r = m.relevance(where(m.g.constant(mask), a, b), {a, b}, lrp::attn());
  EXPECT_EQ(sum_of(r[0]), 2);
  EXPECT_EQ(sum_of(r[1]), 4);
}

TEST(Defects, D15_SoftmaxHonoursItsAxisAndSeesTheFuture) {
  Tensor xt = randn({4, 4}, 28);
  for (int64_t axis : {0, 1}) {
    Net n;
    Var x = n.data("x", xt);
    Tensor r = n.relevance(softmax(x, axis), {x}, lrp::attn())[0];
    // R = 1 everywhere: x (1 - s sum(1)) = x (1 - 4 s).
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) {
        double total = 0;
        for (int k = 0; k < 4; ++k) total += std::exp(axis ? xt.item(i * 4 + k) : xt.item(k * 4 + j));
        double v = xt.item(i * 4 + j), s = std::exp(v) / total;
        EXPECT_NEAR(r.item(i * 4 + j), v * (1 - 4 * s), 1e-12);
      }
    EXPECT_GT(std::fabs(n.report.absorbed.at("softmax")), 0) << "the Taylor term is booked, not lost";
    lrp::RuleSet off = lrp::attn();
    off.set("softmax", {.variant = "identity"});
    EXPECT_NEAR(sum_of(n.relevance(softmax(x, axis), {x}, off)[0]), 16, 1e-9);
  }
}

TEST(Defects, D16_D36_CpGivesNothingToQueriesAndKeys) {
  for (bool fused : {false, true}) {
    Net n;
    Var q = n.data("q", randn({1, 2, 3, 4}, 29)), k = n.data("k", randn({1, 2, 3, 4}, 30)),
        v = n.data("v", randn({1, 2, 3, 4}, 31));
    Var y = fused ? attention(q, k, v) : matmul(softmax(matmul(q, transpose(k)) * 0.5), v);
    auto r = n.relevance(y, {q, k, v}, lrp::cp(1e-12));
    for (int i : {0, 1})
      for (double x : r[size_t(i)].to_vector<double>()) EXPECT_EQ(x, 0.0);
    EXPECT_NEAR(sum_of(r[2]), 24, 1e-8) << "the value path takes everything";
    auto attn = n.relevance(y, {q, k, v}, lrp::attn(1e-12));
    EXPECT_NEAR(sum_of(attn[2]), 12, 1e-8);
    EXPECT_GT(std::fabs(sum_of(attn[0])), 1e-6);
  }
}

TEST(Defects, D16_ARepeatedPlanRefillsAttention) {
  for (const char* preset : {"cp", "attn"}) {
    auto record = [&](Graph& g) {
      Var x = g.input("x", {1, 2, 3, 4}, f64), w = g.parameter("w", randn({4, 4}, 80));
      Var y = attention(linear(x, w), x, tanh(x));
      return relevance(y, x, lrp::preset(preset));
    };
    Graph g;
    Plan plan = compile({record(g)});
    for (uint64_t k = 0; k < 3; ++k) {
      Graph fresh;
      Tensor x = randn({1, 2, 3, 4}, 81 + k);
      EXPECT_TRUE(bitwise_equal(plan.run({{"x", x}})[0], compile({record(fresh)}).run({{"x", x}})[0]))
          << preset << " run " << k;
    }
  }
}

TEST(Defects, CpGatesAreConstants) {
  Net n;
  Var x = n.data("x", randn({2, 4}, 32));
  Var gate = linear(x, n.weight("g", randn({4, 4}, 33))), up = linear(x, n.weight("u", randn({4, 4}, 34)));
  auto r = n.relevance(silu(gate) * up, {gate, up}, lrp::cp(1e-12));
  EXPECT_EQ(sum_of(r[0]), 0);
  EXPECT_NEAR(sum_of(r[1]), 8, 1e-9);
  // The library's own gated units, whichever half is the gate.
  struct Unit {
    Var (*f)(Arg, int64_t);
    int64_t gate;
  };
  for (Unit u : {Unit{glu, 1}, Unit{geglu, 0}, Unit{swiglu, 0}}) {
    Tensor both = n.relevance(u.f(x, 1), {x}, lrp::cp(1e-12))[0];  // (2, 4): halves of two
    for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(both.item(i), i % 4 / 2 == u.gate ? 0.0 : 1.0) << i;
  }
}

TEST(Defects, D17_LayerNormWithoutParameters) {
  Net n;
  Var x = n.data("x", randn({3, 8}, 35, 0.4));
  EXPECT_NEAR(sum_of(n.relevance(layer_norm(x), {x}, exact())[0]), 24, 1e-7);
  EXPECT_NEAR(sum_of(n.relevance(layer_norm(x), {x}, lrp::dynamic())[0]), 24, 1e-9);
}

TEST(Defects, D18_BatchNormInTrainingAndEvaluation) {
  struct Root : nn::Module {
  } root;
  nn::BatchNorm norm(root, "norm", 3);
  for (nn::Parameter* p : {&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var})
    for (int i = 0; i < 3; ++i) p->tensor().data<float>()[i] = float(0.5 + i + 0.1 * double(p->name().size()));
  for (bool training : {false, true}) {
    Graph g({.training = training});
    Var x = g.input("x", {2, 3, 4, 4}), w = g.parameter("w", randn({3, 3, 3, 3}, 95).to(f32));
    Var h = conv(x, w, {}, {.padding = {1}}), y = norm(h);
    lrp::Ledger ledger(exact()), residual(lrp::dynamic());
    Var taken_by_h = ledger.relevance(y, h, y * y * y), block = residual.relevance(y + x, x);
    Results r = evaluate({h, y, taken_by_h, block, ledger.outputs(), residual.outputs()},
                         {{"x", randn({2, 3, 4, 4}, 94).to(f32)}});
    EXPECT_TRUE(ledger.read(r).holds()) << ledger.read(r).text();
    EXPECT_TRUE(residual.read(r).holds()) << residual.read(r).text();
    // h times the adjoint at R / y = y^2, with the scale a constant: in evaluation that of the parameters, in training
    // that of the batch, frozen as in layer norm; there the mean is part of the map, so that the adjoint loses its
    // mean.
    for (int64_t c = 0; c < 3; ++c) {
      double mean = 0, var = 0, of_squares = 0, size = 0;
      auto each = [&](auto f) {
        for (int64_t i = 0; i < 96; ++i)
          if (i / 16 % 3 == c) f(r[0].item(i), r[1].item(i), r[2].item(i));
      };
      each([&](double v, double out, double got) {
        mean += v / 32, of_squares += training ? out * out / 32 : 0, size = std::max(size, std::fabs(got));
      });
      each([&](double v, double, double) { var += (v - mean) * (v - mean) / 32; });
      double scale =
          norm.weight.tensor().item(c) / std::sqrt((training ? var : norm.running_var.tensor().item(c)) + norm.eps);
      each([&](double v, double out, double got) {
        EXPECT_NEAR(got, v * scale * (out * out - of_squares), 1e-5 * size) << training;
      });
    }
  }
}

TEST(Defects, D19_D22_WhatFeedsASumIsTheActivation) {
  Tensor mask = Tensor::zeros({2, 4}, boolean);
  mask.data<bool>()[1] = mask.data<bool>()[6] = true;
  for (int which : {0, 1, 2}) {
    Net n;
    Var x = n.data("x", randn({2, 4}, 97)), z = n.data("z", randn({2, 4}, 98, 9));
    Var h = which == 0   ? dropout(x, 0.5, 3)
            : which == 1 ? masked_fill(x, n.g.constant(mask), -7)
                         : repeat_interleave(reshape(max_pool(reshape(x, {2, 1, 4}), {.kernel = {2}}), {2, 2}), 2, 1);
    Tensor r = n.relevance(h + z, {z}, exact())[0], activation = n.run({h})[0];
    for (int64_t i = 0; i < 8; ++i) {
      double other = n.held[1].second.item(i);
      EXPECT_NEAR(r.item(i), other / (activation.item(i) + other), 1e-12) << which << " at " << i;
    }
    if (which == 1) {
      EXPECT_NEAR(n.report.absorbed.at("constant"),
                  -7 / (-7 + n.held[1].second.item(1)) - 7 / (-7 + n.held[1].second.item(6)), 1e-9);
    }
  }
}

TEST(Defects, D20_AdaptivePoolsOfSizeOneAreMeans) {
  for (auto rules : {exact(), lrp::attn(), lrp::dynamic()}) {
    Net n;
    Var x = n.data("x", randn({2, 3, 4, 5}, 99));
    Tensor pool = n.relevance(adaptive_avg_pool(x, {1, 1}), {x}, rules)[0],
           average = n.relevance(mean(x, {2, 3}, true), {x}, rules)[0];
    for (int64_t i = 0; i < pool.numel(); ++i)
      EXPECT_NEAR(pool.item(i), average.item(i), 1e-4 * std::fabs(average.item(i))) << rules.name();
  }
}

TEST(Defects, D21_D22_OpsThatFeedASum) {
  using F = Var (*)(Var);
  for (F f : std::initializer_list<F>{[](Var x) { return max(x, {1}, true); }, [](Var x) { return abs(x); },
                                      [](Var x) { return clamp(x, -0.5, 0.5); }, [](Var x) { return softplus(x); },
                                      [](Var x) { return where(greater(x, 0.0), x, 0.0); },
                                      [](Var x) {
                                        return gather(x, x.graph().constant(Tensor::from<int64_t>({2, 0, 1, 1})), 1);
                                      }}) {
    Net n;
    Var x = n.data("x", randn({3, 4}, 36));
    Var y = f(x) + x;
    Tensor r = n.relevance(y, {x}, lrp::dynamic())[0];
    EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), double(y.numel()), 1e-9);
  }
}

TEST(Defects, D23_NegKeepsItsSign) {
  Net n;
  Var x = n.data("x", Tensor::from<double>({2})), y = n.data("y", Tensor::from<double>({5}));
  auto r = n.relevance(neg(x) + y, {x, y}, exact());
  EXPECT_NEAR(r[0].item(), -2.0 / 3, 1e-12);
  EXPECT_NEAR(r[1].item(), 5.0 / 3, 1e-12);
}

TEST(Defects, D24_BroadcastOperandsAreReducedInsideTheRule) {
  for (auto rules : {exact(), lrp::dynamic()}) {
    Net n;
    Var a = n.data("a", randn({1, 16}, 37)), b = n.data("b", randn({1, 1}, 38));
    for (Var y : {a * b, a + b, a - b, a / b}) {
      auto r = n.relevance(y, {a, b}, rules);  // shapes are checked there
      EXPECT_NEAR(sum_of(r[0]) + sum_of(r[1]), 16, 1e-9) << rules.name();
    }
    Var x = n.data("x", randn({2, 8}, 39)), w = n.weight("w", randn({8}, 40));
    EXPECT_NEAR(sum_of(n.relevance(rms_norm(x, Arg(w)), {x}, rules)[0]), 16, 1e-9) << rules.name();
  }
}

TEST(Defects, D26_D28_EveryArrivalCounts) {
  for (auto rules : {exact(), lrp::dynamic()}) {
    Net n;
    Var x = n.data("x", randn({3, 4}, 41)), w = n.weight("w", randn({4, 4}, 42)), b = n.weight("b", randn({4}, 43));
    for (Var y : {x * tanh(x), x + tanh(x), x + relu(x) * x})
      EXPECT_NEAR(sum_of(n.relevance(y, {x}, rules)[0]), 12, 1e-8) << rules.name();
    Var h = linear(x, w, Arg(b));  // two consumers
    Tensor r = n.relevance(tanh(h) + h, {x}, rules)[0];
    EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), 12, 1e-8) << rules.name();
    Var image = n.data("image", randn({1, 2, 4, 4}, 84)),
        c = conv(image, n.weight("k", randn({3, 2, 3, 3}, 85)), Arg(n.weight("kb", randn({3}, 86))));
    r = n.relevance(tanh(c) + c, {image}, rules)[0];
    EXPECT_NEAR(sum_of(r) + n.report.all_absorbed(), double(c.numel()), 1e-8) << rules.name();
  }
}

TEST(Defects, D27_RowsNeverMix) {
  Tensor x3 = randn({3, 4}, 44), w = randn({5, 4}, 45), v = randn({5, 5}, 46);
  auto run = [&](const Tensor& x) {
    Graph g;
    Var in = g.input("x", x.shape(), f64);
    Var y = linear(tanh(linear(in, g.parameter("w", w))), g.parameter("v", v));
    return evaluate({relevance(y, in, lrp::attn(), lrp::seed_argmax(y, {.form = lrp::SeedForm::one_hot}))},
                    {{"x", x}})[0];
  };
  Tensor all = run(x3);
  for (int64_t b = 0; b < 3; ++b)
    EXPECT_LT(max_abs_diff(run(x3.slice(0, b, b + 1).contiguous_copy()), all.slice(0, b, b + 1).contiguous_copy()),
              1e-12)
        << "row " << b;
}

TEST(Defects, D27_ScalarsOfABatchNeverMix) {
  Tensor xt = Tensor::from<double>({1, -2, 1.5, 1e8, 2e8, 3e8}).reshaped({2, 3}).contiguous_tensor();
  auto run = [&](const Tensor& x) {
    Graph g;
    Var in = g.input("x", x.shape(), f64);
    return evaluate({relevance(softplus(sum(in, {1})), in, lrp::attn(1e-3))},
                    {{"x", x}})[0];  // one score per sample, (B); fused with the division
  };
  Tensor alone = run(xt.slice(0, 0, 1).contiguous_copy());
  EXPECT_TRUE(bitwise_equal(alone, run(xt).slice(0, 0, 1).contiguous_copy()));
}

TEST(Defects, D27_PositionsNeverMix) {
  Tensor xt = randn({2, 3, 4}, 87), w = randn({5, 4}, 88);
  auto run = [&](const Tensor& x, lrp::SeedOptions o) {
    Graph g;
    Var in = g.input("x", x.shape(), f64), y = linear(in, g.parameter("w", w));  // (B, T, 5): no position sees another
    Var seed = lrp::seed_argmax(y, o);
    Results r = evaluate({relevance(y, in, exact(), seed), seed}, {{"x", x}});
    return std::vector<Tensor>{r[0], r[1]};
  };
  auto every = run(xt, {.form = lrp::SeedForm::one_hot}),
       last = run(xt, {.form = lrp::SeedForm::one_hot, .position = -1});
  for (int64_t at = 0; at < 6; ++at) {  // one unit of relevance per position, or per sample
    double seeded = 0, first = 0, second = 0;
    for (int64_t k = 0; k < 5; ++k) seeded += every[1].item(at * 5 + k);
    for (int64_t k = 0; k < 4; ++k) first += every[0].item(at * 4 + k), second += last[0].item(at * 4 + k);
    EXPECT_EQ(seeded, 1);
    EXPECT_NEAR(first, 1, 1e-9);
    EXPECT_NEAR(second, at % 3 == 2 ? 1 : 0, 1e-9);
  }
  for (int64_t b : {0, 1}) {
    Tensor alone = run(xt.slice(0, b, b + 1).contiguous_copy(), {.form = lrp::SeedForm::one_hot, .position = -1})[0];
    EXPECT_LT(max_abs_diff(alone, last[0].slice(0, b, b + 1).contiguous_copy()), 1e-12);
  }
}

TEST(Defects, D30_FrozenWeightsAreWeights) {
  Tensor w = randn({5, 4}, 47), xt = randn({2, 4}, 48);
  Net n;
  Var x = n.data("x", xt);
  Tensor a = n.relevance(linear(x, n.weight("w", w)), {x}, lrp::attn())[0],
         b = n.relevance(linear(x, n.g.constant(w)), {x}, lrp::attn())[0];
  EXPECT_LT(max_abs_diff(a, b), 1e-15);
  Var image = n.data("image", randn({1, 2, 5}, 82));
  Tensor k = randn({3, 2, 3}, 83);
  a = n.relevance(conv(image, n.weight("k", k)), {image}, lrp::attn())[0],
  b = n.relevance(conv(image, n.g.constant(k)), {image}, lrp::attn())[0];
  EXPECT_LT(max_abs_diff(a, b), 1e-15);
}

TEST(Defects, D31_AToggleChangesTheNodesItNames) {
  Net n;
  Var x = n.data("x", randn({3, 4}, 49)), middle, y;
  {
    Scope s(n.g, "lower");
    middle = linear(x, n.weight("w", randn({4, 4}, 50)));
  }
  {
    Scope s(n.g, "upper");
    y = linear(middle, n.weight("v", randn({4, 4}, 51)));
  }
  lrp::RuleSet rules = lrp::attn();
  rules.set("linear", "lower", {.variant = "gamma", .gamma = 0.5});
  auto plain = n.relevance(y, {x, middle}, lrp::attn()), toggled = n.relevance(y, {x, middle}, rules);
  EXPECT_TRUE(bitwise_equal(plain[1], toggled[1]));
  EXPECT_GT(max_abs_diff(plain[0], toggled[0]), 1e-3);
}

TEST(Defects, D32_PartsThatMeetAgain) {
  Net n;
  Var x = n.data("x", randn({2, 6}, 52));
  auto p = chunk(x, 2, 1);
  Var again = concat({p[1], p[0]}, 1) + x, stacked = sum(stack({p[0], p[1]}, 0) + 0.0, {0});
  EXPECT_NEAR(sum_of(n.relevance(again, {x}, lrp::dynamic())[0]), 12, 1e-9);
  EXPECT_NEAR(sum_of(n.relevance(stacked, {x}, lrp::dynamic())[0]), 6, 1e-9);
}

TEST(Defects, D33_AnOpWithoutARuleIsAnError) {
  Graph g;
  Var x = g.input("x", {4}, f64);
  Var y = slice(square(x), 0, 1, 3);
  Var d = grad(sum(y * y), x);  // slice's adjoint belongs to sweeps and has no rule
  try {
    relevance(d, x, lrp::attn(), d);
    FAIL() << "expected MissingRule";
  } catch (const MissingRule& e) {
    EXPECT_NE(std::string(e.what()).find("slice_adjoint"), std::string::npos) << e.what();
  }
}

// A filter of relevance, as an op of one's own: only |R| > 1/2 passes.
Var large(SweepCtx& c) { return where(greater(abs(c.d()), 0.5), c.d(), 0.0); }
#define FILTER(NAME, ABSORBED)                                     \
  REGISTER_OP(NAME) = {                                            \
      .doc = "x; drops small relevance",                           \
      .operands = {"x"},                                           \
      .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); }, \
      .view =                                                      \
          [](const View& in, const Attrs&, View& out) {            \
            out = in;                                              \
            return true;                                           \
          },                                                       \
      .vjp = [](SweepCtx& c) { c.give(0, c.d()); },                \
      .relevance = [](SweepCtx& c) { c.give(0, large(c)); },       \
      .absorbed = ABSORBED,                                        \
      .samples = [] { return std::vector<Sample>{}; },             \
  }
FILTER(test_filter_that_loses, nullptr);
FILTER(test_filter_that_books, [](SweepCtx& c) { c.absorb("filtered", c.d() - large(c)); });

TEST(Defects, D34_AFilterBooksWhatItDropsOrIsNamed) {
  for (const OpDef* filter : {&test_filter_that_loses_op, &test_filter_that_books_op}) {
    Net n;
    Var x = n.data("x", Tensor::from<double>({1, 2, 3})), seed = n.g.constant(Tensor::from<double>({0.25, 1, -2}));
    lrp::Ledger ledger(lrp::attn());
    Var r = ledger.relevance(record(*filter, {x}), x, seed);
    std::vector<Var> wanted{r};
    wanted.insert(wanted.end(), ledger.outputs().begin(), ledger.outputs().end());
    lrp::LedgerReport report = ledger.read(n.run(wanted));
    EXPECT_EQ(report.leaves, -1);
    if (filter == &test_filter_that_books_op) {
      EXPECT_TRUE(report.holds()) << report.text();
      EXPECT_EQ(report.absorbed.at("filtered"), 0.25);
    } else {
      EXPECT_FALSE(report.holds());
      EXPECT_NE(report.text().find("DOES NOT ADD UP: test_filter_that_loses recorded at defects_test.cpp"),
                std::string::npos)
          << report.text();
    }
  }
}

TEST(Defects, D35_AnyNumberOfParameters) {
  Net n;
  Var x = n.data("x", randn({2, 3}, 53));
  std::vector<Var> w{n.weight("a", randn({4, 3}, 54)), n.weight("b", randn({4, 4}, 55)),
                     n.weight("c", randn({2, 4}, 56))};
  Var y = linear(relu(linear(relu(linear(x, w[0])), w[1])), w[2]);
  auto r = n.relevance(y, {w[0], x, w[1], w[2]}, exact());
  EXPECT_EQ(r.size(), 4u);
}

}  // namespace
