#include "ops/cpu/unary_binary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "ops/cpu/math.h"
#include "ops/scalar.h"

namespace whence::cpu {
namespace {

// ---- real loops ---------------------------------------------------------------------------------------------------
// An op is a stateless struct with `template<class V> V operator()(V x [, V b], const V* p)`; V is Vec<T>. Parameters
// are broadcast to registers once per call.

constexpr int kMaxParams = 2;

template <class T, class Op> void unary_loop(const void* xv, void* yv, int64_t n, const double* params) {
  using V = Vec<T>;
  auto x = static_cast<const T*>(xv);
  auto y = static_cast<T*>(yv);
  V p[kMaxParams];
  for (int i = 0; i < Op::params; ++i) p[i] = V(static_cast<T>(params[i]));
  Op op;
  int64_t i = 0;
  for (; i + 2 * V::size <= n; i += 2 * V::size) {  // two registers at a time: their dependency chains overlap
    V a = op(V::load(x + i), p), b = op(V::load(x + i + V::size), p);
    a.store(y + i);
    b.store(y + i + V::size);
  }
  for (; i + V::size <= n; i += V::size) op(V::load(x + i), p).store(y + i);
  if (i < n) op(V::load(x + i, n - i), p).store(y + i, n - i);
}

template <class T, class Op, int SA, int SB> void binary_run(const T* a, const T* b, T* y, int64_t n, const Vec<T>* p) {
  using V = Vec<T>;
  Op op;
  V fa = SA ? V(T(0)) : V(*a), fb = SB ? V(T(0)) : V(*b);
  auto left = [&](int64_t i) { return SA ? V::load(a + i) : fa; };
  auto right = [&](int64_t i) { return SB ? V::load(b + i) : fb; };
  int64_t i = 0;
  for (; i + 2 * V::size <= n; i += 2 * V::size) {
    V r = op(left(i), right(i), p), s = op(left(i + V::size), right(i + V::size), p);
    r.store(y + i);
    s.store(y + i + V::size);
  }
  for (; i + V::size <= n; i += V::size) op(left(i), right(i), p).store(y + i);
  if (i < n) op(SA ? V::load(a + i, n - i) : fa, SB ? V::load(b + i, n - i) : fb, p).store(y + i, n - i);
}

template <class T, class Op>
void binary_loop(const void* av, int sa, const void* bv, int sb, void* yv, int64_t n, const double* params) {
  if (n <= 0) return;
  auto a = static_cast<const T*>(av);
  auto b = static_cast<const T*>(bv);
  auto y = static_cast<T*>(yv);
  Vec<T> p[kMaxParams];
  for (int i = 0; i < Op::params; ++i) p[i] = Vec<T>(static_cast<T>(params[i]));
  if (sa && sb) return binary_run<T, Op, 1, 1>(a, b, y, n, p);
  if (sa) return binary_run<T, Op, 1, 0>(a, b, y, n, p);
  if (sb) return binary_run<T, Op, 0, 1>(a, b, y, n, p);
  binary_run<T, Op, 0, 0>(a, b, y, n, p);
}

#define WHENCE_UNARY(NAME, COUNT, EXPR)                      \
  struct U_##NAME {                                          \
    static constexpr int params = COUNT;                     \
    template <class V> V operator()(V x, const V* p) const { \
      using namespace whence::scalar;                        \
      (void)p;                                               \
      return EXPR;                                           \
    }                                                        \
  };
#define WHENCE_BINARY(NAME, COUNT, EXPR)                          \
  struct B_##NAME {                                               \
    static constexpr int params = COUNT;                          \
    template <class V> V operator()(V a, V b, const V* p) const { \
      using namespace whence::scalar;                             \
      (void)p;                                                    \
      return EXPR;                                                \
    }                                                             \
  };

