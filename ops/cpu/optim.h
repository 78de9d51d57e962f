// One pass of an optimiser over flat arrays of n elements. T is float or double. Parameters and state are updated in
// place. How the learning rate, corrections and decay of a method become these coefficients: nn/optim.cpp.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// How the gradient arrives, d = scale g + l2 p, and what is left of the parameter: p = keep p - (the step). With
/// `scale`, clipping or a loss scale costs no pass of its own.
struct Intake {
  double scale = 1, l2 = 0, keep = 1;
};

/// m = beta1 m + (1 - beta1) d, v = beta2 v + (1 - beta2) d^2; the step is (rate m + direct d) / (root sqrt(v) + eps).
/// With `largest` (else null) its running maximum stands in for v. Adam, AdamW, AMSGrad, NAdam, RAdam.
struct AdamStep {
  double beta1, beta2, eps, rate, direct = 0, root = 1;
};
template <class T>
void adam_step(T* p, const T* g, T* m, T* v, T* largest, int64_t n, const Intake& in, const AdamStep& a);

/// m as above, u = max(beta2 u, |d| + eps); the step is rate m / u. Adamax.
struct AdamaxStep {
  double beta1, beta2, eps, rate;
};
template <class T> void adamax_step(T* p, const T* g, T* m, T* u, int64_t n, const Intake& in, const AdamaxStep& a);

/// v = alpha v + gain d^2; c = d / (sqrt(v - mean^2) + eps), where mean = alpha mean + gain d (null: no centering). The
/// step is rate c, or rate buffer with buffer = momentum buffer + c (null: no momentum). RMSprop; alpha = gain = 1:
/// Adagrad.
struct RmsStep {
  double alpha, gain, eps, rate, momentum = 0;
};
template <class T>
void rms_step(T* p, const T* g, T* v, T* mean, T* buffer, int64_t n, const Intake& in, const RmsStep& r);

/// v = rho v + (1 - rho) d^2, c = d sqrt(u + eps) / sqrt(v + eps), u = rho u + (1 - rho) c^2; the step is rate c.
/// Adadelta.
struct AdadeltaStep {
  double rho, eps, rate;
};
template <class T> void adadelta_step(T* p, const T* g, T* v, T* u, int64_t n, const Intake& in, const AdadeltaStep& a);

/// m = momentum m + (1 - dampening) d (m = d in the first step); the step is rate m, or rate (d + momentum m) with
/// nesterov. m null: rate d.
struct SgdStep {
  double rate, momentum = 0, dampening = 0;
  bool nesterov = false, first = false;
};
template <class T> void sgd_step(T* p, const T* g, T* m, int64_t n, const Intake& in, const SgdStep& s);

/// The step is rate sign(beta1 m + (1 - beta1) d); then m = beta2 m + (1 - beta2) d. Lion.
struct LionStep {
  double rate, beta1, beta2;
};
template <class T> void lion_step(T* p, const T* g, T* m, int64_t n, const Intake& in, const LionStep& l);

/// y = a y + b x (moving averages).
template <class T> void blend_array(T* y, double a, const T* x, double b, int64_t n);

}  // namespace whence::cpu
