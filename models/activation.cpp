#include "whence/models/activation.h"

#include "whence/ops/composite.h"

namespace whence::models {

nn::FeedForward::Activation activation_named(const std::string& name) {
  if (name == "gelu") return gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return gelu_tanh;
  if (name == "quick_gelu") return quick_gelu;
  if (name == "relu") return relu;
  if (name == "silu" || name == "swish") return silu;
  if (name == "tanh") return tanh;
  throw ValueError("no activation is named '" + name + "' (gelu, gelu_new, quick_gelu, relu, silu, tanh)");
}

}  // namespace whence::models
