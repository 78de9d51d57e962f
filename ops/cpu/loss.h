// Cross entropy with integer targets over [rows, classes] logits. T is float or double, I int32_t or int64_t.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// Per row: lse = log(sum(exp(x))) and loss = lse - (1 - s) x[target] - s mean(x), s being the label smoothing; 0 where
/// the target is `ignore_index`. Returns the first row whose target is neither a class nor ignored (its loss is NaN),
/// or -1.
template <class T, class I> int64_t cross_entropy(const T* x, const I* target, T* loss, T* lse, int64_t rows,
                                                  int64_t classes, int64_t ignore_index, double smoothing);

/// dx = dloss[row * dloss_stride] * scale * (softmax(x) - (1 - s) onehot - s / classes), 0 for ignored rows. dx may be
/// x.
template <class T, class I> void cross_entropy_backward(const T* x, const T* lse, const I* target, const T* dloss,
                                                        int64_t dloss_stride, T scale, T* dx, int64_t rows,
                                                        int64_t classes, int64_t ignore_index, double smoothing);

}  // namespace whence::cpu
