// Checkpoints: tensors and texts in one file that is either whole or not there.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "whence/nn/io/safetensors.h"

namespace whence {

struct Checkpoint {
  TensorMap tensors;
  Metadata metadata;
  std::vector<std::string> left_out{};  ///< names of tensors whose dtype has no equal here (Safetensors::tensors)
};

/// Writes a safetensors file in one atomic step, with a checksum of the data in its metadata
/// ("whence.crc32"). \throws IoError, or ValueError as save_safetensors().
void save_checkpoint(const std::string& path, const TensorMap& tensors, const Metadata& metadata = {});

/// Reads it back, into memory of its own. The metadata come without the checksum, which is
/// compared first where there is one, so that any safetensors file can be read. \throws IoError when the file
/// is malformed or its data are not those that were written.
Checkpoint load_checkpoint(const std::string& path);

/// A folder of checkpoints of one run, named `prefix`-00000123.safetensors after their step.
class CheckpointFolder {
 public:
  /// Creates the folder where it is missing. `keep` newest files are kept; 0 keeps all.
  /// \throws IoError, or ValueError for a prefix that is empty or holds a '/'.
  explicit CheckpointFolder(std::string folder, int keep = 3, std::string prefix = "checkpoint");

  /// Saves, and only when that is on disk removes the oldest beyond `keep`. Returns the path. Files of later
  /// steps, left by another run in the same folder, are neither counted nor removed. \throws IoError; nothing
  /// is removed then.
  std::string save(int64_t step, const TensorMap& tensors, const Metadata& metadata = {}) const;

  struct Found {
    int64_t step = 0;
    std::string path;
  };
  /// What is there, oldest first, unread.
  std::vector<Found> list() const;
  /// The newest that can be read whole, checksum included; damaged ones are passed over, and named in
  /// `skipped`.
  std::optional<Found> latest(std::vector<std::string>* skipped = nullptr) const;
  std::string path_of(int64_t step) const;
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_, prefix_;
  int keep_;
};

}  // namespace whence
