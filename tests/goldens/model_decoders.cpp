// Causal language models.
#include "whence/models/gpt2.h"
#include "whence/models/gpt_neox.h"
#include "whence/models/llama.h"
#include "tests/goldens/models.h"

namespace whence::goldens {

namespace {

template <class Model, class Words> ModelOutputs run_decoder(const Model& m, const ModelInputs& in, Words words) {
  models::DecoderInputs inputs;
  inputs.mask = in.mask;
  ModelOutputs out;
  out.embeds = words(in.ids);
  out.hidden = m.encode(out.embeds, inputs);
  out.last = out.hidden.back();
  out.logits = m.logits(out.last);
  return out;
}

template <class Model, class Words> GoldenModel decoder(std::unique_ptr<Model> model, Words words) {
  Model* m = model.get();
  GoldenModel g = golden(std::move(model), [words](const Model& model, const ModelInputs& in) {
    return run_decoder(model, in, [&](Var ids) { return words(model, ids); });
  });
  g.decoder = [m] { return std::make_unique<models::Decoder>(*m); };
  return g;
}

}  // namespace

GoldenModel gpt2(const File& file) {
  auto c = models::Gpt2Config::from_json(file.meta("config"));
  c.dropout = 0;  // files of formulas do not say so
  c.tied = tied(file, "lm_head.weight");
  return decoder(std::make_unique<models::Gpt2>(c), [](const models::Gpt2& m, Var ids) { return m.wte(ids); });
}

GoldenModel llama(const File& file) {
  auto c = models::LlamaConfig::from_json(file.meta("config"));
  c.tied = tied(file, "lm_head.weight");
  return decoder(std::make_unique<models::Llama>(c), [](const models::Llama& m, Var ids) { return m.words(ids); });
}

GoldenModel gpt_neox(const File& file) {
  auto c = models::GptNeoxConfig::from_json(file.meta("config"));
  return decoder(std::make_unique<models::GptNeox>(c),
                 [](const models::GptNeox& m, Var ids) { return m.embed_in(ids); });
}

}  // namespace whence::goldens
