// idx, the format of MNIST and Fashion-MNIST: big-endian magic, extents and values. Plain or gzip.
#pragma once
#include <span>
#include <string>

#include "whence/tensor/tensor.h"

namespace whence {

/// Any rank up to 8: images come as u8 [n, 28, 28], labels as u8 [n]. u8, i32, f32 and f64 keep their type;
/// i8 and i16 become i32. \throws IoError naming the file for a wrong magic, or data shorter or longer than
/// the extents ask for.
Tensor read_idx(const std::string& path);
Tensor parse_idx(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace whence
