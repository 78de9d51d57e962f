// A list of extents that GCC 12 compiled wrongly for AVX-512 (cmake/WhenceFlags.cmake).
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

using Ints = std::vector<int64_t>;

std::vector<Ints> lists_of_extents() {
  auto keep = [](Ints p, int) { return p; };
  return {keep({2, 0, 1, 1}, 1), keep({1, 1, 0, 0}, 2), keep({3, 1}, 3)};
}

TEST(Compiler, ListsOfExtentsKeepTheirZeros) {
  std::vector<Ints> (*volatile lists)() = lists_of_extents;  // not inlined: the fault is in the function by itself
  Ints got = lists()[1];  // compared one by one: a list written here would be wrong in the same way
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(got[0], 1);
  EXPECT_EQ(got[1], 1);
  EXPECT_EQ(got[2], 0);
  EXPECT_EQ(got[3], 0);
}
