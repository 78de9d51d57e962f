// Models of models/ as golden files describe them, with the files' weights.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "whence/models/generate.h"
#include "whence/models/huggingface.h"
#include "tests/goldens/runner.h"

namespace whence::goldens {

/// What goes into a model; the undefined ones are not there.
struct ModelInputs {
  Var ids = {};   ///< [B, T]
  Var mask = {};  ///< [B, T], 1 = may be seen
  Var token_types = {};
  Var decoder_ids = {};
  Var labels = {};    ///< for a loss of the model's own
  Var pixels = {};    ///< [B, C, H, W]
  Var features = {};  ///< [B, C, T] of sound
  Var wave = {};      ///< [B, T]
  Var noise = {};     ///< [B, patches]: a masked autoencoder keeps the patches with the smallest
};
/// What a model gives. `hidden` counts as the file does: what goes into each layer (Mamba: what comes out), and `last`
/// (the xlstm package: what goes into the last norm).
struct ModelOutputs {
  Var embeds;  ///< of the embedding module, if that is one
  std::vector<Var> hidden;
  Var last;    ///< after the final norm
  Var logits;  ///< [B, T, V] or [B, classes]
  Var loss;    ///< when it is the model's own
  std::map<std::string, Var> others = {};
};

struct GoldenModel {
  std::unique_ptr<nn::Module> module;
  std::function<ModelOutputs(const ModelInputs&)> run;
  std::function<std::unique_ptr<models::Decoder>()> decoder = {};  ///< of causal language models
};
/// The model that the parameters' names tell. \throws OpsMissing when no model has such names
GoldenModel build_model(const File& file, DType dtype);

/// One family each.
GoldenModel gpt2(const File& file);
GoldenModel llama(const File& file);
GoldenModel gpt_neox(const File& file);
GoldenModel bert(const File& file);
GoldenModel roberta(const File& file);
GoldenModel distilbert(const File& file);
GoldenModel esm(const File& file);
GoldenModel modernbert(const File& file);
GoldenModel mamba(const File& file);
GoldenModel xlstm(const File& file);
GoldenModel xlstm_large(const File& file);
GoldenModel bart(const File& file);
GoldenModel t5(const File& file);
GoldenModel whisper(const File& file);
GoldenModel wav2vec2(const File& file);
GoldenModel vit(const File& file);  ///< and DeiT
GoldenModel deit_with_teacher(const File& file);
GoldenModel vit_mae(const File& file);
GoldenModel swin(const File& file);
GoldenModel resnet(const File& file);
GoldenModel convnext(const File& file);

/// Is the head another parameter's alias? Files of formulas do not say so in their configuration.
bool tied(const File& file, const char* head);

/// What a family's function makes of a model struct and of run(model, inputs).
template <class Model, class Run> GoldenModel golden(std::unique_ptr<Model> model, Run run) {
  const Model* m = model.get();
  return {std::move(model), [m, run](const ModelInputs& in) { return run(*m, in); }};
}

}  // namespace whence::goldens
