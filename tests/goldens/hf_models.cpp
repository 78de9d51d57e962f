// ref/lm, ref/xlstm, hf_*: whole models with loss, hidden states and every gradient; greedy decoding.
#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/goldens/models.h"

namespace whence::goldens {

namespace {

// The most probable continuations of prompts [B, T], key and value cache and all: [B, T + n] ids, and by how much each
// choice won [B, n].
std::pair<Tensor, Tensor> decode_greedily(models::Decoder& decoder, const Tensor& ids, int64_t total, DType dtype) {
  int64_t B = ids.shape()[0], T = ids.shape()[1];
  Tensor out = Tensor::zeros({B, total}, i64), margin = Tensor::zeros({B, total - T}, dtype);
  out.slice(1, 0, T).copy_from(ids);
  std::vector<models::Tokens> prompts;
  for (int64_t b = 0; b < B; ++b) prompts.push_back(ids.slice(0, b, b + 1).to_vector<int64_t>());
  Tensor logits = decoder.start(prompts, total - T);
  for (int64_t t = T; t < total; ++t) {
    models::Tokens next;
    for (int64_t b = 0; b < B; ++b) {
      auto v = logits.slice(0, b, b + 1).to_vector<double>();
      next.push_back(std::max_element(v.begin(), v.end()) - v.begin());
      std::partial_sort(v.begin(), v.begin() + 2, v.end(), std::greater<>());
      margin.slice(0, b, b + 1).slice(1, t - T, t - T + 1).fill(v[0] - v[1]);
    }
    out.slice(1, t, t + 1).copy_from(Tensor::from(next, {B, 1}));
    if (t + 1 < total) logits = decoder.step(next);
  }
  return {out, margin};
}

}  // namespace

void run_model_file(const File& file, DType dtype, Check& check) {
  Json config = file.json("config");
  GoldenModel built = build_model(file, dtype);
  Graph g;
  std::map<std::string, Tensor> held;
  auto input = [&](const std::string& name) {
    if (!file.has("input." + name)) return Var();
    Tensor t = file.tensor("input." + name, dtype);
    held[name] = t;
    return g.input(name, t.shape(), t.dtype());
  };
  ModelInputs in{.ids = input("input_ids"),
                 .token_types = input("token_type_ids"),
                 .decoder_ids = input("decoder_input_ids"),
                 .labels = input("labels"),
                 .pixels = input("pixel_values"),
                 .features = input("input_features"),
                 .wave = input("input_values"),
                 .noise = input("noise")};
  if (file.has("input.attention_mask")) in.mask = g.constant(file.tensor("input.attention_mask", dtype).to(u8));
  ModelOutputs model = built.run(in);
  const std::string& kind = file.meta("model_class");  // none: a language model from formulas
  bool causal = kind.empty() || kind.find("CausalLM") != kind.npos || kind.find("LMHead") != kind.npos;
  Var labels = in.labels, target = input("target"), loss;
  if (model.loss.defined()) loss = model.loss;
  else if (target.defined())
    loss = sum(pick(model.logits.rank() == 3 ? select(model.logits, 1, -1) : model.logits, target));
  else if (causal) loss = models::next_token_loss(model.logits, labels.defined() ? labels : in.ids);
  else loss = cross_entropy(model.logits, labels);

  std::map<std::string, Var> made{
      {"loss", loss}, {"output.logits", model.logits}, {"output.last_hidden_state", model.last}};
  if (model.embeds.defined()) made["output.inputs_embeds"] = model.embeds;
  for (const auto& [name, v] : model.others) made["output." + name] = v;
  for (size_t i = 0; i < model.hidden.size(); ++i) made["output.hidden_states." + std::to_string(i)] = model.hidden[i];
  std::vector<Var> wrt;
  std::vector<std::string> names;
  for (const nn::Parameter* p : built.module->parameters())
    if (file.has("grad." + p->name())) {
      wrt.push_back(p->in(g));
      names.push_back("grad." + p->name());
    }
  auto also = [&](Var v, const char* name) {
    if (!v.defined()) return;
    wrt.push_back(v);
    names.push_back(name);
  };
  also(model.embeds, "grad.inputs_embeds");
  also(in.pixels, "grad.input.pixel_values");
  also(in.features, "grad.input.input_features");
  also(in.wave, "grad.input.input_values");
  std::vector<Var> d = grad(loss, wrt);
  for (size_t i = 0; i < d.size(); ++i) made[names[i]] = d[i];
  if (model.embeds.defined()) {
    Var relevance = made["output.gradxinput_embeds"] = model.embeds * made["grad.inputs_embeds"];
    made["output.relevance_tokens"] = sum(relevance, {-1});
  }
  if (file.has("output.relevance_patches")) {
    Var relevance = in.pixels * made["grad.input.pixel_values"];
    int64_t size = config.at("patch_size").get<int64_t>(), B = relevance.size(0), H = relevance.size(2) / size,
            W = relevance.size(3) / size;
    made["output.gradxinput_pixels"] = relevance;
    made["output.relevance_patches"] = sum(reshape(sum(relevance, {1}), {B, H, size, W, size}), {2, 4});
  }

  std::vector<std::string> keys;
  std::vector<Var> wanted;
  double largest_gradient = 0;
  for (const auto& e : file.data.entries()) {
    if (e.name.starts_with("param.") || e.name.starts_with("buffer.") || e.name.starts_with("input.") ||
        e.name.starts_with("output.greedy_"))
      continue;
    auto it = made.find(e.name);
    if (it == made.end()) throw OpsMissing(e.name + " of " + file.meta("case"));
    keys.push_back(e.name);
    wanted.push_back(it->second);
    if (e.name.starts_with("grad."))
      for (double v : file.tensor(e.name, f64).to_vector<double>())
        largest_gradient = std::max(largest_gradient, std::fabs(v));
  }
  auto allowed = [&](const std::string& key) {
    if (dtype == f64) return file.data.entry(key).dtype == "F64" ? 1e-10 : 1e-6;
    return f32_tolerance(file, key.starts_with("grad.") ? "grad" : key, 1e-4);
  };
  Feeds feeds;
  for (const auto& [name, t] : held) feeds.emplace_back(name, t);
  Results r = compile(wanted).run(feeds);
  for (size_t i = 0; i < keys.size(); ++i) {
    Tensor want = file.tensor(keys[i], f64);
    check.compare(keys[i], r[i].shape() == want.shape() ? r[i] : r[i].reshaped(want.shape()), want, allowed(keys[i]),
                  keys[i].starts_with("grad.") ? largest_gradient : -1);
  }
  if (file.has("output.greedy_ids")) {
    Tensor want = file.tensor("output.greedy_ids", i64);
    auto [tokens, margin] = decode_greedily(*built.decoder(), held.at("input_ids"), want.shape()[1], dtype);
    check.compare("output.greedy_ids", tokens, want, 0);
    if (file.has("output.greedy_top1_minus_top2"))
      check.compare("output.greedy_top1_minus_top2", margin, file.tensor("output.greedy_top1_minus_top2", f64),
                    allowed("output.greedy_top1_minus_top2"));
  }
}

}  // namespace whence::goldens
