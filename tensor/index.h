// Positions as Python writes them: x.at({0, _, Slice(1, -1)}) is x[0, :, 1:-1].
#pragma once
#include <concepts>
#include <cstdint>

namespace whence {

/// [begin:end:step]: negative begin and end count from the end, no end is all.
struct Slice {
  int64_t begin = 0, end = INT64_MAX, step = 1;
  constexpr Slice() = default;
  constexpr Slice(int64_t from, int64_t to = INT64_MAX, int64_t every = 1) : begin(from), end(to), step(every) {}
};

/// A whole axis.
struct WholeAxis {};
inline constexpr WholeAxis _{};

/// What is taken of one axis: a position, and the axis goes; or a part, and it stays.
struct Index {
  bool position = false;
  Slice part;  ///< begin is the position
  template <std::integral T> constexpr Index(T i) : position(true), part(int64_t(i)) {}
  constexpr Index(WholeAxis) {}
  constexpr Index(Slice s) : part(s) {}
};

}  // namespace whence
