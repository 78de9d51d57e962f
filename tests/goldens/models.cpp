#include "tests/goldens/models.h"

#include "tests/goldens/net.h"

namespace whence::goldens {

bool tied(const File& file, const char* head) {
  Json aliases = file.json("tied");
  return !file.has(std::string("param.") + head) || (aliases.is_object() && aliases.contains(head));
}

GoldenModel build_model(const File& file, DType dtype) {
  using Build = GoldenModel (*)(const File&);
  static const std::pair<const char*, Build> families[] = {
      {"transformer.wte.weight", gpt2},
      {"model.embed_tokens.weight", llama},
      {"gpt_neox.embed_in.weight", gpt_neox},
      {"bert.embeddings.word_embeddings.weight", bert},
      {"roberta.embeddings.word_embeddings.weight", roberta},
      {"distilbert.embeddings.word_embeddings.weight", distilbert},
      {"esm.embeddings.word_embeddings.weight", esm},
      {"model.embeddings.tok_embeddings.weight", modernbert},
      {"backbone.layers.0.mixer.A_log", mamba},
      {"token_embedding.weight", xlstm},
      {"backbone.blocks.0.norm_mlstm.weight", xlstm_large},
      {"model.encoder.conv1.weight", whisper},
      {"model.encoder.layernorm_embedding.weight", bart},
      {"encoder.block.0.layer.0.layer_norm.weight", t5},
      {"wav2vec2.feature_projection.projection.weight", wav2vec2},
  };
  for (const auto& [parameter, build] : families) {
    if (!file.has(std::string("param.") + parameter)) continue;
    GoldenModel g = build(file);
    g.module->init(0, dtype);
    std::map<std::string, Tensor> state;
    for (const auto& e : file.data.entries())
      if (e.name.starts_with("param.")) state[e.name.substr(6)] = file.tensor(e.name, dtype);
    models::load_huggingface(*g.module, state);
    return g;
  }
  auto weights = std::make_unique<Weights>(file, dtype);
  return golden(std::move(weights), [config = file.json("config")](const Weights& w, const ModelInputs& in) {
    Graph& g = (in.ids.defined()      ? in.ids
                : in.pixels.defined() ? in.pixels
                : in.wave.defined()   ? in.wave
                                      : in.features)
                   .graph();
    return run_model({g, w}, config, in);
  });
}

}  // namespace whence::goldens
