// Labelled pictures as a dataset: folders of MNIST's form.
#pragma once
#include <string>

#include "whence/nn/data/loader.h"

namespace whence {

/// FOLDER/PART-images-idx3-ubyte and PART-labels-idx1-ubyte, plain or .gz; PART is "train" or "t10k". A batch holds
/// "image", f32 [n, 1, height, width] in [0, 1], and "label", i64 [n]. All of it stays in memory.
/// \throws IoError naming the file that is missing or malformed, or when there are not as many labels as pictures
Dataset labelled_images(const std::string& folder, const std::string& part);

/// The same of tensors: images u8 [n, height, width] or [n, channels, height, width], labels integer [n].
/// \throws ShapeError, DTypeError
Dataset labelled_images(const Tensor& images, const Tensor& labels);

}  // namespace whence
