#include "whence/nn/data/select.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace whence {
namespace {

// `body(values)` with the elements in row-major order, of a type that holds them exactly.
template <class Body> auto with_elements(const Tensor& tensor, Body&& body) {
  switch (tensor.dtype()) {
    case DType::f64: return body(tensor.to_vector<double>());
    case DType::i64: return body(tensor.to_vector<int64_t>());
    case DType::i32:
    case DType::u8:
    case DType::boolean: return body(tensor.to(i32).to_vector<int32_t>());
    default: return body(tensor.to(f32).to_vector<float>());
  }
}

template <class T> bool before(T a, T b) { return a < b || (a == a && b != b); }  // NaN comes last

}  // namespace

Unique unique(const Tensor& tensor) {
  return with_elements(tensor, [&](const auto& x) {
    std::vector<int64_t> order(x.size());
    std::iota(order.begin(), order.end(), int64_t(0));
    auto less = [&](int64_t a, int64_t b) { return before(x[size_t(a)], x[size_t(b)]); };
    std::stable_sort(order.begin(), order.end(), less);
    auto values = x;
    values.clear();
    std::vector<int64_t> inverse(x.size()), counts;
    for (size_t i = 0; i < order.size(); ++i) {
      if (i == 0 || less(order[i - 1], order[i])) {
        values.push_back(x[size_t(order[i])]);
        counts.push_back(0);
      }
      ++counts.back();
      inverse[size_t(order[i])] = int64_t(counts.size()) - 1;
    }
    return Unique{Tensor::from(values).to(tensor.dtype()), Tensor::from(inverse, tensor.shape()), Tensor::from(counts)};
  });
}

Tensor nonzero(const Tensor& tensor) {
  std::vector<int64_t> flat = with_elements(tensor, [](const auto& x) {
    std::vector<int64_t> out;
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] != 0) out.push_back(int64_t(i));
    return out;
  });
  const int rank = tensor.rank();
  Tensor out = Tensor::empty({int64_t(flat.size()), rank}, i64);
  int64_t* at = static_cast<int64_t*>(out.raw());
  for (size_t i = 0; i < flat.size(); ++i)
    for (int axis = rank; axis-- > 0; flat[i] /= tensor.size(axis))
      at[int64_t(i) * rank + axis] = flat[i] % tensor.size(axis);
  return out;
}

}  // namespace whence
