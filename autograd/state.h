// State: a tensor that lives from run to run. Parameters are states; so are moments, moving averages, running
// statistics and caches.
#pragma once
#include <string>
#include <utility>

#include "whence/tensor/tensor.h"

namespace whence {

class State {
 public:
  State() = default;
  State(std::string name, Tensor tensor, bool trainable = false)
      : name_(std::move(name)), trainable_(trainable), tensor_(std::move(tensor)) {}
  virtual ~State() = default;
  const std::string& name() const { return name_; }
  /// The memory that plans read and write. Keep it: a plan is bound to it when it is made.
  virtual Tensor tensor() const { return tensor_; }
  /// True for what an optimiser moves.
  bool trainable() const { return trainable_; }
  void set_trainable(bool yes) { trainable_ = yes; }

 protected:
  std::string name_;
  bool trainable_ = false;
  mutable Tensor tensor_;
};

}  // namespace whence
