#include "ops/cpu/optim.h"

#include "tensor/parallel.h"
#include "ops/cpu/row.h"

namespace whence::cpu {
namespace {

template <class T, class F> void pass(int64_t n, F&& f) {
  parallel_for(n, kGrain / 2,
               [&](int64_t b, int64_t e) { each<T>(e - b, [&](int64_t i, int64_t m) { f(b + i, m); }); });
}

/// p = keep p - step(d, i, k) for every register: k elements at i.
template <class T, class F> void descend(T* p, const T* g, int64_t n, const Intake& in, F&& step) {
  const Vec<T> scale(static_cast<T>(in.scale)), l2(static_cast<T>(in.l2)), keep(static_cast<T>(in.keep));
  pass<T>(n, [&](int64_t i, int64_t k) {
    const Vec<T> x = load_upto(p + i, k), d = fma(l2, x, load_upto(g + i, k) * scale);
    store_upto(x * keep - step(d, i, k), p + i, k);
  });
}

template <class T> struct Coefficient {
  Vec<T> operator()(double x) const { return Vec<T>(static_cast<T>(x)); }
};

/// y = a y + b x in memory; gives the new y.
template <class T> Vec<T> blend(T* y, int64_t k, Vec<T> a, Vec<T> bx) {
  const Vec<T> v = fma(a, load_upto(y, k), bx);
  store_upto(v, y, k);
  return v;
}

}  // namespace

template <class T>
void adam_step(T* p, const T* g, T* m, T* v, T* largest, int64_t n, const Intake& in, const AdamStep& a) {
  using V = Vec<T>;
  const Coefficient<T> c;
  const V b1 = c(a.beta1), c1 = c(1 - a.beta1), b2 = c(a.beta2), c2 = c(1 - a.beta2), eps = c(a.eps), rate = c(a.rate),
          direct = c(a.direct), root = c(a.root);
  const bool with_direct = a.direct != 0;
  descend(p, g, n, in, [&](V d, int64_t i, int64_t k) {
    const V m1 = blend(m + i, k, b1, c1 * d);
    V v1 = blend(v + i, k, b2, c2 * d * d);
    if (largest) {
      const V top = load_upto(largest + i, k);
      v1 = select((v1 > top) | isnan(v1), v1, top);
      store_upto(v1, largest + i, k);
    }
    const V step = with_direct ? fma(direct, d, rate * m1) : rate * m1;
    return step / fma(sqrt(v1), root, eps);
  });
}

template <class T> void adamax_step(T* p, const T* g, T* m, T* u, int64_t n, const Intake& in, const AdamaxStep& a) {
  using V = Vec<T>;
  const Coefficient<T> c;
  const V b1 = c(a.beta1), c1 = c(1 - a.beta1), b2 = c(a.beta2), eps = c(a.eps), rate = c(a.rate);
  descend(p, g, n, in, [&](V d, int64_t i, int64_t k) {
    const V m1 = blend(m + i, k, b1, c1 * d), size = abs(d) + eps, old = b2 * load_upto(u + i, k);
    const V u1 = select((size > old) | isnan(size), size, old);
    store_upto(u1, u + i, k);
    return rate * m1 / u1;
  });
}

template <class T>
void rms_step(T* p, const T* g, T* v, T* mean, T* buffer, int64_t n, const Intake& in, const RmsStep& r) {
  using V = Vec<T>;
  const Coefficient<T> c;
  const V alpha = c(r.alpha), gain = c(r.gain), eps = c(r.eps), rate = c(r.rate), momentum = c(r.momentum);
  descend(p, g, n, in, [&](V d, int64_t i, int64_t k) {
    V v1 = blend(v + i, k, alpha, gain * d * d);
    if (mean) {
      const V centre = blend(mean + i, k, alpha, gain * d);
      v1 = v1 - centre * centre;
    }
    const V change = d / (sqrt(v1) + eps);
    return rate * (buffer ? blend(buffer + i, k, momentum, change) : change);
  });
}

template <class T>
void adadelta_step(T* p, const T* g, T* v, T* u, int64_t n, const Intake& in, const AdadeltaStep& a) {
  using V = Vec<T>;
  const Coefficient<T> c;
  const V rho = c(a.rho), rest = c(1 - a.rho), eps = c(a.eps), rate = c(a.rate);
  descend(p, g, n, in, [&](V d, int64_t i, int64_t k) {
    const V v1 = blend(v + i, k, rho, rest * d * d), change = sqrt(load_upto(u + i, k) + eps) / sqrt(v1 + eps) * d;
    blend(u + i, k, rho, rest * change * change);
    return rate * change;
  });
}

template <class T> void sgd_step(T* p, const T* g, T* m, int64_t n, const Intake& in, const SgdStep& s) {
  using V = Vec<T>;
  const Coefficient<T> c;
  const V rate = c(s.rate), mu = c(s.momentum), damp = c(1 - s.dampening);
  descend(p, g, n, in, [&](V d, int64_t i, int64_t k) {
    if (!m) return rate * d;
    const V m1 = s.first ? d : fma(mu, load_upto(m + i, k), damp * d);
    store_upto(m1, m + i, k);
    return rate * (s.nesterov ? fma(mu, m1, d) : m1);
  });
}

template <class T> void lion_step(T* p, const T* g, T* m, int64_t n, const Intake& in, const LionStep& l) {
  using V = Vec<T>;
  const Coefficient<T> c;
  const V rate = c(l.rate), b1 = c(l.beta1), c1 = c(1 - l.beta1), b2 = c(l.beta2), c2 = c(1 - l.beta2), zero = c(0);
  descend(p, g, n, in, [&](V d, int64_t i, int64_t k) {
    const V m0 = load_upto(m + i, k), u = fma(b1, m0, c1 * d);
    store_upto(fma(b2, m0, c2 * d), m + i, k);
    return select(u > zero, rate, select(u < zero, -rate, u));
  });
}

template <class T> void blend_array(T* y, double a, const T* x, double b, int64_t n) {
  const Vec<T> s(static_cast<T>(a)), t(static_cast<T>(b));
  pass<T>(n, [&](int64_t i, int64_t k) { blend(y + i, k, s, load_upto(x + i, k) * t); });
}

#define WHENCE_INSTANTIATE(T)                                                                        \
  template void adam_step<T>(T*, const T*, T*, T*, T*, int64_t, const Intake&, const AdamStep&);     \
  template void adamax_step<T>(T*, const T*, T*, T*, int64_t, const Intake&, const AdamaxStep&);     \
  template void rms_step<T>(T*, const T*, T*, T*, T*, int64_t, const Intake&, const RmsStep&);       \
  template void adadelta_step<T>(T*, const T*, T*, T*, int64_t, const Intake&, const AdadeltaStep&); \
  template void sgd_step<T>(T*, const T*, T*, int64_t, const Intake&, const SgdStep&);               \
  template void lion_step<T>(T*, const T*, T*, int64_t, const Intake&, const LionStep&);             \
  template void blend_array<T>(T*, double, const T*, double, int64_t);
WHENCE_INSTANTIATE(float)
WHENCE_INSTANTIATE(double)
#undef WHENCE_INSTANTIATE

}  // namespace whence::cpu
