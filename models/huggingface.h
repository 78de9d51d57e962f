// Weights in HuggingFace's names.
#pragma once
#include <map>
#include <string>

#include "whence/nn/module.h"

namespace whence::models {

/// Loads a HuggingFace state dict into a model of this folder. Names that other versions use are translated, a prefix
/// that a bare encoder's file lacks is added, aliases of tied weights and buffers that hold no weights are dropped.
/// \throws ValueError listing everything that does not fit, and for an alias that differs from what it is tied to
void load_huggingface(nn::Module& model, std::map<std::string, Tensor> state);

}  // namespace whence::models
