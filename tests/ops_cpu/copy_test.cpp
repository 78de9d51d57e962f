// The strided copy against index arithmetic: permutations, slices, flips, broadcasts, conversions, threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "whence/tensor/convert.h"
#include "whence/tensor/error.h"
#include "whence/tensor/parallel.h"
#include "whence/tensor/view.h"

namespace whence {
namespace {

// A strided view on bytes of its own, with room around it.
struct Memory {
  View view;
  std::vector<std::byte> bytes;

  // Strides: `order` names the axes from the outermost of memory to the innermost; `pad` elements more in each extent;
  // `flipped` axes run backwards, axes in `repeated` have stride 0 (bit masks).
  Memory(const Shape& shape, const std::vector<int>& order, int64_t pad, unsigned flipped, unsigned repeated,
         DType dtype, unsigned seed) {
    view.dtype = dtype;
    view.shape = shape;
    view.strides = Shape::filled(shape.rank(), 0);
    int64_t step = 1, first = 0;
    for (size_t k = order.size(); k-- > 0;) {
      const int a = order[k];
      const bool back = flipped >> a & 1;
      if (!(repeated >> a & 1)) view.strides[a] = back ? -step : step;
      if (back && view.strides[a] && shape[a] > 0) first += step * (shape[a] - 1);
      step *= shape[a] + pad;
    }
    bytes.resize(size_t(step + 2) * size_of(dtype));
    uint32_t noise = seed;
    for (std::byte& b : bytes) b = std::byte((noise = noise * 1664525u + 1013904223u) >> 24);
    if (dtype == boolean)
      for (std::byte& b : bytes) b &= std::byte(1);
    view.data = bytes.data() + size_t(first + 1) * size_of(dtype);
  }
  Memory(const Memory& m) : view(m.view), bytes(m.bytes) {
    view.data = bytes.data() + (static_cast<std::byte*>(m.view.data) - m.bytes.data());
  }
};

void copy_by_index(const View& src, const View& dst, std::byte* x, std::byte* y, int axis) {
  if (axis == src.shape.rank()) return convert_run(src.dtype, dst.dtype)(x, y, 1, nullptr);
  const int64_t step_x = src.strides[axis] * int64_t(size_of(src.dtype)),
                step_y = dst.strides[axis] * int64_t(size_of(dst.dtype));
  for (int64_t i = 0; i < src.shape[axis]; ++i) copy_by_index(src, dst, x + i * step_x, y + i * step_y, axis + 1);
}

void check(const Memory& src, const Memory& dst, std::initializer_list<int> threads = {0}) {
  Memory want = dst;
  copy_by_index(src.view, want.view, src.view.as<std::byte>(), want.view.as<std::byte>(), 0);
  for (int n : threads) {
    Memory got = dst;
    cpu::set_num_threads(n);
    copy(src.view, got.view);
    cpu::set_num_threads(0);
    ASSERT_TRUE(got.bytes == want.bytes) << name_of(src.view.dtype) << src.view.shape.str() << " strides "
                                         << src.view.strides.str() << " to " << name_of(dst.view.dtype) << " strides "
                                         << dst.view.strides.str() << ", " << n << " threads";
  }
}

std::vector<int> identity(int rank) {
  std::vector<int> order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

TEST(Copy, AllPermutations) {
  for (DType dtype : {u8, bf16, f32, f64})
    for (Shape shape : {Shape{}, Shape{1}, Shape{7}, Shape{0, 3}, Shape{3, 5}, Shape{70, 33}, Shape{16, 16},
                        Shape{2, 65, 70}, Shape{3, 1, 40}, Shape{2, 3, 17, 19}, Shape{5, 4, 3, 2}, Shape{1, 130, 70}}) {
      const auto plain = identity(shape.rank());
      auto order = plain;
      do {
        for (int64_t pad : {0, 2})
          for (unsigned repeated : {0u, 1u}) {
            check({shape, order, pad, 0, repeated, dtype, 1}, {shape, plain, pad, 0, 0, dtype, 2});
            check({shape, plain, pad, 0, repeated, dtype, 1}, {shape, order, pad, 0, 0, dtype, 2});
          }
      } while (std::next_permutation(order.begin(), order.end()));
    }
}

constexpr DType kAll[] = {f32, f64, bf16, f16, i32, i64, u8, boolean};

TEST(Copy, AnyStridesAnyDtypes) {
  std::mt19937 random(5);
  auto any = [&] { return unsigned(random()); };
  auto below = [&](unsigned n) { return any() % n; };
  for (int trial = 0; trial < 1500; ++trial) {
    Shape shape;
    const unsigned rank = below(6);
    for (unsigned a = 0; a < rank; ++a) shape.push_back(1 + below(below(4) ? 9 : rank < 3 ? 150 : 30));
    auto from = identity(shape.rank()), to = from;
    if (below(3)) std::shuffle(from.begin(), from.end(), random);
    if (below(3)) std::shuffle(to.begin(), to.end(), random);
    const DType s = kAll[below(8)], d = below(3) ? kAll[below(8)] : s;
    const int64_t pad = below(3) == 0;
    check({shape, from, pad, below(4) ? 0 : any(), below(3) ? 0 : any(), s, any()},
          {shape, to, below(3) == 0, below(4) ? 0 : any(), 0, d, any()});
  }
}

TEST(Copy, LargeOnesGiveTheSameOnAnyNumberOfThreads) {
  struct Case {
    Shape shape;
    std::vector<int> order;
    unsigned repeated = 0;
  };
  for (auto [s, d] : {std::pair{f32, f32}, {bf16, bf16}, {f32, bf16}, {boolean, i64}})
    for (const Case& c :
         {Case{{200000}, {0}}, Case{{200000}, {0}, 1}, Case{{400, 300}, {1, 0}}, Case{{3, 40000}, {1, 0}},
          Case{{40000, 3}, {1, 0}}, Case{{4, 50, 6, 70}, {0, 2, 1, 3}}, Case{{4, 6, 70, 50}, {0, 3, 1, 2}},
          Case{{512, 256}, {1, 0}}, Case{{2, 64, 32, 32}, {0, 2, 3, 1}}, Case{{300, 400}, {0, 1}, 2}})
      check({c.shape, c.order, 0, 0, c.repeated, s, 1}, {c.shape, identity(c.shape.rank()), 0, 0, 0, d, 2}, {1, 4});
}

TEST(Copy, SignallingBitsSurvive) {
  std::vector<uint32_t> x(400, 0x7f800001u), y(400);
  x[7] = 0xff812345u;
  copy({x.data(), f32, {400}, {1}}, {y.data(), f32, {400}, {1}});
  EXPECT_EQ(y, x);
  copy({x.data() + 399, f32, {400}, {-1}}, {y.data() + 399, f32, {400}, {-1}});
  EXPECT_EQ(y, x);
  copy({x.data(), f32, {20, 20}, {1, 20}}, {y.data(), f32, {20, 20}, {20, 1}});
  EXPECT_EQ(y[7 * 20], 0xff812345u);
}

TEST(Copy, OntoItself) {
  Memory m({30, 40}, {1, 0}, 1, 2, 0, f32, 1), before = m;
  copy(m.view, m.view);
  EXPECT_TRUE(m.bytes == before.bytes);
}

TEST(Copy, ShapesMustBeEqual) {
  float x[6] = {}, y[6] = {};
  EXPECT_THROW(copy({x, f32, {2, 3}, {3, 1}}, {y, f32, {6}, {1}}), ShapeError);
}

}  // namespace
}  // namespace whence