// V::load and friends aside, whence::cpu and whence::scalar overloads meet here only through their argument types.
#define WHENCE_UNARY_OPS(X)                     \
  X(abs, 0, whence::cpu::abs(x))                \
  X(clamp, 2, scalar::clamp(x, p[0], p[1]))     \
  X(cos, 0, whence::cpu::cos(x))                \
  X(erf, 0, whence::cpu::erf(x))                \
  X(exp, 0, whence::cpu::exp(x))                \
  X(expm1, 0, whence::cpu::expm1(x))            \
  X(floor, 0, whence::cpu::floor(x))            \
  X(gelu, 0, scalar::gelu(x))                   \
  X(gelu_tanh, 0, scalar::gelu_tanh(x))         \
  X(leaky_relu, 1, scalar::leaky_relu(x, p[0])) \
  X(log, 0, whence::cpu::log(x))                \
  X(log1p, 0, whence::cpu::log1p(x))            \
  X(log_sigmoid, 0, scalar::log_sigmoid(x))     \
  X(neg, 0, scalar::neg(x))                     \
  X(reciprocal, 0, scalar::reciprocal(x))       \
  X(relu, 0, scalar::relu(x))                   \
  X(round, 0, whence::cpu::rint(x))             \
  X(rsqrt, 0, scalar::rsqrt(x))                 \
  X(sigmoid, 0, scalar::sigmoid(x))             \
  X(sign, 0, scalar::sign(x))                   \
  X(silu, 0, scalar::silu(x))                   \
  X(sin, 0, whence::cpu::sin(x))                \
  X(softplus, 1, scalar::softplus(x, p[0]))     \
  X(sqrt, 0, whence::cpu::sqrt(x))              \
  X(square, 0, scalar::square(x))               \
  X(tanh, 0, whence::cpu::tanh(x))

#define WHENCE_BINARY_OPS(X)                           \
  X(add, 0, scalar::add(a, b))                         \
  X(d_clamp, 2, scalar::d_clamp(a, b, p[0], p[1]))     \
  X(d_gelu, 0, scalar::d_gelu(a, b))                   \
  X(d_gelu_tanh, 0, scalar::d_gelu_tanh(a, b))         \
  X(d_leaky_relu, 1, scalar::d_leaky_relu(a, b, p[0])) \
  X(d_relu, 0, scalar::d_relu(a, b))                   \
  X(d_sigmoid, 0, scalar::d_sigmoid(a, b))             \
  X(d_silu, 0, scalar::d_silu(a, b))                   \
  X(d_tanh, 0, scalar::d_tanh(a, b))                   \
  X(div, 0, scalar::div(a, b))                         \
  X(maximum, 0, scalar::maximum(a, b))                 \
  X(minimum, 0, scalar::minimum(a, b))                 \
  X(mul, 0, scalar::mul(a, b))                         \
  X(pow, 0, whence::cpu::pow(a, b))                    \
  X(sub, 0, scalar::sub(a, b))

WHENCE_UNARY_OPS(WHENCE_UNARY)
WHENCE_BINARY_OPS(WHENCE_BINARY)

// ---- integer, logical and comparison loops: plain C++, which compilers vectorise ----------------------------------

