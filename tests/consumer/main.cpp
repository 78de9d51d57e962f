// A user's program: ops of the library, found through the registry, and one of the user's own.
#include <whence/whence.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

using namespace whence;

const char* version_seen_by_part();

// y = 2 x, an op that the library knows nothing of.
REGISTER_OP(consumer_doubled) = {
    .doc = "y = 2 x",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },
    .cpu = [](const KernelCall& c) {
          const auto* x = c.in[0].as<double>();
          auto* y = c.out[0].as<double>();
          for (int64_t i = 0; i < c.out[0].numel(); ++i) y[i] = 2 * x[i];
        },
    .vjp = [](SweepCtx& c) { c.give(0, c.d() * 2); },
    .relevance = lrp::identity,
    .samples = [] { return std::vector<Sample>{{.in = {{.shape = {3}}}}}; },
};

// y = x / (1 + |x|) by its scalar function: it fuses with the library's elementwise ops.
WHENCE_SCALAR(consumer_softsign, (x), (), x / (T(1) + abs(x)));
REGISTER_OP(consumer_softsign) = {
    .doc = "x / (1 + |x|)",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },
    .vjp = [](SweepCtx& c) { c.give(0, c.d() / square(abs(c.in()) + 1.0)); },
    .relevance = lrp::identity,
    .scalar = consumer_softsign_row,
    .samples = [] { return std::vector<Sample>{{.in = {{.shape = {3}}}}}; },
};

static int failures = 0;
static void expect(bool ok, const char* what) {
  if (ok) return;
  std::printf("consumer: FAILED: %s\n", what);
  ++failures;
}
static bool near(double a, double b) { return std::abs(a - b) < 1e-12; }

// Arguments: names of ops that the library must have, taken from its sources by run.sh.
int main(int argc, char** argv) {
  expect(std::strcmp(version(), version_seen_by_part()) == 0, "both parts see one library");

  // The registry is filled by static initialisers: ops are there only when the whole archive was linked.
  for (int i = 1; i < argc; ++i) expect(find_op(argv[i]) != nullptr, argv[i]);
  expect(find_op("consumer_doubled") != nullptr, "an op of the user's own");
  for (const std::string& defect : registry_defects()) expect(false, defect.c_str());

  cpu::set_num_threads(1);
  expect(cpu::num_threads() == 1, "the number of threads is set");

  Graph g;
  Var x = g.input("x", {3}, f64);
  Var doubled = g.record(op_named("consumer_doubled"), std::vector<Var>{x});
  Var y = sum(tanh(x) * doubled);
  Var dx = grad(y, x);
  const std::vector<double> values = {0.25, -0.5, 1};
  Results r = evaluate({y, dx}, {{"x", Tensor::from(values)}});
  double want = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double v = values[i], t = std::tanh(v);
    want += 2 * v * t;
    expect(near(r[dx].item(int64_t(i)), 2 * t + 2 * v * (1 - t * t)), "gradient");
  }
  expect(near(r[y].item(), want), "value");

  Var s = record(op_named("consumer_softsign"), {x * 2.0}) + 1.0;
  Plan plan = compile({s});
  expect(plan.stats().steps == 1 && plan.stats().fused_nodes == 3, "the user's elementwise op fuses");
  expect(near(plan.run({{"x", Tensor::from(values)}})[s].item(1), 0.5), "value of the fused op");

  try {
    add(x, g.input("z", {2}, f64));
    expect(false, "a shape error is thrown");
  } catch (const ShapeError& e) {
    expect(std::string(e.what()).find("main.cpp:") != std::string::npos, "the shape error names this file");
  }

  std::printf("consumer: whence %s, %zu ops, %d names asked for, %d failures\n", version(), all_ops().size(), argc - 1,
              failures);
  return failures == 0 ? 0 : 1;
}
