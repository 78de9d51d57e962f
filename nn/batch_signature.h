// Names, shapes and dtypes of a batch: what a step's plan depends on.
#pragma once
#include <string>
#include <vector>

#include "whence/autograd/graph.h"
#include "whence/nn/data/loader.h"

namespace whence::nn {

class BatchSignature {
 public:
  BatchSignature() = default;
  /// \throws ValueError naming `who` and the tensor that is undefined
  BatchSignature(const Batch& batch, const char* who);
  bool operator==(const Batch& batch) const;

 private:
  struct Entry {
    std::string name;
    TensorType type;
  };
  std::vector<Entry> entries_;
};

/// The inputs of a graph that a batch feeds: all but scalars.
std::vector<std::string> fed_names(const Graph& g);

}  // namespace whence::nn
