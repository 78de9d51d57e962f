// The safetensors container: eight bytes of header length, a JSON header, raw row-major little-endian
// tensors. Files written here are read by the Python package and the other way round.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "whence/tensor/tensor.h"

namespace whence {

using TensorMap = std::map<std::string, Tensor>;
using Metadata = std::map<std::string, std::string>;

/// A parsed container. Opening reads and checks the header only; tensors are looked up by name.
///
/// Refused, with the file and the reason in the message: a file shorter than its header, a header that is no
/// JSON object or holds a NUL, names that occur twice, extents that are negative, fractional or overflow, an unknown
/// dtype, and data ranges that overlap, leave a gap, run past the end, or have another size than shape and dtype ask
/// for.
class Safetensors {
 public:
  struct Entry {
    std::string name;
    std::string dtype;  ///< as in the file: "F32", "BF16", ...
    Shape shape;
    size_t begin = 0, end = 0;  ///< bytes, from the start of the data section
  };

  /// Maps the file; tensors are views of the mapping where their alignment allows, and keep it alive. Writing
  /// to such a tensor changes memory only, never the file. The file must stay as it is meanwhile: replaced it may be,
  /// as save_safetensors does, but a program that cuts it off kills its readers (SIGBUS). \throws IoError as listed
  /// above.
  static Safetensors open(const std::string& path);
  /// Reads the file into memory of its own: what happens to the file later is not seen. \throws IoError likewise
  static Safetensors read(const std::string& path);
  /// From memory. With `keep` (which must keep `bytes` alive) tensors are views, without it they are copies.
  static Safetensors parse(std::span<std::byte> bytes, std::string name = "memory",
                           std::shared_ptr<const void> keep = {});
  static Safetensors parse(std::span<const std::byte> bytes, std::string name = "memory");

  const std::vector<Entry>& entries() const { return entries_; }  ///< in the order of their data
  const Metadata& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return index_.count(name) != 0; }
  /// \throws IoError naming the file and near names when there is no such tensor.
  const Entry& entry(const std::string& name) const;

  /// The tensor `name`, shape as stored. F64 F32 BF16 F16 I64 I32 U8 BOOL keep their dtype; I8, I16 and U16
  /// become i32 and U32 becomes i64, without loss. \throws IoError for an absent name, DTypeError for a dtype
  /// without an equal here (U64, C64, F8, F6, F4).
  Tensor tensor(const std::string& name) const;
  /// All but those of a dtype without an equal here. \throws IoError for a BOOL that is neither 0 nor 1
  TensorMap tensors() const;
  /// Names of the tensors that tensors() leaves out, in the order of their data.
  std::vector<std::string> left_out() const;
  const std::string& name() const { return name_; }          ///< the path, or the name given to parse()
  std::span<const std::byte> data() const { return data_; }  ///< the data section

 private:
  Safetensors() = default;
  void read_header(std::span<std::byte> bytes);
  std::string name_;
  std::span<std::byte> data_;
  std::shared_ptr<const void> keep_;
  std::shared_ptr<Buffer> buffer_;  // borrows data_ while keep_ is set
  std::vector<Entry> entries_;
  std::map<std::string, size_t> index_;
  Metadata metadata_;
};

/// Writes all tensors (any layout; stored row-major) in one atomic step. The bytes depend on names, values
/// and metadata only: tensors lie in order of falling element size, then name, so that each is aligned.
/// \throws IoError when the file cannot be written, ValueError for the name "__metadata__" or an undefined
/// tensor, and for
///         names or metadata that are no UTF-8.
void save_safetensors(const std::string& path, const TensorMap& tensors, const Metadata& metadata = {});
/// The same bytes in memory.
std::vector<std::byte> safetensors_bytes(const TensorMap& tensors, const Metadata& metadata = {});
/// Safetensors::read(path).tensors(); names that are left out come in `left_out`.
TensorMap load_safetensors(const std::string& path, std::vector<std::string>* left_out = nullptr);

}  // namespace whence
