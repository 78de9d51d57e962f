// cross_entropy and its backward op.
#include <algorithm>

#include "whence/ops/cpu/loss.h"
#include "whence/ops/cpu/reduce.h"
#include "whence/ops/floats.h"
#include "whence/ops/ops.h"

namespace whence::cpu {
namespace {

// Calls f(T{}, label pointer) for the dtypes at hand.
template <class F> void over_labels(const KernelCall& call, F&& f) {
  over_floats(call.in[0].dtype, [&](auto zero) {
    call.in[1].dtype == i64 ? f(zero, call.in[1].as<const int64_t>()) : f(zero, call.in[1].as<const int32_t>());
  });
}

template <class I> int64_t count_labels(const I* target, int64_t rows, int64_t ignore) {
  return rows - std::count(target, target + rows, I(ignore));
}

struct Sizes {
  int64_t classes, rows, ignore;
  Reduction reduction;
  double smoothing;
  explicit Sizes(const KernelCall& call)
      : classes(call.in[0].shape[-1]),
        rows(call.in[1].numel()),
        ignore(call.attrs.integer("ignore_index")),
        reduction(Reduction(call.attrs.integer("reduction"))),
        smoothing(call.attrs.real("label_smoothing")) {}
  template <class I> int64_t divisor(const I* target) const {
    return reduction == Reduction::mean ? std::max<int64_t>(1, count_labels(target, rows, ignore)) : 1;
  }
};

// logits, target -> loss, lse. The workspace holds a loss for each row.
void forward(const KernelCall& call) {
  Sizes s(call);
  over_labels(call, [&](auto zero, const auto* target) {
    using T = decltype(zero);
    T *out = call.out[0].as<T>(), *loss = s.reduction == Reduction::none ? out : reinterpret_cast<T*>(call.workspace);
    int64_t bad =
        cross_entropy(call.in[0].as<T>(), target, loss, call.out[1].as<T>(), s.rows, s.classes, s.ignore, s.smoothing);
    if (bad >= 0) call.out_of_range(1, bad, target[bad], s.classes);
    if (s.reduction != Reduction::none) reduce_sum(loss, out, 1, s.rows, 1, 1.0 / double(s.divisor(target)));
  });
}

size_t row_losses(std::span<const TensorType> in, std::span<const TensorType> out, const Attrs& attrs) {
  bool none = Reduction(attrs.integer("reduction")) == Reduction::none;
  return none ? 0 : size_t(in[1].shape.numel()) * size_of(out[0].dtype);
}

// logits, target, lse, d -> dlogits, once per target of the sweep
void backward(const KernelCall& call) {
  Sizes s(call);
  bool none = s.reduction == Reduction::none;
  int64_t each = none ? s.rows : 1, targets = each ? call.in[3].numel() / each : 0;
  over_labels(call, [&](auto zero, const auto* target) {
    using T = decltype(zero);
    T scale = T(1.0 / double(s.divisor(target)));
    for (int64_t t = 0; t < targets; ++t)
      cross_entropy_backward(call.in[0].as<T>(), call.in[2].as<T>(), target, call.in[3].as<T>() + t * each,
                             none ? 1 : 0, scale, call.out[0].as<T>() + t * s.rows * s.classes, s.rows, s.classes,
                             s.ignore, s.smoothing);
  });
}

REGISTER_KERNEL(cpu, cross_entropy) = {forward, {.workspace = row_losses}};
REGISTER_KERNEL(cpu, cross_entropy_backward) = backward;

}  // namespace
}  // namespace whence::cpu
