// Models in the format of llama2.c (version 0: stories15M.bin and its kind); its tokenizer.bin: SubwordTokenizer.
#pragma once
#include <memory>
#include <string>

#include "whence/models/llama.h"

namespace whence::models {

/// A Llama from llama2.c's checkpoint: seven int32 (hidden size, intermediate size, layers, heads, key heads,
/// vocabulary, context), then weights in f32. Pairs of features that turn together lie side by side there; rows of
/// queries and keys are moved so that rotate() finds them. \throws IoError for a file that cannot be read or has
/// another size
std::unique_ptr<Llama> load_llama2c(const std::string& path);

}  // namespace whence::models
