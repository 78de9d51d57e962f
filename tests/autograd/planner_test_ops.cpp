#include "planner_test_ops.h"

#include "whence/autograd/sweep.h"

namespace planner_test {
namespace {

std::vector<Sample> no_samples() { return {}; }

void infer_mm(InferCtx& c) { c.out({c.shape(0)[0], c.shape(1)[1]}, c.dtype(0)); }
void run_mm(const KernelCall& k) {
  int64_t m = k.in[0].shape[0], n = k.in[1].shape[1], inner = k.in[0].shape[1];
  ASSERT_TRUE(k.in[0].contiguous() && k.in[1].contiguous());
  auto a = k.in[0].as<float>(), b = k.in[1].as<float>();
  auto y = k.out[0].as<float>();
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float s = 0;
      for (int64_t t = 0; t < inner; ++t) s += a[i * inner + t] * b[t * n + j];
      y[i * n + j] = s;
    }
}
void run_row_sum(const KernelCall& k) {
  const View& x = k.in[0];
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    float s = 0;
    for (int64_t j = 0; j < x.shape[1]; ++j) s += x.as<float>()[i * x.strides[0] + j * x.strides[1]];
    k.out[0].as<float>()[i] = s;
  }
}
void run_noise(const KernelCall& k) {
  std::mt19937_64 r(uint64_t(*k.in[0].as<int64_t>()) * 1000 + uint64_t(k.attrs.integer("key")));
  for (int64_t i = 0; i < k.out[0].numel(); ++i) k.out[0].as<float>()[i] = float(r() % 1000) / 1000.0f;
}

}  // namespace

REGISTER_OP(test_mm) = {
    .doc = "test",
    .operands = {"a", "b"},
    .infer = infer_mm,
    .cpu = {run_mm,
            {.workspace = [](std::span<const TensorType>, std::span<const TensorType> out,
                             const Attrs&) { return size_t(out[0].shape.numel()) * 4; }}},
    .samples = no_samples,
    .traits = {.compute_bound = true, .nondifferentiable = true},
};
REGISTER_OP(test_row_sum) = {
    .doc = "test",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.out({c.shape(0)[0], 1}, c.dtype(0));
        },
    .cpu = {run_row_sum, {.strided = true}},
    .samples = no_samples,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(test_swap) = {
    .doc = "test",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.out({c.shape(0)[1], c.shape(0)[0]}, c.dtype(0));
        },
    .view =
        [](const View& in, const Attrs&, View& out) {
          out = in;
          std::swap(out.shape[0], out.shape[1]);
          std::swap(out.strides[0], out.strides[1]);
          return true;
        },
    .samples = no_samples,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(test_rows) = {
    .doc = "test",
    .operands = {"x"},
    .infer =
        [](InferCtx& c) {
          c.out({c.attrs.integer("end") - c.attrs.integer("begin"), c.shape(0)[1]}, c.dtype(0));
        },
    .view =
        [](const View& in, const Attrs& a, View& out) {
          out = in;
          out.data = static_cast<std::byte*>(in.data) + a.integer("begin") * in.strides[0] * int64_t(size_of(in.dtype));
          out.shape[0] = a.integer("end") - a.integer("begin");
          return true;
        },
    .samples = no_samples,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(test_spread) = {
    .doc = "test",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.attrs.shape("shape"), c.dtype(0)); },
    .view =
        [](const View& in, const Attrs& a, View& out) {
          Shape to = a.shape("shape");
          out = {in.data, in.dtype, to, broadcast_strides(in.shape, in.strides, to)};
          return true;
        },
    .samples = no_samples,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(test_flatten) = {
    .doc = "test",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out({c.shape(0).numel()}, c.dtype(0)); },
    .view =
        [](const View& in, const Attrs&, View& out) {
          out = {in.data, in.dtype, {in.numel()}, {}};
          return reshape_strides(in.shape, in.strides, out.shape, &out.strides);
        },
    .cpu = {[](const KernelCall& k) {
              View flat = k.out[0];
              flat.shape = k.in[0].shape;
              flat.strides = contiguous_strides(flat.shape);
              copy(k.in[0], flat);
            },
            {.strided = true}},
    .samples = no_samples,
    .traits = {.nondifferentiable = true},
};
REGISTER_OP(test_noise) = {
    .doc = "test",
    .operands = {"seed"},
    .infer = [](InferCtx& c) { c.out(c.attrs.shape("shape"), f32); },
    .cpu = run_noise,
    .samples = no_samples,
    .traits = {.random = true, .nondifferentiable = true},
};
REGISTER_OP(test_twice) = {
    .doc = "test",
    .operands = {"x"},
    .infer = [](InferCtx& c) { c.out(c.shape(0), c.dtype(0)); },
    .body = [](std::span<const Var> in, const Attrs&) -> std::vector<Var> { return {in[0] + in[0] * 1.0}; },
    .samples = no_samples,
};

