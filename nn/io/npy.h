// NumPy's files: one array (NPY), or several by name (NPZ, a zip archive of NPY).
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "whence/nn/io/safetensors.h"

namespace whence {

/// Versions 1 to 3, either byte order, row-major or fortran_order (becomes row-major). float16, 32 and 64, int32 and
/// 64, uint8 and bool are read as they are; int8, int16 and uint16 as i32, uint32 as i64. \throws IoError naming file
/// and reason for a damaged file; DTypeError naming the dtype for others (uint64, complex, texts, objects, records)
Tensor load_npy(const std::string& path);
Tensor parse_npy(std::span<const std::byte> bytes, const std::string& name = "memory");

/// One array, in one atomic step. bf16, which NumPy has not, is written as float32. \throws IoError, ValueError for an
/// undefined tensor
void save_npy(const std::string& path, const Tensor& tensor);
std::vector<std::byte> npy_bytes(const Tensor& tensor);

/// All arrays of np.savez or np.savez_compressed, by name. \throws as load_npy, naming the member
TensorMap load_npz(const std::string& path);
TensorMap parse_npz(std::span<const std::byte> bytes, const std::string& name = "memory");

/// As np.savez does, or with `compress` as np.savez_compressed; what is larger than 4 GiB takes Zip64.
/// \throws IoError, ValueError for an undefined tensor
void save_npz(const std::string& path, const TensorMap& tensors, bool compress = false);
std::vector<std::byte> npz_bytes(const TensorMap& tensors, bool compress = false);

}  // namespace whence
