// Activations by HuggingFace's names.
#pragma once
#include <string>

#include "whence/nn/layers.h"

namespace whence::models {

/// "gelu" (erf), "gelu_new" and "gelu_pytorch_tanh" (tanh), "quick_gelu", "relu", "silu" or "swish", "tanh".
/// \throws ValueError for another name
nn::FeedForward::Activation activation_named(const std::string& name);

}  // namespace whence::models