template <class A, class R, class F> void plain_unary(const void* xv, void* yv, int64_t n, F f) {
  auto x = static_cast<const A*>(xv);
  auto y = static_cast<R*>(yv);
  for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <class A, class R, class F>
void plain_binary(const void* av, int sa, const void* bv, int sb, void* yv, int64_t n, F f) {
  if (n <= 0) return;
  auto a = static_cast<const A*>(av);
  auto b = static_cast<const A*>(bv);
  auto y = static_cast<R*>(yv);
  if (sa && sb) {
    for (int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
  } else if (sa) {
    const A s = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = f(a[i], s);
  } else if (sb) {
    const A s = *a;
    for (int64_t i = 0; i < n; ++i) y[i] = f(s, b[i]);
  } else {
    std::fill(y, y + n, f(*a, *b));
  }
}

template <class A, class R, class F>
void plain_binary_loop(const void* a, int sa, const void* b, int sb, void* y, int64_t n, const double*) {
  plain_binary<A, R>(a, sa, b, sb, y, n, F{});
}

// Integer arithmetic wraps round, so it goes through the unsigned type.
template <class I> using Wrap = std::make_unsigned_t<I>;
struct IAdd {
  template <class I> I operator()(I a, I b) const { return static_cast<I>(Wrap<I>(a) + Wrap<I>(b)); }
};
struct ISub {
  template <class I> I operator()(I a, I b) const { return static_cast<I>(Wrap<I>(a) - Wrap<I>(b)); }
};
struct IMul {
  template <class I> I operator()(I a, I b) const { return static_cast<I>(Wrap<I>(a) * Wrap<I>(b)); }
};
struct IMax {
  template <class I> I operator()(I a, I b) const { return a > b ? a : b; }
};
struct IMin {
  template <class I> I operator()(I a, I b) const { return a < b ? a : b; }
};
struct IDiv {  // towards zero; x / 0 is 0 and the one overflow wraps, because a kernel does not trap
  template <class I> I operator()(I a, I b) const {
    return b == 0 ? I(0) : b == I(-1) ? static_cast<I>(Wrap<I>(0) - Wrap<I>(a)) : static_cast<I>(a / b);
  }
};
struct Lt {
  template <class A> uint8_t operator()(A a, A b) const { return a < b; }
};
struct Le {
  template <class A> uint8_t operator()(A a, A b) const { return a <= b; }
};
struct Gt {
  template <class A> uint8_t operator()(A a, A b) const { return a > b; }
};
struct Ge {
  template <class A> uint8_t operator()(A a, A b) const { return a >= b; }
};
struct Eq {
  template <class A> uint8_t operator()(A a, A b) const { return a == b; }
};
struct Ne {
  template <class A> uint8_t operator()(A a, A b) const { return a != b; }
};
struct And {
  uint8_t operator()(uint8_t a, uint8_t b) const { return (a != 0) & (b != 0); }
};
struct Or {
  uint8_t operator()(uint8_t a, uint8_t b) const { return (a | b) != 0; }
};
template <class I> void int_neg(const void* x, void* y, int64_t n, const double*) {
  plain_unary<I, I>(x, y, n, [](I v) { return ISub{}(I(0), v); });
}
template <class I> void int_abs(const void* x, void* y, int64_t n, const double*) {
  plain_unary<I, I>(x, y, n, [](I v) { return v < 0 ? ISub{}(I(0), v) : v; });
}
template <class I> void int_square(const void* x, void* y, int64_t n, const double*) {
  plain_unary<I, I>(x, y, n, [](I v) { return IMul{}(v, v); });
}
void logical_not(const void* x, void* y, int64_t n, const double*) {
  plain_unary<uint8_t, uint8_t>(x, y, n, [](uint8_t v) { return static_cast<uint8_t>(v == 0); });
}

template <class T>
void where_loop(const uint8_t* c, int sc, const void* av, int sa, const void* bv, int sb, void* yv, int64_t n) {
  auto a = static_cast<const T*>(av);
  auto b = static_cast<const T*>(bv);
  auto y = static_cast<T*>(yv);
  if (sc && sa && sb) {
    for (int64_t i = 0; i < n; ++i) {
      T l = a[i], r = b[i];
      y[i] = c[i] ? l : r;
    }
  } else if (sc && sa && n > 0) {
    const T r = *b;
    for (int64_t i = 0; i < n; ++i) {
      T l = a[i];
      y[i] = c[i] ? l : r;
    }
  } else if (sc && sb && n > 0) {
    const T l = *a;
    for (int64_t i = 0; i < n; ++i) {
      T r = b[i];
      y[i] = c[i] ? l : r;
    }
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = c[i * sc] ? a[i * sa] : b[i * sb];
  }
}

// ---- tables, sorted by name ---------------------------------------------------------------------------------------

struct UnaryRow {
  std::string_view name;
  UnaryLoop f32, f64, i32, i64, bytes;
};
struct BinaryRow {
  std::string_view name;
  BinaryLoop f32, f64, i32, i64, bytes;
};

template <class Op> constexpr UnaryRow real(std::string_view name) {
  return {name, unary_loop<float, Op>, unary_loop<double, Op>, nullptr, nullptr, nullptr};
}
template <class Op> constexpr BinaryRow real2(std::string_view name) {
  return {name, binary_loop<float, Op>, binary_loop<double, Op>, nullptr, nullptr, nullptr};
}
template <class F> constexpr BinaryRow compare(std::string_view name) {
  return {name,
          plain_binary_loop<float, uint8_t, F>,
          plain_binary_loop<double, uint8_t, F>,
          plain_binary_loop<int32_t, uint8_t, F>,
          plain_binary_loop<int64_t, uint8_t, F>,
          plain_binary_loop<uint8_t, uint8_t, F>};
}
template <class F> constexpr BinaryRow logical(std::string_view name) {
  return {name, nullptr, nullptr, nullptr, nullptr, plain_binary_loop<uint8_t, uint8_t, F>};
}
template <class F, class Row> constexpr Row with_int(Row r) {
  r.i32 = plain_binary_loop<int32_t, int32_t, F>;
  r.i64 = plain_binary_loop<int64_t, int64_t, F>;
  return r;
}
constexpr UnaryRow with_int(UnaryRow r, UnaryLoop i32, UnaryLoop i64) {
  r.i32 = i32;
  r.i64 = i64;
  return r;
}

const UnaryRow* unary_table(size_t& count) {
#define WHENCE_ROW(NAME, COUNT, EXPR) real<U_##NAME>(#NAME),
  static const auto table = [] {
    struct {
      UnaryRow row[64];
      size_t count;
    } t{{WHENCE_UNARY_OPS(WHENCE_ROW)}, 0};
    while (!t.row[t.count].name.empty()) ++t.count;
    for (size_t i = 0; i < t.count; ++i) {
      UnaryRow& r = t.row[i];
      if (r.name == "neg") r = with_int(r, int_neg<int32_t>, int_neg<int64_t>);
      if (r.name == "abs") r = with_int(r, int_abs<int32_t>, int_abs<int64_t>);
      if (r.name == "square") r = with_int(r, int_square<int32_t>, int_square<int64_t>);
    }
    t.row[t.count++] = {"logical_not", nullptr, nullptr, nullptr, nullptr, logical_not};
    std::sort(t.row, t.row + t.count, [](const UnaryRow& a, const UnaryRow& b) { return a.name < b.name; });
    return t;
  }();
#undef WHENCE_ROW
  count = table.count;
  return table.row;
}

const BinaryRow* binary_table(size_t& count) {
#define WHENCE_ROW(NAME, COUNT, EXPR) real2<B_##NAME>(#NAME),
  static const auto table = [] {
    struct {
      BinaryRow row[64];
      size_t count;
    } t{{WHENCE_BINARY_OPS(WHENCE_ROW)}, 0};
    while (!t.row[t.count].name.empty()) ++t.count;
    for (size_t i = 0; i < t.count; ++i) {
      BinaryRow& r = t.row[i];
      if (r.name == "add") r = with_int<IAdd>(r);
      if (r.name == "sub") r = with_int<ISub>(r);
      if (r.name == "mul") r = with_int<IMul>(r);
      if (r.name == "div") r = with_int<IDiv>(r);
      if (r.name == "maximum") r = with_int<IMax>(r);
      if (r.name == "minimum") r = with_int<IMin>(r);
    }
    for (const BinaryRow& r :
         {compare<Lt>("lt"), compare<Le>("le"), compare<Gt>("gt"), compare<Ge>("ge"), compare<Eq>("eq"),
          compare<Ne>("ne"), logical<And>("logical_and"), logical<Or>("logical_or")})
      t.row[t.count++] = r;
    std::sort(t.row, t.row + t.count, [](const BinaryRow& a, const BinaryRow& b) { return a.name < b.name; });
    return t;
  }();
#undef WHENCE_ROW
  count = table.count;
  return table.row;
}

template <class Row> const Row* find_row(const Row* rows, size_t count, std::string_view name) {
  const Row* r =
      std::lower_bound(rows, rows + count, name, [](const Row& a, std::string_view n) { return a.name < n; });
  return r != rows + count && r->name == name ? r : nullptr;
}

template <class Row> auto loop_of(const Row* r, DType dtype) -> decltype(r->f32) {
  if (!r) return nullptr;
  switch (dtype) {
    case DType::f32: return r->f32;
    case DType::f64: return r->f64;
    case DType::i32: return r->i32;
    case DType::i64: return r->i64;
    case DType::u8:
    case DType::boolean: return r->bytes;
    default: return nullptr;
  }
}

}  // namespace

UnaryLoop find_unary(std::string_view name, DType dtype) {
  size_t n;
  auto rows = unary_table(n);
  return loop_of(find_row(rows, n, name), dtype);
}

BinaryLoop find_binary(std::string_view name, DType dtype) {
  size_t n;
  auto rows = binary_table(n);
  return loop_of(find_row(rows, n, name), dtype);
}

WhereLoop find_where(int element_size) {
  switch (element_size) {
    case 1: return where_loop<uint8_t>;
    case 2: return where_loop<uint16_t>;
    case 4: return where_loop<uint32_t>;
    case 8: return where_loop<uint64_t>;
    default: return nullptr;
  }
}

}  // namespace whence::cpu
