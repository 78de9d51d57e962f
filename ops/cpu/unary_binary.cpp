#include "whence/ops/cpu/unary_binary.h"

#include <array>
#include <map>

#include "whence/ops/cpu/math.h"
#include "whence/ops/scalar_table.h"

namespace whence::cpu {
namespace {

// ---- real loops ---------------------------------------------------------------------------------------------------
// Op is a functor of the scalar table, called with registers. Parameters are broadcast to registers once per call.

template <class T, class Op> void unary_loop(const void* xv, void* yv, int64_t n, const double* params) {
  using V = Vec<T>;
  auto x = static_cast<const T*>(xv);
  auto y = static_cast<T*>(yv);
  V p[Op::params + 1];
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
  Vec<T> p[Op::params + 1];
  for (int i = 0; i < Op::params; ++i) p[i] = Vec<T>(static_cast<T>(params[i]));
  if (sa && sb) return binary_run<T, Op, 1, 1>(a, b, y, n, p);
  if (sa) return binary_run<T, Op, 1, 0>(a, b, y, n, p);
  if (sb) return binary_run<T, Op, 0, 1>(a, b, y, n, p);
  binary_run<T, Op, 0, 0>(a, b, y, n, p);
}

// T: any type of that size.
template <class T>
void where_loop(const uint8_t* c, int sc, const void* av, int sa, const void* bv, int sb, void* yv, int64_t n) {
  auto a = static_cast<const T*>(av);
  auto b = static_cast<const T*>(bv);
  auto y = static_cast<T*>(yv);
  auto choose = [](uint8_t c, T a, T b) {
    return scalar::where_functor{}(c != 0, a, b, static_cast<const T*>(nullptr));
  };
  if (sc && sa && sb) {
    for (int64_t i = 0; i < n; ++i) y[i] = choose(c[i], a[i], b[i]);
  } else if (sc && sa && n > 0) {
    const T r = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = choose(c[i], a[i], r);
  } else if (sc && sb && n > 0) {
    const T l = *a;
    for (int64_t i = 0; i < n; ++i) y[i] = choose(c[i], l, b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = choose(c[i * sc], a[i * sa], b[i * sb]);
  }
}

// ---- the table ----------------------------------------------------------------------------------------------------

struct Loops {  // by dtype: f32, f64, i32, i64, bytes
  std::array<UnaryLoop, 5> unary{};
  std::array<BinaryLoop, 5> binary{};
};

template <class F, ScalarRow::Domain D> Loops loops_of() {
  Loops l;
  auto registers = [&]<class T>(size_t at, T) {
    if constexpr (F::arity == 1) l.unary[at] = unary_loop<T, F>;
    else l.binary[at] = binary_loop<T, F>;
  };
  auto plain = [&]<class A, class R>(size_t at, A, R) {  // loops that compilers vectorise
    if constexpr (F::arity == 1) l.unary[at] = scalar::plain_unary<A, R, F>;
    else l.binary[at] = scalar::plain_binary<A, R, F>;
  };
  if constexpr (D == ScalarRow::real || D == ScalarRow::number) registers(0, float{}), registers(1, double{});
  if constexpr (D == ScalarRow::number) plain(2, int32_t{}, int32_t{}), plain(3, int64_t{}, int64_t{});
  if constexpr (D == ScalarRow::comparison) {
    plain(0, float{}, uint8_t{}), plain(1, double{}, uint8_t{});
    plain(2, int32_t{}, uint8_t{}), plain(3, int64_t{}, uint8_t{});
  }
  if constexpr (D == ScalarRow::comparison || D == ScalarRow::logical) plain(4, uint8_t{}, uint8_t{});
  return l;
}

const Loops& find(std::string_view name) {
#define WHENCE_LOOPS(NAME, DOMAIN, ...) {#NAME, loops_of<scalar::NAME##_functor, ScalarRow::DOMAIN>()},
  static const std::map<std::string_view, Loops> table{WHENCE_SCALAR_TABLE(WHENCE_LOOPS)};
#undef WHENCE_LOOPS
  static const Loops none;
  auto at = table.find(name);
  return at == table.end() ? none : at->second;
}

template <class Loop> Loop by_dtype(const std::array<Loop, 5>& loops, DType dtype) {
  switch (dtype) {
    case DType::f32: return loops[0];
    case DType::f64: return loops[1];
    case DType::i32: return loops[2];
    case DType::i64: return loops[3];
    case DType::u8:
    case DType::boolean: return loops[4];
    default: return nullptr;
  }
}

}  // namespace

UnaryLoop find_unary(std::string_view name, DType dtype) { return by_dtype(find(name).unary, dtype); }
BinaryLoop find_binary(std::string_view name, DType dtype) { return by_dtype(find(name).binary, dtype); }

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
