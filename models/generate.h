// Text from a causal language model, token by token, with keys and values kept.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "whence/autograd/plan.h"
#include "whence/models/decoder.h"
#include "whence/nn/module.h"

namespace whence::models {

using Tokens = std::vector<int64_t>;

struct GenerateOptions {
  int64_t max_new_tokens = 128;  ///< per sequence; fewer when the model's context is full
  double temperature = 0;        ///< logits are divided by it; 0: the most probable token (of equals the lowest)
  int64_t top_k = 0;             ///< draw from so many most probable tokens; 0: from all
  double top_p = 1;              ///< draw from the fewest tokens that have this probability together
  Tokens stop = {};              ///< a sequence ends with one of these, which is kept
  uint64_t seed = 0;             ///< equal seeds, equal texts, whatever else is in the batch
  /// Called for each new token, with the number of its sequence.
  std::function<void(size_t sequence, int64_t token)> on_token = {};
};

/// One token of logits [V] (any float dtype), as the options say; `draw` in [0, 1) decides. \throws ValueError for a
/// temperature that is negative or not finite, top_p outside (0, 1], top_k < 0, and NaN among the logits
int64_t sample(const Tensor& logits, const GenerateOptions& options, double draw);

/// Runs a decoder over a batch of sequences: prompts of any lengths at once, then one token each a step. A step is a
/// plan that is compiled once for each size of the cache that it reads (64 tokens, 128, ..) and run with the position
/// as data. The logits that it gives hold until its next step. Model: hidden(ids, DecoderInputs), logits(hidden) and
/// cache_layout(), as Gpt2, GptNeox and Llama have them. The model must outlive the decoder; its weights may change
/// between runs.
class Decoder {
 public:
  template <class Model> explicit Decoder(Model& model)
      : Decoder(
            model.cache_layout(), model.parameters().at(0)->tensor().dtype(),
            [&model](Var ids, const DecoderInputs& in) { return model.logits(select(model.hidden(ids, in), 1, -1)); }) {
  }
  ~Decoder();

  /// Begins: logits [B, V] of what follows each prompt. The cache has room for `room` more tokens.
  /// \throws ValueError without prompts, for an empty one, and for more tokens than the model's context
  Tensor start(std::span<const Tokens> prompts, int64_t room);
  /// Logits [B, V] of what follows when each sequence goes on with its token of `tokens`.
  /// \throws ValueError before start, for another number of tokens, and when there is no room
  Tensor step(std::span<const int64_t> tokens);
  /// Each prompt's continuation. \throws as sample and start
  std::vector<Tokens> generate(std::span<const Tokens> prompts, const GenerateOptions& options = {});

 private:
  using Next = std::function<Var(Var ids, const DecoderInputs& in)>;  // [B, T] -> [B, V]
  Decoder(const CacheLayout& layout, DType dtype, Next next);
  struct State;
  std::unique_ptr<State> state_;
};

template <class Model>
std::vector<Tokens> generate(Model& model, std::span<const Tokens> prompts, const GenerateOptions& options = {}) {
  return Decoder(model).generate(prompts, options);
}

}  // namespace whence::models
