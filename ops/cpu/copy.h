// Copies between strided arrays of one shape: permutes, slices, broadcasts, and writes into slices.
#pragma once

#include <cstdint>

namespace whence::cpu {

/// dst[i, j, ..] = src[i, j, ..] for elements of 1, 2, 4 or 8 bytes; strides in elements, src's may be 0 (broadcast) or
/// negative. dst elements must be distinct and must not overlap src. Axes are merged and ordered first; what is left
/// runs as block copies, as a transposition in registers (the fast case of a permute), or element by element.
void copy_strided(int element_size, int rank, const int64_t* shape, const void* src, const int64_t* src_strides,
                  void* dst, const int64_t* dst_strides);

}  // namespace whence::cpu
