// fft, rfft and irfft. Up to 16 lines at a time lie interleaved in the workspace, real and imaginary parts apart, so
// that every loop runs over neighbours whatever the axis.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "whence/ops/cpu/lanes.h"
#include "whence/ops/floats.h"

namespace whence::cpu {
namespace {

constexpr int64_t kLargestFactor = 31;  // a transform by a larger prime costs less as a convolution
constexpr int64_t kMostLanes = 16;
constexpr int64_t kPieces = 32;  // at most, each with scratch of its own: the same for any number of threads

/// Lines that are transformed together.
int64_t lanes_of(int64_t points) { return std::clamp<int64_t>(16384 / points, 1, kMostLanes); }

int64_t largest_factor(int64_t n) {
  int64_t largest = 1;
  for (int64_t f = 2; f * f <= n; ++f)
    for (; n % f == 0; n /= f) largest = f;
  return std::max(largest, n);
}
/// Points that the scratch of a line of n holds: a convolution needs a power of two.
int64_t scratch_points(int64_t n) {
  if (largest_factor(n) <= kLargestFactor) return n;
  int64_t m = 1;
  while (m < 2 * n - 1) m *= 2;
  return m;
}

/// A list of e^(-2 pi i j / n).
template <class T> struct Roots {
  std::vector<T> re, im;
  void add(int64_t j, int64_t n) {  // an eighth of the circle, so that axes and diagonals are exact
    j %= n;
    const int64_t eighth = 8 * j / n, rest = 8 * j - eighth * n;  // angle = eighth * 45 degrees + rest / n * 45 degrees
    const bool odd = eighth % 2;
    const double a = M_PI / 4 * double(odd ? n - rest : rest) / double(n), c = std::cos(a), s = std::sin(a);
    const double x[] = {c, s, -s, -c, -c, -s, s, c}, y[] = {s, c, c, s, -s, -c, -c, -s};
    re.push_back(T(x[eighth]));
    im.push_back(T(-y[eighth]));
  }
};

/// Real and imaginary parts of some lines, [points, lanes].
template <class T> struct Lines { T *re, *im; };

/// Stockham's transform in mixed radices, or Bluestein's convolution where n has a large prime factor (IEEE Trans.
/// Audio Electroacoustics 18, 1970).
template <class T> class Transform {
 public:
  explicit Transform(int64_t n) : n_(n) {
    if (const int64_t m = scratch_points(n); m != n) {
      convolve(m);
      return;
    }
    int64_t twos = 0, rest = n;
    for (; rest % 2 == 0; rest /= 2) ++twos;
    for (int64_t f = 3; f * f <= rest; f += 2)
      for (; rest % f == 0; rest /= f) factors_.push_back(f);
    if (rest > 1) factors_.push_back(rest);
    for (; twos >= 2; twos -= 2) factors_.push_back(4);
    if (twos) factors_.push_back(2);
    for (int64_t j = 0; j < n; ++j) roots_.add(j, n);
  }

  /// x becomes its transform; y has the same size. Both are scratch_points(n) long.
  void run(Lines<T> x, Lines<T> y, int64_t lanes) const {
    if (inner_) return bluestein(x, y, lanes);
    const Lines<T> result = x;
    int64_t length = n_, stride = 1;
    for (int64_t r : factors_) {
      length /= r;
      if (r == 4) by_four(x, y, length, stride, lanes);
      else if (r == 2) by_two(x, y, length, stride, lanes);
      else by_sum(x, y, r, length, stride, lanes);
      stride *= r;
      std::swap(x, y);
    }
    if (x.re == result.re) return;
    std::copy_n(x.re, n_ * lanes, result.re);
    std::copy_n(x.im, n_ * lanes, result.im);
  }

 private:
  // Each stage: y[r p + k] = w^(p k) sum over j of x[p + m j] e^(-2 pi i j k / r), for runs of `stride` points.
  void by_two(Lines<T> x, Lines<T> y, int64_t m, int64_t stride, int64_t lanes) const {
    const int64_t run = stride * lanes;
    for (int64_t p = 0; p < m; ++p) {
      const T c = roots_.re[size_t(stride * p)], s = roots_.im[size_t(stride * p)];
      const T *a = x.re + run * p, *b = x.im + run * p, *e = a + run * m, *f = b + run * m;
      T *u = y.re + run * 2 * p, *v = y.im + run * 2 * p, *w = u + run, *z = v + run;
      for (int64_t q = 0; q < run; ++q) {
        const T dr = a[q] - e[q], di = b[q] - f[q];
        u[q] = a[q] + e[q];
        v[q] = b[q] + f[q];
        w[q] = dr * c - di * s;
        z[q] = dr * s + di * c;
      }
    }
  }

  void by_four(Lines<T> x, Lines<T> y, int64_t m, int64_t stride, int64_t lanes) const {
    const int64_t run = stride * lanes, far = run * m;
    for (int64_t p = 0; p < m; ++p) {
      const T *wr = roots_.re.data(), *wi = roots_.im.data();
      const int64_t at = stride * p;
      const T c1 = wr[at], s1 = wi[at], c2 = wr[2 * at], s2 = wi[2 * at], c3 = wr[3 * at], s3 = wi[3 * at];
      const T *a = x.re + run * p, *b = x.im + run * p;
      T *u = y.re + run * 4 * p, *v = y.im + run * 4 * p;
      for (int64_t q = 0; q < run; ++q) {
        const T er = a[q] + a[q + 2 * far], ei = b[q] + b[q + 2 * far], fr = a[q] - a[q + 2 * far],
                fi = b[q] - b[q + 2 * far], gr = a[q + far] + a[q + 3 * far], gi = b[q + far] + b[q + 3 * far],
                hr = a[q + far] - a[q + 3 * far], hi = b[q + far] - b[q + 3 * far];
        const T r1 = fr + hi, i1 = fi - hr, r2 = er - gr, i2 = ei - gi, r3 = fr - hi, i3 = fi + hr;
        u[q] = er + gr;
        v[q] = ei + gi;
        u[q + run] = r1 * c1 - i1 * s1;
        v[q + run] = r1 * s1 + i1 * c1;
        u[q + 2 * run] = r2 * c2 - i2 * s2;
        v[q + 2 * run] = r2 * s2 + i2 * c2;
        u[q + 3 * run] = r3 * c3 - i3 * s3;
        v[q + 3 * run] = r3 * s3 + i3 * c3;
      }
    }
  }

  void by_sum(Lines<T> x, Lines<T> y, int64_t r, int64_t m, int64_t stride, int64_t lanes) const {
    const int64_t run = stride * lanes;
    for (int64_t p = 0; p < m; ++p)
      for (int64_t k = 0; k < r; ++k) {
        T *u = y.re + run * (r * p + k), *v = y.im + run * (r * p + k);
        std::fill_n(u, run, T(0));
        std::fill_n(v, run, T(0));
        for (int64_t j = 0; j < r; ++j) {
          const size_t at = size_t((stride * p * k + n_ / r * (j * k % r)) % n_);
          const T c = roots_.re[at], s = roots_.im[at];
          const T *a = x.re + run * (p + m * j), *b = x.im + run * (p + m * j);
          for (int64_t q = 0; q < run; ++q) {
            u[q] += a[q] * c - b[q] * s;
            v[q] += a[q] * s + b[q] * c;
          }
        }
      }
  }

  // With c_t = e^(-i pi t^2 / n): y_k = c_k sum over t of (x_t c_t) conj(c_{k-t}), a convolution.
  void convolve(int64_t m) {
    for (int64_t t = 0; t < n_; ++t) roots_.add(t * t, 2 * n_);
    inner_ = std::make_unique<Transform>(m);
    kernel_re_.assign(size_t(m), T(0));
    kernel_im_ = kernel_re_;
    for (int64_t t = 0; t < n_; ++t)
      for (int64_t at : {t, (m - t) % m}) {
        kernel_re_[size_t(at)] = roots_.re[size_t(t)] / T(m);
        kernel_im_[size_t(at)] = -roots_.im[size_t(t)] / T(m);
      }
    std::vector<T> re(static_cast<size_t>(m)), im = re;
    inner_->run({kernel_re_.data(), kernel_im_.data()}, {re.data(), im.data()}, 1);
  }

  static void turn(Lines<T> x, int64_t t, T c, T s, int64_t lanes) {  // x_t times c + i s
    T *a = x.re + t * lanes, *b = x.im + t * lanes;
    for (int64_t l = 0; l < lanes; ++l) {
      const T re = a[l] * c - b[l] * s, im = a[l] * s + b[l] * c;
      a[l] = re;
      b[l] = im;
    }
  }

  void bluestein(Lines<T> x, Lines<T> y, int64_t lanes) const {
    const int64_t m = inner_->n_;
    for (int64_t t = 0; t < n_; ++t) turn(x, t, roots_.re[size_t(t)], roots_.im[size_t(t)], lanes);
    std::fill(x.re + n_ * lanes, x.re + m * lanes, T(0));
    std::fill(x.im + n_ * lanes, x.im + m * lanes, T(0));
    inner_->run(x, y, lanes);
    for (int64_t t = 0; t < m; ++t) turn(x, t, kernel_re_[size_t(t)], kernel_im_[size_t(t)], lanes);
    inner_->run({x.im, x.re}, {y.im, y.re}, lanes);  // parts exchanged: the inverse
    for (int64_t t = 0; t < n_; ++t) turn(x, t, roots_.re[size_t(t)], roots_.im[size_t(t)], lanes);
  }

  int64_t n_;
  std::vector<int64_t> factors_;
  Roots<T> roots_;  // of n; Bluestein's: c_t
  std::unique_ptr<Transform> inner_;
  std::vector<T> kernel_re_, kernel_im_;
};

// ---- the three ops -------------------------------------------------------------------------------------------------

enum class Kind { complex, real, inverse_real };

/// Of x or y: whichever holds a whole signal.
int64_t points_of(const Shape& in, const Shape& out, const Attrs& attrs) {
  const int axis = int(attrs.integer("axis"));
  return std::max(in[axis], out[axis]);
}

struct Work {
  int64_t lines, points, lanes, pieces;
  Work(const Shape& in, const Shape& out, const Attrs& attrs) {
    const int axis = int(attrs.integer("axis"));
    const int64_t n = points_of(in, out, attrs);
    // Pairs count half: the axis of pairs is the last one of whichever side has it.
    const Shape& signal = in.rank() <= out.rank() ? in : out;
    lines = signal.numel() / signal[axis] / (in.rank() == out.rank() ? 2 : 1);
    points = scratch_points(n);
    lanes = lanes_of(points);
    pieces = std::min(kPieces, (lines + lanes - 1) / lanes);
  }
};

size_t scratch(std::span<const TensorType> in, std::span<const TensorType> out, const Attrs& attrs) {
  const Work w(in[0].shape, out[0].shape, attrs);
  return size_t(w.pieces * 4 * w.points * w.lanes) * size_of(in[0].dtype);
}

std::shared_ptr<const void> prepared(const OpDef&, std::span<const TensorType> in, std::span<const TensorType> out,
                                     const Attrs& attrs) {
  const int64_t n = points_of(in[0].shape, out[0].shape, attrs);
  if (in[0].dtype == f64) return std::make_shared<const Transform<double>>(n);
  return std::make_shared<const Transform<float>>(n);
}

template <class T, Kind kind> void run(const KernelCall& call) {
  const View &x = call.in[0], &y = call.out[0];
  if (x.numel() == 0) return;
  const Work w(x.shape, y.shape, call.attrs);
  const auto& transform = *static_cast<const Transform<T>*>(call.prepared);
  const int axis = int(call.attrs.integer("axis"));
  const bool back = kind == Kind::inverse_real || (kind == Kind::complex && call.attrs.flag("inverse"));
  const T scale = T(call.attrs.real("scale"));
  const int64_t n = points_of(x.shape, y.shape, call.attrs), bins = n / 2 + 1, room = w.points * w.lanes;
  int64_t inner = 1;
  for (int a = axis + 1; a < std::min(x.shape.rank(), y.shape.rank()); ++a) inner *= x.shape[a];
  if (kind == Kind::complex) inner /= 2;
  const T* from = x.as<T>();
  T* to = y.as<T>();

  auto block = [&](Lines<T> a, Lines<T> b, int64_t first, int64_t lanes) {
    // The inverse is the transform with the parts exchanged.
    T *re = back ? a.im : a.re, *im = back ? a.re : a.im;
    int64_t source[kMostLanes], target[kMostLanes];  // where each line begins
    for (int64_t l = 0; l < lanes; ++l) {
      const int64_t o = (first + l) / inner, i = (first + l) % inner;
      source[l] = o * x.shape[axis] * inner + i;
      target[l] = o * y.shape[axis] * inner + i;
    }
    for (int64_t t = 0; t < n; ++t)
      for (int64_t l = 0; l < lanes; ++l) {
        T &r = re[t * lanes + l], &s = im[t * lanes + l];
        if constexpr (kind == Kind::real) {
          r = from[source[l] + t * inner];
          s = T(0);
        } else if constexpr (kind == Kind::complex) {
          const T* pair = from + (source[l] + t * inner) * 2;
          r = pair[0];
          s = pair[1];
        } else {
          const int64_t k = t < bins ? t : n - t;
          const T* pair = from + (source[l] + k * inner) * 2;
          r = pair[0];
          s = k == 0 || 2 * k == n ? T(0) : t < bins ? pair[1] : -pair[1];
        }
      }
    transform.run(a, b, lanes);
    for (int64_t t = 0; t < y.shape[axis]; ++t)
      for (int64_t l = 0; l < lanes; ++l) {
        const T r = re[t * lanes + l] * scale, s = im[t * lanes + l] * scale;
        const int64_t at = target[l] + t * inner;
        if constexpr (kind == Kind::inverse_real) {
          to[at] = r;
        } else {
          to[2 * at] = r;
          to[2 * at + 1] = kind == Kind::real && (t == 0 || 2 * t == n) ? T(0) : s;
        }
      }
  };
  const int64_t blocks = (w.lines + w.lanes - 1) / w.lanes;
  parallel_for(w.pieces, std::max<int64_t>(1, kGrain * w.pieces / (8 * w.lines * w.points)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t p = begin; p < end; ++p) {
                   T* memory = reinterpret_cast<T*>(call.workspace) + p * 4 * room;
                   for (int64_t k = p * blocks / w.pieces; k < (p + 1) * blocks / w.pieces; ++k)
                     block({memory, memory + room}, {memory + 2 * room, memory + 3 * room}, k * w.lanes,
                           std::min(w.lanes, w.lines - k * w.lanes));
                 }
               });
}

template <Kind kind> void kernel(const KernelCall& call) { by_float(call, run<float, kind>, run<double, kind>); }

}  // namespace

REGISTER_KERNEL(cpu, fft) = {kernel<Kind::complex>, {.in_place = 0, .workspace = scratch, .prepare = prepared}};
REGISTER_KERNEL(cpu, rfft) = {kernel<Kind::real>, {.workspace = scratch, .prepare = prepared}};
REGISTER_KERNEL(cpu, irfft) = {kernel<Kind::inverse_real>, {.workspace = scratch, .prepare = prepared}};

}  // namespace whence::cpu
