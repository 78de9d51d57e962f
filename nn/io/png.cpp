#include "whence/nn/io/png.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/file.h"

#ifdef WHENCE_HAVE_PNG
#include <png.h>
#endif

namespace whence {
#ifdef WHENCE_HAVE_PNG
namespace {

// libpng leaves by longjmp, so each of its calls stands in a function whose variables need no destructor.
struct Reading {
  std::span<const std::byte> rest;
  char why[256] = "";
  png_structp png = nullptr;
  png_infop info = nullptr;

  Reading(std::span<const std::byte> bytes) : rest(bytes) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png) info = png_create_info_struct(png);
    if (!info) std::snprintf(why, sizeof why, "no memory");
  }
  Reading(const Reading&) = delete;
  ~Reading() { png_destroy_read_struct(&png, &info, nullptr); }

  bool read_header() {
    if (!info || setjmp(png_jmpbuf(png))) return false;
    png_set_read_fn(png, this, on_read);
    png_read_info(png, info);
    png_set_expand(png);  // palettes, few bits, transparent colours
    if (png_get_bit_depth(png, info) == 16) png_set_swap(png);
    png_set_interlace_handling(png);
    return true;
  }
  bool begin_rows() {
    if (setjmp(png_jmpbuf(png))) return false;
    png_read_update_info(png, info);
    return true;
  }
  bool read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_read_image(png, rows);
    png_read_end(png, nullptr);
    return true;
  }

 private:
  static void on_error(png_structp png, png_const_charp text) {
    Reading& self = *static_cast<Reading*>(png_get_error_ptr(png));
    std::snprintf(self.why, sizeof self.why, "%s", text);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep to, size_t n) {
    Reading& self = *static_cast<Reading*>(png_get_io_ptr(png));
    if (n > self.rest.size()) png_error(png, "the file is cut off");
    std::memcpy(to, self.rest.data(), n);
    self.rest = self.rest.subspan(n);
  }
};

}  // namespace
#endif

void save_png(const std::string& path, const Tensor& image) {
  if (image.dtype() != u8)
    throw DTypeError("save_png takes u8 values 0 to 255, got " + std::string(name_of(image.dtype())));
  const int64_t channels = image.rank() == 3 ? image.size(2) : 1;
  if (image.rank() < 2 || image.rank() > 3 || channels > 4 || image.numel() == 0)
    throw ShapeError("save_png takes [height, width] or [height, width, 1 to 4], got " + image.shape().str());
#ifdef WHENCE_HAVE_PNG
  Tensor pixels = image.contiguous_tensor();
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.height = png_uint_32(image.size(0));
  png.width = png_uint_32(image.size(1));
  constexpr png_uint_32 formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
  png.format = formats[channels - 1];
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

Tensor parse_png(std::span<const std::byte> bytes, const std::string& name) {
#ifdef WHENCE_HAVE_PNG
  Reading reading(bytes);
  auto check = [&](bool fine) {
    if (!fine) throw IoError(name + ": not a valid PNG file: " + reading.why);
  };
  check(reading.read_header());
  const uint64_t height = png_get_image_height(reading.png, reading.info),
                 packed = png_get_rowbytes(reading.png, reading.info);
  if (height * packed / 1033 > bytes.size())  // deflate's best ratio: no memory for what cannot be there
    throw IoError(name + ": not a valid PNG file: " + std::to_string(height) + " rows of " + std::to_string(packed) +
                  " bytes cannot be packed in " + std::to_string(bytes.size()));
  check(reading.begin_rows());
  const int64_t width = png_get_image_width(reading.png, reading.info),
                channels = png_get_channels(reading.png, reading.info);
  const bool wide = png_get_bit_depth(reading.png, reading.info) == 16;
  Shape shape{int64_t(height), width};
  if (channels > 1) shape.push_back(channels);
  // 16-bit values are read into the upper half of the memory of their i32 values, then widened from the front.
  Tensor out = Tensor::empty(shape, wide ? i32 : u8);
  const size_t row_bytes = png_get_rowbytes(reading.png, reading.info);
  png_bytep first = static_cast<png_bytep>(out.raw()) + (wide ? out.nbytes() / 2 : 0);
  std::vector<png_bytep> rows;
  for (uint64_t y = 0; y < height; ++y) rows.push_back(first + y * row_bytes);
  check(reading.read_rows(rows.data()));
  if (wide)
    for (int64_t i = 0; i < out.numel(); ++i) {
      uint16_t value;
      std::memcpy(&value, first + 2 * i, 2);
      out.data<int32_t>()[i] = value;
    }
  return out;
#else
  (void)bytes;
  throw IoError(name + ": Whence was built without libpng, so it cannot read PNG files");
#endif
}

Tensor load_png(const std::string& path) { return parse_png(MappedFile::open(path)->bytes(), path); }

}  // namespace whence
