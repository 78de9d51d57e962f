// Pictures out, where libpng was there at build time.
#pragma once
#include <string>

#include "whence/tensor/tensor.h"

namespace whence {

/// Writes a u8 tensor [height, width] (grey), [height, width, 1] (grey) or [height, width, 3] (RGB) in one
/// atomic step. \throws ShapeError or DTypeError for anything else, IoError when the file cannot be written
/// or Whence was built
///         without libpng.
void save_png(const std::string& path, const Tensor& image);

}  // namespace whence
