// One pass of an optimiser over flat arrays of n elements. T is float or double. `gradient_scale` multiplies g on the way in, so that
// clipping or a loss scale costs no pass of its own. Parameters and moments are updated in place.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// m, v: moments; step counts from 1. With `decoupled` p shrinks by lr * weight_decay (AdamW), else g += weight_decay * p (Adam with L2).
struct AdamStep {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;
  bool decoupled = true;
};
template <class T> void adam_step(T* p, const T* g, T* m, T* v, int64_t n, const AdamStep& a, double gradient_scale = 1);

/// PyTorch's rules: m = momentum m + (1 - dampening) g (m = g in the first step), nesterov adds momentum m to g. m may be null when momentum is 0.
struct SgdStep {
  double lr, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, first = false;
};
template <class T> void sgd_step(T* p, const T* g, T* m, int64_t n, const SgdStep& s, double gradient_scale = 1);

/// p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p); m = beta2 m + (1 - beta2) g.
struct LionStep {
  double lr, beta1, beta2, weight_decay;
};
template <class T> void lion_step(T* p, const T* g, T* m, int64_t n, const LionStep& l, double gradient_scale = 1);

/// y *= a;  y = a y + b x (moving averages).
template <class T> void scale_array(T* y, double a, int64_t n);
template <class T> void blend_array(T* y, double a, const T* x, double b, int64_t n);

}  // namespace whence::cpu
