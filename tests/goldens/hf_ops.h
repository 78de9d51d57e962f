// hf/core op/*: one operation per file, and ref/*: formulas of several. The name of the case picks the row of a table,
// `config` holds its attributes, `cot.*` the upstream gradient of each output; loss = sum <cot, output>.
#pragma once
#include "tests/goldens/runner.h"

namespace whence::goldens {

struct OpCase {
  const File& file;
  std::string name;  ///< "unary/exp": the case without its first part
  DType dtype;
  Json config;
  Graph g;
  std::map<std::string, Var> values;  ///< "input.x", "param.weight"
  std::vector<std::pair<std::string, Tensor>> feeds;

  bool has(const std::string& n) const { return file.has("input." + n) || file.has("param." + n); }
  Var operator()(const std::string& n) {
    std::string key = file.has("input." + n) ? "input." + n : "param." + n;
    if (auto it = values.find(key); it != values.end()) return it->second;
    Tensor t = file.tensor(key, dtype);
    feeds.emplace_back(key, t);
    return values[key] = g.input(key, t.shape(), t.dtype());
  }
  std::optional<Arg> maybe(const std::string& n) {
    if (!has(n)) return {};
    return Arg((*this)(n));
  }
  bool given(const char* key) const { return config.contains(key) && !config.at(key).is_null(); }
  double real(const char* key, double otherwise) const { return given(key) ? config.at(key).get<double>() : otherwise; }
  int64_t integer(const char* key, int64_t otherwise) const {
    return given(key) ? config.at(key).get<int64_t>() : otherwise;
  }
  Ints ints(const char* key, size_t n, int64_t otherwise) const {
    if (!given(key)) return Ints(n, otherwise);
    return config.at(key).is_array() ? config.at(key).get<Ints>() : Ints(n, config.at(key).get<int64_t>());
  }
  /// What follows `prefix` in the name, "" when it has another one.
  std::string tail(const std::string& prefix) const {
    return name.starts_with(prefix) ? name.substr(prefix.size()) : "";
  }
};

using Outputs = std::map<std::string, Var>;
using Builder = std::function<Outputs(OpCase&)>;
/// A name that ends in '*' serves every case that begins with it and has no row of its own.
using Table = std::map<std::string, Builder>;

const Table& elementwise_cases();  ///< unary, binary, complex
const Table& shape_cases();        ///< reduce, shape, index
const Table& layer_cases();        ///< products, norms, rotary positions, attention, recurrent cells
const Table& convolution_cases();  ///< convolutions, pools
const Table& loss_cases();
const Table& algebra_cases();  ///< Fourier transforms, factorisations of matrices
const Table& scan_cases();  ///< ref/scan, s6, ssd, s4, s5
const Table& cell_cases();  ///< ref/mlstm, slstm, xlstm, memory, vision, second_order

// ---- rows ---------------------------------------------------------------------------------------------------------

inline Outputs y(Var v) { return {{"y", v}}; }
template <class F> Builder of_x(F f) {
  return [f](OpCase& o) { return y(f(o, o("x"))); };
}
/// The one tensor "y".
template <class F> Builder just(F f) {
  return [f](OpCase& o) { return y(f(o)); };
}

/// v [C] beside x [N, C, ...].
inline Var per_channel(Var v, int rank) {
  Shape s = Shape::filled(rank, 1);
  s[1] = v.numel();
  return reshape(v, s);
}

}  // namespace whence::goldens
