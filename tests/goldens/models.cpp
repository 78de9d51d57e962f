#include "tests/goldens/models.h"

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
      {"resnet.embedder.embedder.convolution.weight", resnet},
      {"convnextv2.embeddings.layernorm.weight", convnext},
      {"swin.embeddings.norm.weight", swin},
      {"decoder.mask_token", vit_mae},
      {"distillation_classifier.weight", deit_with_teacher},
      {"vit.embeddings.cls_token", vit},
      {"deit.embeddings.cls_token", vit},
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
  throw OpsMissing("model " + file.meta("case"));
}

}  // namespace whence::goldens
