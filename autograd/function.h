// function(fn): a callable on tensors, traced once per signature of its inputs.
//
//     auto predict = function([&](Var x) { return softmax(model(x)); });
//     Tensor p = predict(image);
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "whence/autograd/plan.h"

namespace whence {

/// Graphs and plans by input signature (shapes and dtypes). Calls from several threads are fine; calls with one
/// signature take turns.
class TraceCache {
 public:
  using Body = std::function<std::vector<Var>(std::span<const Var>)>;
  explicit TraceCache(CompileOptions options = {});
  /// Runs the plan for inputs like these; records `body` on fresh inputs when there is none yet.
  std::vector<Tensor> run(std::span<const Tensor> inputs, const Body& body, RunOptions options = {}) const;
  size_t signatures() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

template <class F> class Function {
 public:
  Function(F fn, CompileOptions options) : fn_(std::move(fn)), traces_(std::move(options)) {}

  /// Tensor... -> Tensor, or std::vector<Tensor> when fn returns a list of Vars. Random operations draw the numbers of
  /// seed 0 each time: run() gives another.
  template <class... Ts> auto operator()(const Ts&... in) const { return run({}, in...); }
  /// f.run({.seed = 7}, x)
  template <class... Ts> auto run(const RunOptions& options, const Ts&... in) const {
    static_assert(sizeof...(Ts) > 0 && (std::is_convertible_v<const Ts&, Tensor> && ...), "call it with tensors");
    auto call = [this]<size_t... I>(std::span<const Var> v, std::index_sequence<I...>) { return fn_(v[I]...); };
    constexpr auto indices = std::index_sequence_for<Ts...>();
    constexpr bool single = std::is_same_v<decltype(call(std::span<const Var>(), indices)), Var>;
    const Tensor list[] = {in...};
    std::vector<Tensor> out = traces_.run(
        list,
        [&](std::span<const Var> v) -> std::vector<Var> {
          if constexpr (single) return {call(v, indices)};
          else return call(v, indices);
        },
        options);
    if constexpr (single) return out[0];
    else return out;
  }
  size_t signatures() const { return traces_.signatures(); }

 private:
  F fn_;
  TraceCache traces_;
};

/// Wraps fn(Var...) -> Var or std::vector<Var>. Parameters are those whose memory fn refers to when it is traced.
template <class F> Function<F> function(F fn, CompileOptions options = {}) {
  return {std::move(fn), std::move(options)};
}

}  // namespace whence
