// Strided copies against index arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/cpu/copy.h"

namespace whence::cpu {
namespace {

// Copies a permuted, possibly sliced and broadcast source into a permuted destination.
template <class U> void check_copy(std::vector<int64_t> shape, std::vector<int> source_order,
                                   std::vector<int> dest_order, int64_t pad, int broadcast) {
  const int rank = int(shape.size());
  std::vector<int64_t> ss(static_cast<size_t>(rank)), ds(ss);
  int64_t s = 1, d = 1;
  for (int k = rank; k-- > 0;) {
    ss[size_t(source_order[size_t(k)])] = s;
    s *= shape[size_t(source_order[size_t(k)])] + pad;
    ds[size_t(dest_order[size_t(k)])] = d;
    d *= shape[size_t(dest_order[size_t(k)])] + pad;
  }
  if (broadcast >= 0) ss[size_t(broadcast)] = 0;
  std::vector<U> x(size_t(s) + 1), y(size_t(d) + 1, U(255)), want = y;
  for (size_t i = 0; i < x.size(); ++i) x[i] = U(i * 2654435761u);
  int64_t total = 1;
  for (int64_t n : shape) total *= n;
  for (int64_t t = 0; t < total; ++t) {
    int64_t rest = t, from = 0, to = 0;
    for (int a = rank; a-- > 0;) {
      from += rest % shape[size_t(a)] * ss[size_t(a)];
      to += rest % shape[size_t(a)] * ds[size_t(a)];
      rest /= shape[size_t(a)];
    }
    want[size_t(to)] = x[size_t(from)];
  }
  copy_strided(sizeof(U), rank, shape.data(), x.data(), ss.data(), y.data(), ds.data());
  ASSERT_EQ(y, want);
}

template <class U> void all_copies() {
  for (std::vector<int64_t> shape : std::vector<std::vector<int64_t>>{{},
                                                                      {1},
                                                                      {7},
                                                                      {0, 3},
                                                                      {3, 5},
                                                                      {70, 33},
                                                                      {16, 16},
                                                                      {2, 65, 130},
                                                                      {3, 1, 40},
                                                                      {2, 3, 17, 19},
                                                                      {5, 4, 3, 2},
                                                                      {1, 300, 200}}) {
    std::vector<int> order(shape.size());
    std::iota(order.begin(), order.end(), 0);
    auto source = order;
    do {
      for (int64_t pad : {0, 2})
        for (int broadcast : {-1, 0}) {
          if (broadcast >= int(shape.size())) continue;
          check_copy<U>(shape, source, order, pad, broadcast);
          check_copy<U>(shape, order, source, pad, broadcast);
        }
    } while (std::next_permutation(source.begin(), source.end()));
  }
}
TEST(Copy, AllPermutations) {
  all_copies<uint8_t>();
  all_copies<uint16_t>();
  all_copies<uint32_t>();
  all_copies<uint64_t>();
}
TEST(Copy, NegativeStridesAndSignallingBits) {
  uint32_t x[6] = {0x7f800001u, 2, 3, 4, 5, 0xff812345u}, y[6];  // NaN payloads must survive
  int64_t shape[] = {6}, back[] = {-1}, fore[] = {1};
  copy_strided(4, 1, shape, x + 5, back, y, fore);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(y[i], x[5 - i]);
  std::vector<uint32_t> a(400, 0x7f800001u), b(400);
  int64_t square[] = {20, 20}, turned[] = {1, 20}, plain[] = {20, 1};
  copy_strided(4, 2, square, a.data(), turned, b.data(), plain);
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace whence::cpu