Var mm(Var a, Var b) { return record(test_mm_op, {a, b}); }
Var row_sum(Var x) { return record(test_row_sum_op, {x}); }
Var swap_axes(Var x) { return record(test_swap_op, {x}); }
Var rows(Var x, int64_t begin, int64_t end) { return record(test_rows_op, {x}, {{"begin", begin}, {"end", end}}); }
Var spread(Var x, const Shape& to) { return record(test_spread_op, {x}, {{"shape", to}}); }
Var flatten(Var x) { return record(test_flatten_op, {x}); }
Var noise(Graph& g, const Shape& shape, int64_t key) {
  Var seed = g.seed();
  return g.record(test_noise_op, {&seed, 1}, {{"shape", shape}, {"key", key}});
}
Var twice(Var x) { return record(test_twice_op, {x}); }

Tensor random_tensor(const Shape& shape, uint64_t seed, DType dtype) {
  std::mt19937_64 r(seed);
  std::uniform_real_distribution<float> u(-1, 1);
  std::vector<float> values(size_t(shape.numel()));
  for (float& x : values) x = u(r);
  return Tensor::from(values, shape).to(dtype);
}

RandomGraph::RandomGraph(uint64_t seed, int nodes, int64_t n, Device device, DType wide) {
  std::mt19937_64 r(seed);
  auto below = [&](size_t k) { return size_t(r() % k); };
  std::vector<Var> full, row, column, scalar;  // [n, n], [1, n], [n, 1], []
  for (int i = 0; i < 3; ++i) {
    fed.emplace_back("x" + std::to_string(i), random_tensor({n, n}, seed * 10 + uint64_t(i)));
    full.push_back(g.input(fed.back().first, {n, n}));
  }
  parameters.push_back(random_tensor({n, n}, seed + 77));
  parameters.push_back(random_tensor({n, n}, seed + 78).transposed());
  parameters.push_back(random_tensor({1, n}, seed + 79));
  for (Tensor& t : parameters) t = t.to(device);
  full.push_back(g.parameter("p", parameters[0]));
  full.push_back(g.parameter("q", parameters[1]));
  row.push_back(g.parameter("b", parameters[2]));
  scalar.push_back(g.constant(0.75, f32));
  column.push_back(row_sum(full[0]));
  for (int i = 0; i < nodes; ++i) {
    // Prefer recent values: long chains, with some far connections.
    auto pick = [&](std::vector<Var>& from) {
      return from[below(3) ? from.size() - 1 - below(std::min<size_t>(from.size(), 6)) : below(from.size())];
    };
    Var x = pick(full), y = pick(full);
    switch (below(20)) {
      case 0: full.push_back(x + y); break;
      case 1: full.push_back(x * y); break;
      case 2: full.push_back(tanh(x)); break;
      case 3: full.push_back(x - pick(row)); break;
      case 4: full.push_back(x * pick(column)); break;
      case 5: full.push_back(x * pick(scalar) + 0.25); break;
      case 6: full.push_back(where(less(x, y), x, pick(row))); break;
      case 7: full.push_back(tanh(mm(x, y) * (1.0 / double(n)))); break;
      case 8: column.push_back(tanh(row_sum(x))); break;
      case 9: full.push_back(swap_axes(x)); break;
      case 10: full.push_back(swap_axes(x) * y); break;
      case 11: full.push_back(spread(pick(column), {n, n})); break;
      case 12: full.push_back(spread(rows(x, n / 2, n / 2 + 1), {n, n})); break;
      case 13: row.push_back(rows(x, 0, 1)); break;
      case 14: full.push_back(x + noise(g, {n, n}, int64_t(below(3)))); break;
      case 15: full.push_back(twice(x)); break;
      case 16: full.push_back(cast(cast(x, wide) * 0.5, f32)); break;
      case 17: column.push_back(swap_axes(pick(row))); break;
      case 18: full.push_back(sigmoid(x) * relu(y)); break;
      case 19: full.push_back(x + spread(flatten(swap_axes(x)), {1, n * n}).graph().constant(0.5, f32)); break;
    }
    if (below(12) == 0) outputs.push_back(full.back());
    if (below(40) == 0) outputs.push_back(flatten(full.back()));
    if (below(40) == 0) outputs.push_back(column.back());
  }
  outputs.push_back(full.back());
  outputs.push_back(full[0]);  // an input as a result
  outputs.push_back(outputs[below(outputs.size())]);
}

void expect_same_bits(const Results& got, const Results& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_TRUE(bitwise_equal(got[i], want[i])) << "output " << i << "\n" << got[i].str() << "\n" << want[i].str();
}

}  // namespace planner_test
