// Rows by index: embedding lookup and its adjoint. T is float or double, I int32_t or int64_t.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// out[i, :] = table[index[i], :], i < n, rows of `width`. Returns the first i whose index lies outside [0, count) (its
/// row is left alone), or -1.
template <class T, class I>
int64_t gather_rows(const T* table, int64_t count, int64_t width, const I* index, int64_t n, T* out);

/// table[index[i], :] += rows[i, :], in the order of i for every row of the table, on any number of threads; rows whose
/// index equals `skip` or lies outside are left out. With `zero_first` the table is cleared before.
template <class T, class I> void scatter_add_rows(T* table, int64_t count, int64_t width, const I* index, int64_t n,
                                                  const T* rows, bool zero_first, int64_t skip = -1);

}  // namespace whence::cpu
