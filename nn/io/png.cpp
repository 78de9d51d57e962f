#include "whence/nn/io/png.h"

#include "whence/nn/io/atomic_file.h"

#ifdef WHENCE_HAVE_PNG
#include <png.h>
#endif

namespace whence {

void save_png(const std::string& path, const Tensor& image) {
  if (image.dtype() != u8)
    throw DTypeError("save_png takes u8 values 0 to 255, got " + std::string(name_of(image.dtype())));
  bool colour = image.rank() == 3 && image.size(2) == 3;
  if (!(image.rank() == 2 || colour || (image.rank() == 3 && image.size(2) == 1)) || image.numel() == 0)
    throw ShapeError("save_png takes [height, width] or [height, width, 3], got " + image.shape().str());
#ifdef WHENCE_HAVE_PNG
  Tensor pixels = image.contiguous_tensor();
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.height = png_uint_32(image.size(0));
  png.width = png_uint_32(image.size(1));
  png.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  png_alloc_size_t bytes = 0;
  std::string out;
  if (png_image_write_get_memory_size(png, bytes, 0, pixels.raw(), 0, nullptr)) {
    out.resize(bytes);
    if (png_image_write_to_memory(&png, out.data(), &bytes, 0, pixels.raw(), 0, nullptr)) {
      out.resize(bytes);
      write_file_atomically(path, out);
      return;
    }
  }
  std::string why = png.message;
  png_image_free(&png);
  throw IoError(path + ": libpng: " + why);
#else
  throw IoError(path + ": Whence was built without libpng, so it cannot write PNG files");
#endif
}

}  // namespace whence
