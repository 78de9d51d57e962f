#include "whence/models/huggingface.h"

#include <algorithm>
#include <array>
#include <utility>

namespace whence::models {

namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// A tied weight's second name, and the name it has here.
constexpr Pair kTied[] = {
    {"lm_head.weight", "transformer.wte.weight"},
    {"lm_head.weight", "model.embed_tokens.weight"},
    {"lm_head.weight", "gpt_neox.embed_in.weight"},
    {"lm_head.weight", "backbone.embeddings.weight"},
    {"lm_head.weight", "model.shared.weight"},
    {"model.encoder.embed_tokens.weight", "model.shared.weight"},
    {"model.decoder.embed_tokens.weight", "model.shared.weight"},
    {"lm_head.weight", "shared.weight"},
    {"encoder.embed_tokens.weight", "shared.weight"},
    {"decoder.embed_tokens.weight", "shared.weight"},
    {"proj_out.weight", "model.decoder.embed_tokens.weight"},
    {"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"},
    {"cls.predictions.decoder.bias", "cls.predictions.bias"},
    {"lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"},
    {"lm_head.decoder.weight", "esm.embeddings.word_embeddings.weight"},
    {"lm_head.decoder.bias", "lm_head.bias"},
    {"vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"},
    {"decoder.weight", "model.embeddings.tok_embeddings.weight"},
};

// Parts of names in files of other versions.
constexpr Pair kRenamed[] = {
    {"embed_out.weight", "lm_head.weight"},
    {"conv.weight_g", "conv.parametrizations.weight.original0"},
    {"conv.weight_v", "conv.parametrizations.weight.original1"},
    {".encoder.layer.", ".layers."},
    {"decoder.decoder_encoder.layer.", "decoder.decoder_layers."},
    {"attention.attention.query", "attention.q_proj"},
    {"attention.attention.key", "attention.k_proj"},
    {"attention.attention.value", "attention.v_proj"},
    {"attention.self.query", "attention.q_proj"},
    {"attention.self.key", "attention.k_proj"},
    {"attention.self.value", "attention.v_proj"},
    {"attention.self.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"},
    {"attention.output.dense", "attention.o_proj"},
    {"intermediate.dense", "mlp.fc1"},
    {"output.dense", "mlp.fc2"},
    {"LayerNorm.gamma", "LayerNorm.weight"},
    {"LayerNorm.beta", "LayerNorm.bias"},
};

// What files keep beside the weights that are here.
constexpr std::string_view kBuffers[] = {
    "position_ids",
    "token_type_ids",
    ".attn.bias",  // GPT-2's mask
    ".attn.masked_bias",
    ".attention.bias",  // GPT-NeoX's mask
    ".attention.masked_bias",
    "inv_freq",
    "num_batches_tracked",
    "relative_position_index",
    "contact_head.regression.weight",
    "contact_head.regression.bias",
};

// Prefixes that a file of the bare model lacks.
constexpr std::string_view kPrefixes[] = {"transformer.", "model.", "gpt_neox.", "bert.",
                                          "roberta.",     "vit.",   "backbone."};

using State = std::map<std::string, Tensor>;

// The name that the model has for a file's, or the file's own when it has none.
std::string renamed(const std::string& name, const State& own) {
  if (own.contains(name)) return name;
  auto replace = [](std::string in, const Pair& pair) {
    if (auto at = in.find(pair.first); at != in.npos) in.replace(at, pair.first.size(), pair.second);
    return in;
  };
  for (const Pair& pair : kRenamed)
    if (std::string one = replace(name, pair); own.contains(one)) return one;
  std::string all = name;
  for (const Pair& pair : kRenamed) all = replace(all, pair);
  if (own.contains(all)) return all;
  for (std::string_view prefix : kPrefixes)
    if (std::string whole = std::string(prefix) + name; own.contains(whole)) return whole;
  return name;
}

bool is_buffer(const std::string& name) {
  return std::any_of(std::begin(kBuffers), std::end(kBuffers), [&](std::string_view b) { return name.ends_with(b); });
}

// True for a second name of what `state` has under its first; the two must be equal.
bool is_alias(const std::string& name, const Tensor& value, const State& own, const State& state) {
  for (auto [alias, first] : kTied) {
    if (name != alias || !own.contains(std::string(first))) continue;
    auto it = state.find(std::string(first));
    if (it != state.end() && !bitwise_equal(value.to(it->second.dtype()), it->second))
      throw ValueError("'" + name + "' is tied to '" + it->first + "' in this model and differs from it in the file");
    return true;
  }
  return false;
}

}  // namespace

void load_huggingface(nn::Module& model, std::map<std::string, Tensor> given) {
  const State own = model.state_dict();
  State state, kept;
  for (auto& [name, value] : given) state.emplace(renamed(name, own), std::move(value));
  for (const auto& [name, value] : state)
    if (own.contains(name) || !(is_buffer(name) || is_alias(name, value, own, state))) kept.emplace(name, value);
  model.load_state_dict(kept);
}

}  // namespace whence::models
