// Rows by index: the adjoint of an embedding lookup. T is float or double, I int32_t or int64_t.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// table[index[i], :] += rows[i, :], in the order of i for every row of the table, on any number of threads; rows whose
/// index equals `skip` or lies outside are left out. With `zero_first` the table is cleared before.
template <class T, class I> void scatter_add_rows(T* table, int64_t count, int64_t width, const I* index, int64_t n,
                                                  const T* rows, bool zero_first, int64_t skip = -1);

}  // namespace whence::cpu
