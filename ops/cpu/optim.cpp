#include "ops/cpu/optim.h"

#include <cmath>

#include "ops/cpu/parallel.h"
#include "ops/cpu/row.h"

namespace whence::cpu {
namespace {

template <class T, class F>
void pass(int64_t n, F&& f) {
  parallel_for(n, kGrain / 2, [&](int64_t b, int64_t e) { each<T>(e - b, [&](int64_t i, int64_t m) { f(b + i, m); }); });
}

}  // namespace

template <class T>
void adam_step(T* p, const T* g, T* m, T* v, int64_t n, const AdamStep& a, double gradient_scale) {
  using V = Vec<T>;
  auto c = [](double x) { return V(static_cast<T>(x)); };
  const double bias1 = 1 - std::pow(a.beta1, static_cast<double>(a.step)), bias2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
  const V b1 = c(a.beta1), c1 = c(1 - a.beta1), b2 = c(a.beta2), c2 = c(1 - a.beta2), eps = c(a.eps), rate = c(a.lr / bias1),
          root = c(1 / std::sqrt(bias2)), keep = c(a.decoupled ? 1 - a.lr * a.weight_decay : 1), l2 = c(a.decoupled ? 0 : a.weight_decay),
          scale = c(gradient_scale);
  pass<T>(n, [&](int64_t i, int64_t k) {
    V x = load_upto(p + i, k), d = fma(l2, x, load_upto(g + i, k) * scale);
    V m1 = fma(b1, load_upto(m + i, k), c1 * d), v1 = fma(b2, load_upto(v + i, k), c2 * d * d);
    store_upto(m1, m + i, k);
    store_upto(v1, v + i, k);
    store_upto(x * keep - rate * m1 / fma(sqrt(v1), root, eps), p + i, k);
  });
}

template <class T>
void sgd_step(T* p, const T* g, T* m, int64_t n, const SgdStep& s, double gradient_scale) {
  using V = Vec<T>;
  auto c = [](double x) { return V(static_cast<T>(x)); };
  const V rate = c(s.lr), mu = c(s.momentum), damp = c(s.first ? 1 : 1 - s.dampening), l2 = c(s.weight_decay), scale = c(gradient_scale);
  const bool momentum = m && s.momentum != 0;
  pass<T>(n, [&](int64_t i, int64_t k) {
    V x = load_upto(p + i, k), d = fma(l2, x, load_upto(g + i, k) * scale);
    if (momentum) {
      V m1 = s.first ? d : fma(mu, load_upto(m + i, k), damp * d);
      store_upto(m1, m + i, k);
      d = s.nesterov ? fma(mu, m1, d) : m1;
    }
    store_upto(x - rate * d, p + i, k);
  });
}

template <class T>
void lion_step(T* p, const T* g, T* m, int64_t n, const LionStep& l, double gradient_scale) {
  using V = Vec<T>;
  auto c = [](double x) { return V(static_cast<T>(x)); };
  const V rate = c(l.lr), keep = c(1 - l.lr * l.weight_decay), b1 = c(l.beta1), c1 = c(1 - l.beta1), b2 = c(l.beta2), c2 = c(1 - l.beta2),
          scale = c(gradient_scale), zero = c(0);
  pass<T>(n, [&](int64_t i, int64_t k) {
    V d = load_upto(g + i, k) * scale, m0 = load_upto(m + i, k), u = fma(b1, m0, c1 * d);
    V sign = select(u > zero, rate, select(u < zero, -rate, u));
    store_upto(load_upto(p + i, k) * keep - sign, p + i, k);
    store_upto(fma(b2, m0, c2 * d), m + i, k);
  });
}

template <class T>
void scale_array(T* y, double a, int64_t n) {
  const Vec<T> s(static_cast<T>(a));
  pass<T>(n, [&](int64_t i, int64_t k) { store_upto(load_upto(y + i, k) * s, y + i, k); });
}

template <class T>
void blend_array(T* y, double a, const T* x, double b, int64_t n) {
  const Vec<T> s(static_cast<T>(a)), t(static_cast<T>(b));
  pass<T>(n, [&](int64_t i, int64_t k) { store_upto(fma(load_upto(y + i, k), s, load_upto(x + i, k) * t), y + i, k); });
}

#define WHENCE_INSTANTIATE(T)                                                              \
  template void adam_step<T>(T*, const T*, T*, T*, int64_t, const AdamStep&, double);      \
  template void sgd_step<T>(T*, const T*, T*, int64_t, const SgdStep&, double);            \
  template void lion_step<T>(T*, const T*, T*, int64_t, const LionStep&, double);          \
  template void scale_array<T>(T*, double, int64_t);                                       \
  template void blend_array<T>(T*, double, const T*, double, int64_t);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
