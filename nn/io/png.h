// Pictures in and out, where libpng was there at build time.
#pragma once
#include <cstddef>
#include <span>
#include <string>

#include "whence/tensor/tensor.h"

namespace whence {

/// Writes a u8 tensor [height, width] or [height, width, channels] of 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA)
/// channels, in one atomic step. \throws ShapeError or DTypeError for anything else, IoError when the file cannot be
/// written or Whence was built without libpng.
void save_png(const std::string& path, const Tensor& image);

/// A picture as [height, width] (grey) or [height, width, channels] with 2 (grey and alpha), 3 (RGB) or 4 (RGBA)
/// channels: u8 values 0 to 255, of 16-bit files i32 values 0 to 65535. Palettes become RGB, a transparent colour an
/// alpha channel, 1, 2 and 4 bits are stretched to 8. Values are those of the file: no gamma is applied.
/// \throws IoError naming file and reason for what is damaged or no PNG, or when Whence was built without libpng
Tensor load_png(const std::string& path);
Tensor parse_png(std::span<const std::byte> bytes, const std::string& name = "memory");

}  // namespace whence
