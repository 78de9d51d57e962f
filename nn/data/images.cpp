#include "whence/nn/data/images.h"

#include <algorithm>
#include <filesystem>

#include "whence/nn/data/idx.h"

namespace whence {

static Tensor read_either(const std::string& path) {
  return read_idx(std::filesystem::exists(path + ".gz") && !std::filesystem::exists(path) ? path + ".gz" : path);
}

Dataset labelled_images(const std::string& folder, const std::string& part) {
  const std::string stem = folder + "/" + part;
  Tensor images = read_either(stem + "-images-idx3-ubyte"), labels = read_either(stem + "-labels-idx1-ubyte");
  if (images.size(0) != labels.numel())
    throw IoError(stem + ": " + std::to_string(images.size(0)) + " pictures and " + std::to_string(labels.numel()) +
                  " labels");
  return labelled_images(images, labels);
}

Dataset labelled_images(const Tensor& images, const Tensor& labels) {
  if (images.dtype() != u8)
    throw DTypeError("labelled_images: pictures are u8, got " + std::string(name_of(images.dtype())));
  if (images.rank() != 3 && images.rank() != 4)
    throw ShapeError("labelled_images: " + images.shape().str() +
                     " is neither [n, height, width] nor [n, channels, height, width]");
  if (labels.rank() != 1 || labels.size(0) != images.size(0))
    throw ShapeError("labelled_images: labels " + labels.shape().str() + " for pictures " + images.shape().str());
  if (is_float(labels.dtype())) throw DTypeError("labelled_images: labels are integers");
  Shape one = images.shape();
  one[0] = 1;
  if (one.rank() == 3) one.insert(1, 1);
  return {images.size(0), [pixels = images.contiguous_tensor(), classes = labels.to_vector<int64_t>(), one](
                              std::span<const int64_t> samples, std::span<RandomStream>) {
            Shape shape = one;
            shape[0] = int64_t(samples.size());
            Tensor image = Tensor::empty(shape), label = Tensor::empty({int64_t(samples.size())}, i64);
            const int64_t size = one.numel();
            for (size_t i = 0; i < samples.size(); ++i) {
              const uint8_t* from = pixels.data<uint8_t>() + samples[i] * size;
              std::transform(from, from + size, image.data<float>() + int64_t(i) * size,
                             [](uint8_t v) { return float(v) / 255; });
              label.data<int64_t>()[i] = classes[size_t(samples[i])];
            }
            return std::map<std::string, Tensor>{{"image", image}, {"label", label}};
          }};
}

}  // namespace whence
