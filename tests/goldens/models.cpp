#include "tests/goldens/models.h"

#include "tests/goldens/net.h"

namespace whence::goldens {

GoldenModel build_model(const File& file, DType dtype) {
  using Build = GoldenModel (*)(const File&);
  static const std::pair<const char*, Build> families[] = {
      {"transformer.wte.weight", gpt2},
      {"model.embed_tokens.weight", llama},
      {"gpt_neox.embed_in.weight", gpt_neox},
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
